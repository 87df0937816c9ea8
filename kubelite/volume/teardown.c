/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tearing down: what is mounted beneath the pod's directory is unmounted, deepest first, then the
 * tree goes, never across a mount. In a worker, because unmounting and removing may block.
 */

#include "volume/volume-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/mount.h>

#define MOUNTINFO_MAX (16U << 20)
#define TEARDOWN_DEADLINE_MS 60000
#define TEARDOWN_RETRY_MS 2000
#define COLLECT_DEADLINE_MS 120000

/* The octal escapes of mountinfo, in place. */
static void unescape(char *s)
{
        char *to = s;

        for (; *s; to++) {
                if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
                        *to = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
                        s += 4;
                } else {
                        *to = *s++;
                }
        }
        *to = '\0';
}

/* Mount points at or beneath dir, in the order of mounting. */
static char **mounts_beneath(const char *dir)
{
        KL_AUTOSTRV found = calloc(1, sizeof(*found));
        KL_AUTOFREE char *text = NULL;
        char *save = NULL;
        size_t n = strlen(dir);

        if (file_read("/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL) < 0)
                return NULL;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                char *point = line, *end;

                for (int i = 0; i < 4 && point; i++) {
                        point = strchr(point, ' ');
                        point = point ? point + 1 : NULL;
                }
                if (!point)
                        continue;
                end = strchrnul(point, ' ');
                *end = '\0';
                unescape(point);
                if (strncmp(point, dir, n) == 0 && (point[n] == '/' || !point[n]))
                        strv_add(&found, point);
        }
        return KL_STEAL(found);
}

static int remove_pod_dir(const char *dir)
{
        KL_AUTOSTRV mounts = mounts_beneath(dir);
        int r;

        for (size_t i = strv_len(mounts); i-- > 0;) {
                if (umount2(mounts[i], UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT) {
                        dprintf(STDERR_FILENO, "unmount '%s': %s", mounts[i], strerror(errno));
                        return 1;
                }
        }
        r = tree_remove(dir);
        if (r < 0) {
                dprintf(STDERR_FILENO, "remove '%s': %s", dir, strerror(-r));
                return 1;
        }
        return 0;
}

static int teardown_body(void *arg)
{
        return remove_pod_dir(arg);
}

static void teardown_start(PodVolumes *set);

static void on_teardown_retry(Timer *timer, void *data)
{
        teardown_start(data);
}

static void on_torn_down(Worker *worker, WorkerResult *result, void *data)
{
        PodVolumes *set = data;

        set->teardown = worker_free(set->teardown);
        if (WIFEXITED(result->status) && WEXITSTATUS(result->status) == 0) {
                set->state = VOLUMES_GONE;
                set->func(set, set->data);
                return;
        }
        log_warning(set->pod->name, "Volumes cannot be torn down yet, tried again: %s",
                    result->timed_out ? "it takes too long" : result->errors);
        timer_free(set->retry);
        set->retry = timer_new(set->volumes->loop, on_teardown_retry, set);
        if (set->retry)
                timer_start(set->retry, TEARDOWN_RETRY_MS);
}

static void teardown_start(PodVolumes *set)
{
        char *dir = str_format("%s/pods/%s", set->volumes->root_dir, set->pod->uid);
        KL_AUTOERR err = NULL;
        WorkerSpec spec = {
                .name = "volume teardown",
                .body = teardown_body,
                .body_arg = dir,
                .free_arg = free,
                .deadline_ms = TEARDOWN_DEADLINE_MS,
                .done = on_torn_down,
                .data = set,
        };

        if (!dir || worker_start(set->volumes->loop, &spec, &set->teardown, &err) < 0)
                log_error(set->pod->name, "Volumes cannot be torn down: %s", kl_error_msg(err));
}

void pod_volumes_teardown(PodVolumes *set)
{
        if (set->teardown)
                return;
        timer_stop(set->retry);
        for (size_t i = 0; i < set->n_setups; i++) {
                VolumeSetup *s = &set->setups[i];

                s->worker = worker_free(s->worker);
                s->payload = payload_free(s->payload);
                s->fd = kl_close(s->fd);
                for (size_t k = 0; k < s->volume->n_sources; k++) {
                        s->refs[k] = object_ref_free(s->refs[k]);
                        s->tokens[k] = token_free(s->tokens[k]);
                }
        }
        teardown_start(set);
}

/* --- directories that nobody knows --- */

typedef struct Collect {
        char *pods_dir;
        char **live;
} Collect;

static void collect_free(void *arg)
{
        Collect *c = arg;

        strv_free(c->live);
        free(c->pods_dir);
        free(c);
}

static int collect_body(void *arg)
{
        const Collect *c = arg;
        KL_AUTODIR DIR *dir = opendir(c->pods_dir);
        struct dirent *entry;
        int status = 0;

        while (dir && (entry = readdir(dir))) {
                KL_AUTOFREE char *path = str_format("%s/%s", c->pods_dir, entry->d_name);

                if (entry->d_name[0] == '.' || strv_contains(c->live, entry->d_name) || !path)
                        continue;
                status |= remove_pod_dir(path);
        }
        return status;
}

static void on_collected(Worker *worker, WorkerResult *result, void *data)
{
        Volumes *volumes = data;

        if (!WIFEXITED(result->status) || WEXITSTATUS(result->status) != 0)
                log_warning(NULL, "Directories of old pods are not all gone, ignoring: %s",
                            result->errors);
        volumes->collector = worker_free(volumes->collector);
}

int volumes_collect(Volumes *volumes, char *const *live, KlError **err)
{
        Collect *collect = calloc(1, sizeof(*collect));
        WorkerSpec spec = {
                .name = "volume collector",
                .body = collect_body,
                .body_arg = collect,
                .free_arg = collect_free,
                .deadline_ms = COLLECT_DEADLINE_MS,
                .done = on_collected,
                .data = volumes,
        };

        if (!collect)
                return kl_error_oom(err);
        collect->pods_dir = str_format("%s/pods", volumes->root_dir);
        collect->live = strv_copy(live);
        if (!collect->pods_dir || !collect->live) {
                collect_free(collect);
                return kl_error_oom(err);
        }
        volumes->collector = worker_free(volumes->collector);
        return worker_start(volumes->loop, &spec, &volumes->collector, err);
}
