/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The measuring of paths, shared. Each path has an entry with what was last measured; a query marks
 * those that are too old, and is answered when none of its entries waits any more, or when its time
 * is up. Two workers measure: one takes batches of whatever waits, the other one by one the trees
 * that once took too long for a batch. A worker tells each figure as soon as it has it, so that
 * when it is killed at its deadline, the path in the way is known; all others go on in the next
 * worker.
 *
 * A worker in an uninterruptible wait (a dead NFS server) cannot be killed. It is put aside after
 * a while, and as long as DISK_ASIDE_MAX of them are, nothing is measured at all.
 */

#include "stats/disk.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "loop/worker.h"
#include "stats/disk-internal.h"

#include <string.h>

#define DISK_ASIDE_MAX 4
#define DISK_KILL_WAIT_MS 5000

typedef enum EntryState {
        ENTRY_IDLE,
        ENTRY_QUEUED,
        ENTRY_RUNNING,
} EntryState;

typedef struct Entry {
        List queued;
        char *path;
        DiskKind kind;
        EntryState state;
        bool slow;
        DiskUsage usage;
        uint64_t measured_ms, asked_ms, barred_until_ms; /* 0: never */
        size_t n_queries;                                /* that hold it */
} Entry;

/* What a worker measures. */
typedef struct Batch {
        List link; /* while it is put aside */
        DiskService *service;
        bool slow, aside;
        Entry **entries;
        DiskPath *paths; /* the same, for the child */
        size_t n, n_told;
        Buf out; /* of a record that has not come wholly */
        Worker *worker;
        Timer *timer;
} Batch;

typedef struct Record {
        int32_t error;
        DiskUsage usage;
} Record;

struct DiskQuery {
        List link;
        DiskService *service;
        Entry **entries;
        size_t n;
        bool overdue;
        Timer *timer;
        DiskFunc done;
        void *data;
};

struct DiskService {
        Loop *loop;
        Map *entries;
        List queues[2]; /* by Entry.slow */
        Batch *batches[2];
        uint64_t deadlines_ms[2];
        List aside;
        size_t n_aside;
        List queries;
        Deferred *turn;
};

static void entry_free(void *data)
{
        Entry *e = data;

        list_unlink(&e->queued);
        free(e->path);
        free(e);
}

static char *entry_key(const char *path, DiskKind kind)
{
        return str_format("%c%s", kind == DISK_TREE ? 't' : 'f', path);
}

static Entry *entry_get(DiskService *s, const DiskPath *path)
{
        KL_AUTOFREE char *key = entry_key(path->path, path->kind);
        Entry *e = key ? map_get(s->entries, key) : NULL;

        if (e || !key || map_len(s->entries) >= DISK_PATHS_MAX)
                return e;
        e = calloc(1, sizeof(*e));
        if (!e)
                return NULL;
        list_init(&e->queued);
        e->kind = path->kind;
        e->path = strdup(path->path);
        if (!e->path || map_set(s->entries, key, e) < 0) {
                entry_free(e);
                return NULL;
        }
        return e;
}

static void forget_old(DiskService *s)
{
        uint64_t now = time_monotonic_ms();
        const char *key;
        Entry *e;

        for (size_t i = 0; map_next(s->entries, &i, &key, &e);)
                if (e->state == ENTRY_IDLE && e->n_queries == 0 &&
                    now > e->asked_ms + DISK_FORGET_MS)
                        map_remove(s->entries, key);
}

/* --- workers --- */

static void run_next(DiskService *s);

static Batch *batch_free(Batch *b)
{
        if (!b)
                return NULL;
        worker_free(b->worker);
        timer_free(b->timer);
        list_unlink(&b->link);
        free(b->entries);
        free(b->paths);
        buf_deinit(&b->out);
        free(b);
        return NULL;
}

/* In the child. */
static int batch_body(void *arg)
{
        const Batch *b = arg;

        for (size_t i = 0; i < b->n; i++) {
                Record record = { 0 };

                record.error = disk_measure(&b->paths[i], &record.usage);
                if (fd_write_all(STDOUT_FILENO, &record, sizeof(record)) < 0)
                        return 1;
        }
        return 0;
}

static void entry_told(Entry *e, const Record *record)
{
        e->state = ENTRY_IDLE;
        e->measured_ms = time_monotonic_ms();
        e->usage = record->usage;
        e->usage.known = record->error == 0;
}

static void on_batch_out(Worker *worker, const char *data, size_t len, void *arg)
{
        Batch *b = arg;
        Record record;

        if (b->aside)
                return;
        buf_add(&b->out, data, len);
        while (b->out.len >= sizeof(record) && b->n_told < b->n) {
                memcpy(&record, b->out.data, sizeof(record));
                buf_consume(&b->out, sizeof(record));
                entry_told(b->entries[b->n_told++], &record);
        }
        deferred_schedule(b->service->turn);
}

/* The batch is over. What it did not get to is measured by the next one; what it was at when its
 * time was up is barred, or tried alone. */
static void batch_settle(Batch *b, bool timed_out)
{
        for (size_t i = b->n_told; i < b->n; i++) {
                Entry *e = b->entries[i];
                bool culprit = i == b->n_told;

                e->state = ENTRY_IDLE;
                if (culprit) {
                        log_warning(NULL, "Measuring '%s' %s", e->path,
                                    timed_out ? "takes too long" : "failed");
                        e->usage.known = false;
                        if (e->slow || e->kind == DISK_FS || !timed_out)
                                e->barred_until_ms = time_monotonic_ms() +
                                                     (timed_out ? DISK_BARRED_MS : DISK_AGE_MS);
                        e->slow = e->kind == DISK_TREE;
                }
                if (culprit && e->barred_until_ms)
                        continue;
                e->state = ENTRY_QUEUED;
                list_append(&b->service->queues[e->slow], &e->queued);
        }
}

static void on_batch_done(Worker *worker, WorkerResult *result, void *data)
{
        Batch *b = data;
        DiskService *s = b->service;

        b->worker = NULL;
        worker_free(worker);
        if (b->aside) {
                s->n_aside--;
        } else {
                batch_settle(b, result->timed_out);
                s->batches[b->slow] = NULL;
        }
        batch_free(b);
        run_next(s);
        deferred_schedule(s->turn);
}

/* It was killed and is still there. */
static void on_batch_stuck(Timer *timer, void *data)
{
        Batch *b = data;
        DiskService *s = b->service;

        batch_settle(b, true);
        b->aside = true;
        s->batches[b->slow] = NULL;
        s->n_aside++;
        list_append(&s->aside, &b->link);
        run_next(s);
        deferred_schedule(s->turn);
}

static Batch *batch_new(DiskService *s, bool slow)
{
        size_t max = slow ? 1 : DISK_BATCH_MAX;
        Batch *b = calloc(1, sizeof(*b));

        if (!b)
                return NULL;
        list_init(&b->link);
        b->service = s;
        b->slow = slow;
        b->entries = calloc(max, sizeof(*b->entries));
        b->paths = calloc(max, sizeof(*b->paths));
        b->timer = timer_new(s->loop, on_batch_stuck, b);
        if (!b->entries || !b->paths || !b->timer)
                return batch_free(b);
        return b;
}

static void batch_take(Batch *b, List *queue)
{
        size_t max = b->slow ? 1 : DISK_BATCH_MAX;

        while (b->n < max && !list_empty(queue)) {
                Entry *e = list_first(queue, Entry, queued);

                list_unlink(&e->queued);
                e->state = ENTRY_RUNNING;
                b->paths[b->n] = (DiskPath){ e->path, e->kind };
                b->entries[b->n++] = e;
        }
}

/* Without memory or processes there are no figures now; the next query tries again. */
static void drop_queue(List *queue)
{
        list_for_each (e, queue, Entry, queued) {
                list_unlink(&e->queued);
                e->state = ENTRY_IDLE;
        }
}

static void run_queue(DiskService *s, bool slow)
{
        Batch *b = batch_new(s, slow);
        WorkerSpec spec = {
                .name = "disk",
                .body = batch_body,
                .body_arg = b,
                .deadline_ms = s->deadlines_ms[slow],
                .on_out = on_batch_out,
                .done = on_batch_done,
                .data = b,
        };
        KL_AUTOERR err = NULL;

        if (!b) {
                drop_queue(&s->queues[slow]);
                return;
        }
        batch_take(b, &s->queues[slow]);
        if (worker_start(s->loop, &spec, &b->worker, &err) < 0) {
                log_warning(NULL, "Cannot measure disk use: %s", kl_error_msg(err));
                for (size_t i = 0; i < b->n; i++)
                        b->entries[i]->state = ENTRY_IDLE;
                batch_free(b);
                drop_queue(&s->queues[slow]);
                return;
        }
        s->batches[slow] = b;
        timer_start(b->timer, spec.deadline_ms + DISK_KILL_WAIT_MS);
}

static void run_next(DiskService *s)
{
        for (int slow = 0; slow < 2; slow++) {
                if (s->batches[slow] || list_empty(&s->queues[slow]))
                        continue;
                if (s->n_aside >= DISK_ASIDE_MAX)
                        drop_queue(&s->queues[slow]);
                else
                        run_queue(s, slow);
        }
}

/* --- queries --- */

DiskQuery *disk_query_free(DiskQuery *q)
{
        if (!q)
                return NULL;
        list_unlink(&q->link);
        for (size_t i = 0; q->entries && i < q->n; i++)
                if (q->entries[i])
                        q->entries[i]->n_queries--;
        timer_free(q->timer);
        free(q->entries);
        free(q);
        return NULL;
}

static bool query_waits(const DiskQuery *q)
{
        for (size_t i = 0; !q->overdue && i < q->n; i++)
                if (q->entries[i] && q->entries[i]->state != ENTRY_IDLE)
                        return true;
        return false;
}

static void query_answer(DiskQuery *q)
{
        KL_AUTOFREE DiskUsage *usages = calloc(q->n + 1, sizeof(*usages));

        list_unlink(&q->link);
        for (size_t i = 0; usages && i < q->n; i++)
                if (q->entries[i])
                        usages[i] = q->entries[i]->usage;
        q->done(q, usages, usages ? q->n : 0, q->data);
        disk_query_free(q);
}

static void on_turn(Deferred *deferred, void *data)
{
        DiskService *s = data;
        bool again;

        /* An answer may end other queries. */
        do {
                again = false;
                list_for_each (q, &s->queries, DiskQuery, link) {
                        if (query_waits(q))
                                continue;
                        query_answer(q);
                        again = true;
                        break;
                }
        } while (again);
}

static void on_overdue(Timer *timer, void *data)
{
        DiskQuery *q = data;

        q->overdue = true;
        deferred_schedule(q->service->turn);
}

static void query_add(DiskQuery *q, const DiskPath *path, uint64_t max_age_ms)
{
        uint64_t now = time_monotonic_ms();
        Entry *e = entry_get(q->service, path);

        q->entries[q->n++] = e;
        if (!e)
                return;
        e->n_queries++;
        e->asked_ms = now;
        if (e->state != ENTRY_IDLE || now < e->barred_until_ms ||
            (e->measured_ms && now - e->measured_ms <= max_age_ms))
                return;
        e->barred_until_ms = 0;
        e->state = ENTRY_QUEUED;
        list_append(&q->service->queues[e->slow], &e->queued);
}

int disk_query(DiskService *s, const DiskRequest *request, DiskQuery **ret, KlError **err)
{
        KL_AUTO(disk_query_free) DiskQuery *q = calloc(1, sizeof(*q));

        if (!q)
                return kl_error_oom(err);
        list_init(&q->link);
        q->service = s;
        q->done = request->done;
        q->data = request->data;
        q->entries = calloc(request->n + 1, sizeof(Entry *));
        q->timer = timer_new(s->loop, on_overdue, q);
        if (!q->entries || !q->timer)
                return kl_error_oom(err);
        forget_old(s);
        for (size_t i = 0; i < request->n; i++)
                query_add(q, &request->paths[i], request->max_age_ms);
        list_append(&s->queries, &q->link);
        timer_start(q->timer, request->wait_ms);
        run_next(s);
        deferred_schedule(s->turn);
        *ret = KL_STEAL(q);
        return 0;
}

DiskUsage disk_last(const DiskService *s, const char *path, DiskKind kind)
{
        KL_AUTOFREE char *key = entry_key(path, kind);
        const Entry *e = key ? map_get(s->entries, key) : NULL;

        return e ? e->usage : (DiskUsage){ 0 };
}

/* --- the service --- */

void disk_service_set_deadlines(DiskService *s, uint64_t batch_ms, uint64_t slow_ms)
{
        s->deadlines_ms[0] = batch_ms;
        s->deadlines_ms[1] = slow_ms;
}

int disk_service_new(Loop *loop, DiskService **ret, KlError **err)
{
        KL_AUTO(disk_service_free) DiskService *s = calloc(1, sizeof(*s));

        if (!s)
                return kl_error_oom(err);
        s->loop = loop;
        disk_service_set_deadlines(s, DISK_DEADLINE_MS, DISK_SLOW_DEADLINE_MS);
        list_init(&s->queues[0]);
        list_init(&s->queues[1]);
        list_init(&s->aside);
        list_init(&s->queries);
        s->entries = map_new(entry_free);
        s->turn = deferred_new(loop, on_turn, s);
        if (!s->entries || !s->turn)
                return kl_error_oom(err);
        *ret = KL_STEAL(s);
        return 0;
}

DiskService *disk_service_free(DiskService *s)
{
        if (!s)
                return NULL;
        batch_free(s->batches[0]);
        batch_free(s->batches[1]);
        list_for_each (b, &s->aside, Batch, link)
                batch_free(b);
        deferred_free(s->turn);
        map_free(s->entries);
        free(s);
        return NULL;
}
