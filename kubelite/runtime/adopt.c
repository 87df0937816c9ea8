/* SPDX-License-Identifier: Apache-2.0 */

/*
 * After a start of the daemon: what is on record is found again. Each sandbox is read, connected to
 * (or its loss is dealt with), and then told; meanwhile one worker removes what belongs to nobody
 * on record: groups of pods, writable layers, records that cannot be read.
 *
 * The tree of pod groups may be shared with another kubelet. Only groups that are this node's for
 * certain are ended: those of a pod with a directory among our records (readable or not), of a
 * container whose writable layer we have, or of a shim that was started on our state directory.
 */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#define ORPHANS_DEADLINE_MS 300000
#define ORPHAN_TIMEOUT_MS 20000
#define FOREIGN_NAMES_MAX 65536
#define CMDLINE_MAX 16384
/* The two processes of a pod's shim, and what it just forked. */
#define SHIM_PIDS_MAX 8

static void finish_if_done(Runtime *runtime)
{
        void (*done)(void *) = runtime->adopted;

        if (!runtime->adopting || runtime->n_adopting > 0 || runtime->adopt_worker)
                return;
        runtime->adopting = false;
        if (done)
                done(runtime->adopt_data);
}

void adopt_finished(Sandbox *s)
{
        Runtime *runtime = s->runtime;
        AdoptedSandbox adopted = { .sandbox = s,
                                   .spec = s->spec,
                                   .lost = s->state != SANDBOX_READY };

        s->adopting = false;
        runtime->n_adopting--;
        if (runtime->found)
                runtime->found(&adopted, runtime->adopt_data);
        finish_if_done(runtime);
}

/* --- what is on nobody's record --- */

static bool is_in(const char *dir, const char *name)
{
        KL_AUTOFREE char *path = str_format("%s/%s", dir, name);

        return path && access(path, F_OK) == 0;
}

/* Its arguments are "kubelite-shim", <directory of the pod's records>, <id>. */
static bool is_our_shim(const Runtime *runtime, pid_t pid)
{
        KL_AUTOFREE char *path = str_format("/proc/%d/cmdline", pid);
        KL_AUTOFREE char *text = NULL;
        size_t len = 0, n = strlen(runtime->pods_dir);
        const char *dir;

        if (!path || file_read(path, CMDLINE_MAX, &text, &len) < 0)
                return false;
        dir = text + strlen(text) + 1;
        return dir < text + len && strncmp(dir, runtime->pods_dir, n) == 0 && dir[n] == '/';
}

static bool has_our_shim(const Runtime *runtime, const char *leaf)
{
        pid_t pids[SHIM_PIDS_MAX];
        size_t n = cgroup_pids(runtime->tree, leaf, pids, ELEMENTS(pids));

        for (size_t i = 0; i < n; i++)
                if (is_our_shim(runtime, pids[i]))
                        return true;
        return false;
}

static bool is_ours(const Runtime *runtime, const char *path, const char *uid)
{
        KL_AUTOSTRV names = NULL;

        if (uid_is_valid(uid) && is_in(runtime->pods_dir, uid))
                return true;
        if (cgroup_children(runtime->tree, path, &names) < 0)
                return false;
        for (char **p = names; p && *p; p++) {
                KL_AUTOFREE char *leaf = str_format("%s/%s", path, *p);

                if (id_is_valid(*p) && is_in(runtime->data_dir, *p))
                        return true;
                if (leaf && str_eq(*p, CGROUP_SHIM_LEAF) && has_our_shim(runtime, leaf))
                        return true;
        }
        return false;
}

static void remove_pod_group(const CgroupTree *tree, const char *path)
{
        if (cgroup_kill(tree, path, ORPHAN_TIMEOUT_MS) == 0)
                cgroup_remove(tree, path, ORPHAN_TIMEOUT_MS);
}

/* Those that are left alone go to standard output, one a line. */
static void remove_groups(const Runtime *runtime, QosClass qos)
{
        KL_AUTOSTRV names = NULL;

        if (cgroup_children(runtime->tree, cgroup_qos_path(qos), &names) < 0)
                return;
        for (char **p = names; p && *p; p++) {
                KL_AUTOFREE char *path = str_format("%s/%s", cgroup_qos_path(qos), *p);

                if (!path || !str_starts(*p, "pod") || map_get(runtime->sandboxes, *p + 3))
                        continue;
                if (is_ours(runtime, path, *p + 3))
                        remove_pod_group(runtime->tree, path);
                else
                        dprintf(STDOUT_FILENO, "%s\n", path);
        }
}

static bool has_container(const Runtime *runtime, const char *id)
{
        Sandbox *s;

        for (size_t i = 0; map_next(runtime->sandboxes, &i, NULL, &s);)
                if (container_find(s, id))
                        return true;
        return false;
}

static void remove_layers(const Runtime *runtime)
{
        KL_AUTODIR DIR *dir = opendir(runtime->data_dir);
        struct dirent *entry;

        while (dir && (entry = readdir(dir)))
                if (id_is_valid(entry->d_name) && !has_container(runtime, entry->d_name))
                        tree_remove_at(dirfd(dir), entry->d_name);
}

static void remove_unread(const Runtime *runtime)
{
        KL_AUTODIR DIR *dir = opendir(runtime->pods_dir);
        struct dirent *entry;

        while (dir && (entry = readdir(dir)))
                if (entry->d_name[0] != '.' && !map_get(runtime->sandboxes, entry->d_name))
                        tree_remove_at(dirfd(dir), entry->d_name);
}

/* Processes go first: they may hold the rest. */
static int orphans_body(void *arg)
{
        const Runtime *runtime = arg;

        remove_groups(runtime, QOS_GUARANTEED);
        remove_groups(runtime, QOS_BURSTABLE);
        remove_groups(runtime, QOS_BEST_EFFORT);
        remove_layers(runtime);
        remove_unread(runtime);
        return 0;
}

static void on_orphans_removed(Worker *worker, WorkerResult *result, void *data)
{
        Runtime *runtime = data;
        size_t n = 0;

        for (const char *p = result->out; p && (p = strchr(p, '\n')); p++)
                n++;
        if (n > 0)
                log_warning(NULL,
                            "%zu control groups of pods are not of this node ('%.*s' is one), "
                            "leaving them alone: another kubelet uses the same cgroupRoot",
                            n, (int)strcspn(result->out, "\n"), result->out);
        runtime->adopt_worker = worker_free(runtime->adopt_worker);
        finish_if_done(runtime);
}

/* --- what is --- */

static int read_one(Runtime *runtime, const char *name, KlError **err)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        KL_AUTOFREE char *dir = str_format("%s/%s", runtime->pods_dir, name);
        KL_AUTO(sandbox_free) Sandbox *s = NULL;
        SandboxSpec spec;
        char *boot_id;
        int r;

        if (!arena || !dir)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = store_read_sandbox(dir, arena, &spec, &boot_id, err);
        if (r < 0)
                return r;
        if (!str_eq(spec.pod_uid, name))
                return kl_error(err, -EINVAL, NULL, "'%s' is on record as %s", dir, spec.pod_uid);
        r = sandbox_new(runtime, &spec, &s, err);
        if (r == 0)
                r = containers_load(s, err);
        if (r < 0)
                return r;
        s->same_boot = str_eq(boot_id, runtime->boot_id);
        s->adopting = true;
        s = NULL;
        runtime->n_adopting++;
        return 0;
}

static int read_all(Runtime *runtime, KlError **err)
{
        KL_AUTODIR DIR *dir = opendir(runtime->pods_dir);
        struct dirent *entry;

        if (!dir)
                return kl_error_errno(err, -errno, NULL, "open '%s'", runtime->pods_dir);
        while ((entry = readdir(dir))) {
                KL_AUTOERR error = NULL;

                if (entry->d_name[0] == '.' || map_get(runtime->sandboxes, entry->d_name))
                        continue;
                if (!uid_is_valid(entry->d_name) || read_one(runtime, entry->d_name, &error) < 0)
                        log_warning(NULL, "Cannot read the record of pod '%s', removing it: %s",
                                    entry->d_name, kl_error_msg(error));
        }
        return 0;
}

/* From the loop, so that nothing is told within the call. */
static void start_all(Deferred *deferred, void *data)
{
        Runtime *runtime = data;
        WorkerSpec spec = {
                .name = "orphans",
                .body = orphans_body,
                .body_arg = runtime,
                .out_max = FOREIGN_NAMES_MAX,
                .deadline_ms = ORPHANS_DEADLINE_MS,
                .done = on_orphans_removed,
                .data = runtime,
        };
        Sandbox *s;

        runtime->adopt_deferred = deferred_free(runtime->adopt_deferred);
        if (worker_start(runtime->loop, &spec, &runtime->adopt_worker, NULL) < 0)
                log_warning(NULL, "Cannot look for remains of older pods, ignoring");
        for (size_t i = 0; map_next(runtime->sandboxes, &i, NULL, &s);)
                if (s->adopting)
                        sandbox_adopt(s);
        finish_if_done(runtime);
}

int runtime_adopt(Runtime *runtime, void (*found)(const AdoptedSandbox *adopted, void *data),
                  void (*done)(void *data), void *data, KlError **err)
{
        int r;

        if (runtime->adopting)
                return kl_error(err, -EALREADY, NULL, "already adopting");
        runtime->found = found;
        runtime->adopted = done;
        runtime->adopt_data = data;
        runtime->adopt_deferred = deferred_new(runtime->loop, start_all, runtime);
        if (!runtime->adopt_deferred)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        runtime->adopting = true;
        r = read_all(runtime, err);
        if (r < 0) {
                adopt_drop(runtime);
                return r;
        }
        deferred_schedule(runtime->adopt_deferred);
        return 0;
}

void adopt_drop(Runtime *runtime)
{
        runtime->adopting = false;
        runtime->adopt_worker = worker_free(runtime->adopt_worker);
        runtime->adopt_deferred = deferred_free(runtime->adopt_deferred);
}
