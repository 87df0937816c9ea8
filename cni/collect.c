/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Takes down the attachments that nobody will: those of a former daemon whose sandbox is gone, and
 * those of our own whose DEL failed. One round lists the records, DELs the stale ones a few at a
 * time, and ends with the GC verb where the network knows it. What failed is tried again a minute
 * later.
 *
 * GC frees whatever is not in the set that it is given, so an ADD beside it could lose its address:
 * GC waits until no call runs, and calls wait until it is done.
 */

#include "cni/cni-internal.h"

#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"

struct CniCollector {
        Cni *cni;
        char **live;
        bool collected; /* cni_collect was called: the records of others may be judged */
        CniKey *keys;
        size_t n_keys, next, in_flight;
        bool busy, failed, again;
        Timer *timer;
        Deferred *kick;

        bool gc_due, gc_waits, gc_runs;
        CniConfig *gc_config;
        char *gc_valid;
        size_t gc_at;
        Worker *gc_worker;
};

static void collector_pump(CniCollector *c);
static void gc_step(CniCollector *c);

CniCollector *cni_collector_free(CniCollector *c)
{
        if (!c)
                return NULL;
        worker_free(c->gc_worker);
        cni_config_free(c->gc_config);
        timer_free(c->timer);
        deferred_free(c->kick);
        cni_keys_free(c->keys, c->n_keys);
        strv_free(c->live);
        free(c->gc_valid);
        free(c);
        return NULL;
}

bool cni_collector_blocks(const Cni *cni)
{
        return cni->collector->gc_waits || cni->collector->gc_runs;
}

/* --- the round --- */

/* Our own calls' records are theirs, unless a DEL failed and nobody is at it. */
static bool is_stale(const CniCollector *c, const CniKey *key)
{
        KL_AUTO(cni_record_free) CniRecord *record = NULL;
        int r;

        if (cni_has_call(c->cni, key->id))
                return false;
        r = cni_record_load(c->cni->cache_dir, key->id, key->ifname, &record, NULL);
        if (r > 0)
                return false;
        if (r == 0 && str_eq(record->owner, c->cni->owner))
                return record->state == CNI_DELETING;
        return c->collected && !strv_contains(c->live, key->id);
}

static void round_end(CniCollector *c)
{
        c->busy = false;
        c->keys = cni_keys_free(c->keys, c->n_keys);
        c->n_keys = 0;
        if (c->again)
                deferred_schedule(c->kick);
        else if (c->failed)
                timer_start(c->timer, CNI_COLLECT_RETRY_MS);
        deferred_schedule(c->cni->kick);
}

static void round_start(CniCollector *c)
{
        KL_AUTOERR err = NULL;

        if (c->busy) {
                c->again = true;
                return;
        }
        c->again = false;
        c->failed = false;
        c->busy = true;
        c->next = 0;
        if (cni_record_list(c->cni->cache_dir, &c->keys, &c->n_keys, &err) < 0) {
                log_warning(NULL, "Cannot look for stale network attachments, trying again: %s",
                            kl_error_msg(err));
                c->failed = true;
                round_end(c);
                return;
        }
        collector_pump(c);
}

static void on_deleted(CniCall *call, const CniResult *result, const KlError *error, void *data)
{
        CniCollector *c = data;

        c->in_flight--;
        if (error) {
                log_warning(NULL,
                            "A stale network attachment cannot be taken down, trying again "
                            "in a minute: %s",
                            kl_error_msg(error));
                c->failed = true;
        }
        deferred_schedule(c->kick);
}

static void gc_start(CniCollector *c);

static void round_deleted(CniCollector *c)
{
        const CniConfig *config = c->cni->config;

        if (!c->gc_due || !config || config->disable_gc ||
            cni_version_highest(config->versions) < CNI_1_1_0) {
                round_end(c);
                return;
        }
        c->gc_waits = true;
        if (c->cni->n_running == 0)
                gc_start(c);
}

static void collector_pump(CniCollector *c)
{
        while (c->next < c->n_keys && c->in_flight < CNI_COLLECT_PARALLEL) {
                const CniKey *key = &c->keys[c->next++];
                KL_AUTOERR err = NULL;

                if (!is_stale(c, key))
                        continue;
                if (cni_del(c->cni, key->id, key->ifname, on_deleted, c, NULL, &err) == 0) {
                        c->in_flight++;
                        continue;
                }
                log_warning(NULL, "A stale network attachment cannot be taken down: %s",
                            kl_error_msg(err));
                c->failed = true;
        }
        if (c->next == c->n_keys && c->in_flight == 0 && !c->gc_waits && !c->gc_runs)
                round_deleted(c);
}

static void on_kick(Deferred *deferred, void *data)
{
        CniCollector *c = data;

        if (c->busy)
                collector_pump(c);
        else
                round_start(c);
}

static void on_timer(Timer *timer, void *data)
{
        round_start(data);
}

/* --- GC --- */

static void gc_end(CniCollector *c)
{
        c->gc_runs = false;
        c->gc_config = cni_config_free(c->gc_config);
        free(KL_STEAL(c->gc_valid));
        c->gc_due = c->failed;
        round_end(c);
}

static void on_gc(Worker *worker, WorkerResult *result, void *data)
{
        CniCollector *c = data;
        KL_AUTOERR err = NULL;
        int r = cni_outcome(result, CNI_QUERY_TIMEOUT_MS, &err);

        if (r < 0) {
                cni_wrap_plugin(&err, r, cni_config_plugin(c->gc_config, c->gc_at), "GC");
                log_warning(NULL,
                            "Stale network resources are not collected, trying again in a "
                            "minute: %s",
                            kl_error_msg(err));
                c->failed = true;
        }
        c->gc_worker = worker_free(worker);
        c->gc_at++;
        gc_step(c);
}

static void gc_step(CniCollector *c)
{
        for (; c->gc_at < c->gc_config->n_plugins; c->gc_at++) {
                const Value *plugin = cni_config_plugin(c->gc_config, c->gc_at);
                CniInvocation inv = { .verb = "GC",
                                      .plugin = plugin,
                                      .network = c->gc_config->name,
                                      .version = cni_version_highest(c->gc_config->versions),
                                      .valid_attachments = c->gc_valid,
                                      .timeout_ms = CNI_QUERY_TIMEOUT_MS };
                KL_AUTOERR err = NULL;

                if (cni_invoke(c->cni, &inv, on_gc, c, &c->gc_worker, &err) == 0)
                        return;
                log_warning(NULL,
                            "Stale network resources are not collected, trying again in a "
                            "minute: %s",
                            kl_error_msg(err));
                c->failed = true;
        }
        gc_end(c);
}

static void write_attachment(JsonWriter *w, const char *id, const char *ifname)
{
        jw_object(w);
        jw_kstr(w, "containerID", id);
        jw_kstr(w, "ifname", ifname);
        jw_end(w);
}

/* All that is on record, and the live ones whose record was lost. */
static int gc_write_valid(CniCollector *c, KlError **err)
{
        KL_AUTOBUF buf = BUF_INIT;
        JsonWriter w = JSON_WRITER(&buf);
        CniKey *keys = NULL;
        size_t n = 0;
        int r;

        r = cni_record_list(c->cni->cache_dir, &keys, &n, err);
        if (r < 0)
                return r;
        jw_array(&w);
        for (size_t i = 0; i < n; i++)
                write_attachment(&w, keys[i].id, keys[i].ifname);
        for (size_t i = 0; c->live && c->live[i]; i++) {
                bool listed = false;

                for (size_t j = 0; j < n; j++)
                        listed |= str_eq(keys[j].id, c->live[i]);
                if (!listed)
                        write_attachment(&w, c->live[i], "eth0");
        }
        jw_end(&w);
        cni_keys_free(keys, n);
        c->gc_valid = buf_steal(&buf);
        return c->gc_valid ? 0 : kl_error(err, -ENOMEM, NULL, "out of memory");
}

static void gc_start(CniCollector *c)
{
        const CniConfig *config = c->cni->config;
        KL_AUTOERR err = NULL;
        int r;

        c->gc_waits = false;
        if (!config) {
                round_end(c);
                return;
        }
        r = gc_write_valid(c, &err);
        if (r == 0)
                r = cni_config_parse(config->text, strlen(config->text), true, NULL, &c->gc_config,
                                     &err);
        c->gc_runs = true;
        c->gc_at = 0;
        if (r == 0) {
                gc_step(c);
                return;
        }
        log_warning(NULL, "Stale network resources are not collected: %s", kl_error_msg(err));
        c->failed = true;
        gc_end(c);
}

void cni_collector_call_ended(Cni *cni, bool left_behind)
{
        CniCollector *c = cni->collector;

        if (left_behind && !c->busy && !timer_active(c->timer))
                timer_start(c->timer, CNI_COLLECT_RETRY_MS);
        if (left_behind && c->busy)
                c->failed = true;
        if (c->gc_waits && cni->n_running == 0)
                gc_start(c);
}

void cni_collector_config_changed(Cni *cni)
{
        CniCollector *c = cni->collector;

        if (c->gc_due && !c->busy)
                deferred_schedule(c->kick);
}

int cni_collector_new(Cni *cni, KlError **err)
{
        CniCollector *c = calloc(1, sizeof(*c));

        if (!c)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        cni->collector = c;
        c->cni = cni;
        c->timer = timer_new(cni->loop, on_timer, c);
        c->kick = deferred_new(cni->loop, on_kick, c);
        return c->timer && c->kick ? 0 : kl_error(err, -ENOMEM, NULL, "out of memory");
}

int cni_collect(Cni *cni, char *const *live, KlError **err)
{
        CniCollector *c = cni->collector;
        char **copy = live && live[0] ? strv_copy(live) : NULL;

        if (live && live[0] && !copy)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        strv_free(c->live);
        c->live = copy;
        c->collected = true;
        c->gc_due = true;
        if (c->busy)
                c->again = true;
        else
                deferred_schedule(c->kick);
        return 0;
}

int cni_attached(Cni *cni, char ***ret, KlError **err)
{
        KL_AUTOSTRV ids = calloc(1, sizeof(*ids));
        CniKey *keys = NULL;
        size_t n = 0;
        int r = 0;

        if (!ids)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        KL_TRY(cni_record_list(cni->cache_dir, &keys, &n, err));
        for (size_t i = 0; r == 0 && i < n; i++)
                r = strv_add(&ids, keys[i].id);
        cni_keys_free(keys, n);
        if (r < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *ret = KL_STEAL(ids);
        return 0;
}
