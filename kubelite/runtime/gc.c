/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Removal in the background: control groups of containers that ended, writable layers, records. One
 * worker takes all that has gathered while the one before it ran. What cannot be removed is tried
 * a few times more; after that the next start of the daemon finds it.
 */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#define GC_DEADLINE_MS 300000
#define GC_CGROUP_TIMEOUT_MS 2000
#define GC_ATTEMPTS_MAX 6
#define GC_RETRY_MS 2000

static void entry_free(GcEntry *e)
{
        list_unlink(&e->link);
        free(e->uid);
        free(e->id);
        free(e->cgroup);
        for (size_t i = 0; i < ELEMENTS(e->trees); i++)
                free(e->trees[i]);
        free(e);
}

/* Worker: writes the indexes of what stays, one a line. */
static int gc_body(void *arg)
{
        const Runtime *runtime = arg;
        unsigned int i = 0;

        list_for_each (e, &runtime->gc_running, GcEntry, link) {
                int r = 0, one;

                if (e->cgroup)
                        r = cgroup_remove(runtime->tree, e->cgroup, GC_CGROUP_TIMEOUT_MS);
                for (size_t k = 0; k < ELEMENTS(e->trees); k++) {
                        one = e->trees[k] ? tree_remove(e->trees[k]) : 0;
                        r = one < 0 ? one : r;
                }
                if (r < 0)
                        dprintf(STDOUT_FILENO, "%u %d\n", i, -r);
                i++;
        }
        return 0;
}

static void forget_container(Runtime *runtime, const GcEntry *e)
{
        Sandbox *s = map_get(runtime->sandboxes, e->uid);

        if (!s || !e->id[0])
                return;
        list_for_each (c, &s->containers, Container, link)
                if (c->removed && str_eq(c->record.id, e->id)) {
                        container_free(c);
                        return;
                }
}

static void gc_start(Runtime *runtime);

static void on_retry(Timer *timer, void *data)
{
        gc_start(data);
}

static bool failed(const WorkerResult *result, unsigned int i, int *ret_errno)
{
        const char *p = result->out;

        if (result->status != 0) {
                *ret_errno = EINTR;
                return true;
        }
        while (p && *p) {
                unsigned int index;

                if (sscanf(p, "%u %d", &index, ret_errno) == 2 && index == i)
                        return true;
                p = strchr(p, '\n');
                p = p ? p + 1 : NULL;
        }
        return false;
}

static void on_gc_done(Worker *worker, WorkerResult *result, void *data)
{
        Runtime *runtime = data;
        unsigned int i = 0;
        bool again = false;

        list_for_each (e, &runtime->gc_running, GcEntry, link) {
                int code = 0;

                if (!failed(result, i++, &code)) {
                        forget_container(runtime, e);
                        entry_free(e);
                        continue;
                }
                if (++e->attempts >= GC_ATTEMPTS_MAX) {
                        log_warning(NULL, "Cannot remove the remains of '%s', ignoring: %s",
                                    e->cgroup ? e->cgroup : e->trees[0], strerror(code));
                        forget_container(runtime, e);
                        entry_free(e);
                        continue;
                }
                again = true;
                list_unlink(&e->link);
                list_append(&runtime->gc_queue, &e->link);
        }
        runtime->gc_worker = worker_free(runtime->gc_worker);
        if (!again)
                gc_start(runtime);
        else if (runtime->gc_timer)
                timer_start(runtime->gc_timer, GC_RETRY_MS);
}

static void gc_start(Runtime *runtime)
{
        WorkerSpec spec = {
                .name = "removal",
                .body = gc_body,
                .body_arg = runtime,
                .out_max = 1 << 20,
                .deadline_ms = GC_DEADLINE_MS,
                .done = on_gc_done,
                .data = runtime,
        };

        if (runtime->gc_worker || list_empty(&runtime->gc_queue))
                return;
        list_for_each (e, &runtime->gc_queue, GcEntry, link) {
                list_unlink(&e->link);
                list_append(&runtime->gc_running, &e->link);
        }
        if (worker_start(runtime->loop, &spec, &runtime->gc_worker, NULL) == 0)
                return;
        list_for_each (e, &runtime->gc_running, GcEntry, link) {
                list_unlink(&e->link);
                list_append(&runtime->gc_queue, &e->link);
        }
        timer_start(runtime->gc_timer, GC_RETRY_MS);
}

void gc_add(Runtime *runtime, const char *uid, const char *id, const char *cgroup,
            const char *tree_a, const char *tree_b)
{
        GcEntry *e = calloc(1, sizeof(*e));

        if (!e)
                return;
        list_init(&e->link);
        e->uid = strdup(uid);
        e->id = strdup(id);
        e->cgroup = cgroup ? strdup(cgroup) : NULL;
        e->trees[0] = tree_a ? strdup(tree_a) : NULL;
        e->trees[1] = tree_b ? strdup(tree_b) : NULL;
        if (!e->uid || !e->id) {
                entry_free(e);
                return;
        }
        list_append(&runtime->gc_queue, &e->link);
        /* From the loop, so that what is asked for in one turn goes into one worker. */
        if (!runtime->gc_worker && !timer_active(runtime->gc_timer))
                timer_start(runtime->gc_timer, 0);
}

void runtime_forget_pod(Runtime *runtime, const char *pod_uid)
{
        KL_AUTOFREE char *dir = str_format("%s/%s", runtime->pods_dir, pod_uid);
        KL_AUTOFREE char *containers = str_format("%s/%s/containers", runtime->pods_dir, pod_uid);
        KL_AUTODIR DIR *d = containers ? opendir(containers) : NULL;
        struct dirent *entry;

        if (!dir || map_get(runtime->sandboxes, pod_uid) || access(dir, F_OK) < 0)
                return;
        while (d && (entry = readdir(d))) {
                KL_AUTOFREE char *layer = str_format("%s/%s", runtime->data_dir, entry->d_name);

                if (entry->d_name[0] != '.' && layer)
                        gc_add(runtime, pod_uid, "", NULL, layer, NULL);
        }
        gc_add(runtime, pod_uid, "", NULL, dir, NULL);
}

void runtime_remove(Runtime *runtime, const char *path)
{
        gc_add(runtime, "", "", NULL, path, NULL);
}

void gc_drop(Runtime *runtime)
{
        runtime->gc_worker = worker_free(runtime->gc_worker);
        list_for_each (e, &runtime->gc_running, GcEntry, link)
                entry_free(e);
        list_for_each (e, &runtime->gc_queue, GcEntry, link)
                entry_free(e);
}

Timer *gc_timer_new(Runtime *runtime)
{
        return timer_new(runtime->loop, on_retry, runtime);
}
