/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_TESTS_SHIM_HARNESS_H
#define KUBELITE_TESTS_SHIM_HARNESS_H

/*
 * A real shim with real namespaces and cgroups of its own (kubelite-test-shim-<pid> in each
 * hierarchy), a root file system of a static busybox, and the daemon's client. Everything is
 * removed by world_free().
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/str.h"
#include "loop/loop.h"
#include "runtime/shim-client.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define SKIPPED 77
#define CGROUPS_MAX 16
#define WAIT_MS 20000
#define DEFAULT_CAPS 0xa80425fbULL
#define ALL_CAPS 0x1ffffffffffULL

typedef struct World {
        Loop *loop;
        Timer *timer;
        bool late;
        ShimClient *client;
        int program_fd;
        char dir[64], state[96];
        char *roots[CGROUPS_MAX]; /* <hierarchy>/kubelite-test-shim-<pid> */
        const char *names[CGROUPS_MAX];
        size_t n_roots;
        bool v2, no_controllers;
        /* what was told */
        bool synced, lost;
        ShimSandboxState sandbox;
        bool have_sandbox;
        ShimContainerState containers[64];
        size_t n_containers;
        ShimExecDone done;
        bool have_done;
        ShimResult result;
        uint32_t result_request;
        char id[48], netns[96];
        char rotated[SHIM_ID_SIZE]; /* the container whose log was, last */
        unsigned int n_rotated;
} World;

typedef struct Run {
        ShimStart start;
        ShimCgroup cgroups[CGROUPS_MAX];
        ShimMount mounts[32];
        char log[160], rw[160];
} Run;

/* --- files --- */

static inline void put_file(const char *dir, const char *name, const char *text, mode_t mode)
{
        KL_AUTOFREE char *path = str_format("%s/%s", dir, name);

        assert_int_equal(file_replace(path, text, strlen(text), mode, false), 0);
}

static inline char *read_text(const char *path)
{
        char *data = NULL;
        size_t len;

        return file_read(path, 64 << 20, &data, &len) < 0 ? strdup("") : data;
}

/* The text of a CRI log, headers taken off, P and F joined. */
static inline char *log_text(const char *path)
{
        KL_AUTOFREE char *raw = read_text(path);
        KL_AUTOBUF out = BUF_INIT;

        for (char *p = raw; *p;) {
                char *end = strchr(p, '\n'), *tag = strchr(p, ' ');

                if (!end || !tag)
                        break;
                tag = strchr(tag + 1, ' ') + 1;
                buf_add(&out, tag + 2, (size_t)(end - tag - 2));
                if (*tag == 'F')
                        buf_add_char(&out, '\n');
                p = end + 1;
        }
        return buf_steal(&out);
}

static inline void copy_file(const char *from, const char *to)
{
        KL_AUTOFREE char *data = NULL;
        size_t len;

        assert_int_equal(file_read(from, 16 << 20, &data, &len), 0);
        assert_int_equal(file_replace(to, data, len, 0755, false), 0);
}

static inline void make_layer(const char *dir, const char *name)
{
        static const char *const applets[] = {
                "sh",    "true",   "false", "cat",      "echo", "sleep", "id",  "ls",       "mknod",
                "kill",  "ps",     "mount", "umount",   "head", "tr",    "dd",  "touch",    "ln",
                "mkdir", "setsid", "stat",  "readlink", "grep", "pwd",   "env", "hostname", "ping",
                "tty",   "wc",     "seq",   "chmod",    "su",   "ip",    "df",  "test",     "yes",
                "rm",    "cut",    "nc",    "unshare",  "stty"
        };
        KL_AUTOFREE char *path = str_format("%s/%s", dir, name);
        static const char *const dirs[] = { "bin", "etc", "tmp",  "proc",
                                            "sys", "dev", "root", "home" };

        assert_int_equal(mkdir(path, 0755), 0);
        for (size_t i = 0; i < ELEMENTS(dirs); i++) {
                KL_AUTOFREE char *sub = str_format("%s/%s", path, dirs[i]);

                assert_int_equal(mkdir(sub, str_eq(dirs[i], "tmp") ? 0777 : 0755), 0);
                chmod(sub, str_eq(dirs[i], "tmp") ? 01777 : 0755);
        }
        {
                KL_AUTOFREE char *busybox = str_format("%s/bin/busybox", path);

                copy_file("/bin/busybox", busybox);
        }
        for (size_t i = 0; i < ELEMENTS(applets); i++) {
                KL_AUTOFREE char *link = str_format("%s/bin/%s", path, applets[i]);

                assert_int_equal(symlink("busybox", link), 0);
        }
        put_file(path, "etc/passwd",
                 "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n", 0644);
        put_file(path, "etc/group", "root:x:0:\napp:x:1001:\nextra:x:2000:app\n", 0644);
}

/* --- cgroups --- */

static inline void find_cgroups(World *w)
{
        static const char *const wanted[] = {
                "memory", "freezer", "pids", "cpu", "cpuacct", "blkio"
        };

        static const char *const unified[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };

        /* A machine of v1 may have a v2 hierarchy beside: without controllers, but with all that
         * the shim needs. */
        for (int i = 0; i < (getenv("KUBELITE_TEST_UNIFIED") ? 2 : 1) && !w->v2; i++) {
                KL_AUTOFREE char *controllers = str_format("%s/cgroup.controllers", unified[i]);

                if (access(controllers, F_OK) < 0)
                        continue;
                w->v2 = true;
                w->names[0] = "";
                w->roots[w->n_roots++] =
                        str_format("%s/kubelite-test-shim-%d", unified[i], getpid());
                w->no_controllers = i > 0;
        }
        for (size_t i = 0; !w->v2 && i < ELEMENTS(wanted); i++) {
                KL_AUTOFREE char *procs = str_format("/sys/fs/cgroup/%s/cgroup.procs", wanted[i]);

                if (access(procs, F_OK) < 0)
                        continue;
                w->names[w->n_roots] = wanted[i];
                w->roots[w->n_roots++] =
                        str_format("/sys/fs/cgroup/%s/kubelite-test-shim-%d", wanted[i], getpid());
        }
        for (size_t i = 0; i < w->n_roots; i++)
                assert_int_equal(mkdir(w->roots[i], 0755), 0);
        if (w->v2 && !w->no_controllers) {
                KL_AUTOFREE char *control = str_format("%s/cgroup.subtree_control", w->roots[0]);

                (void)file_write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids +cpu");
                (void)file_write(control, "+memory +pids +cpu");
        }
}

/* cgroups[] for a group `name` beneath ours, made here; the paths are leaked into `keep`. */
static inline size_t make_cgroups(World *w, const char *name, ShimCgroup *cgroups)
{
        for (size_t i = 0; i < w->n_roots; i++) {
                char *path = str_format("%s/%s", w->roots[i], name);

                mkdir(path, 0755);
                cgroups[i] = (ShimCgroup){ w->v2                            ? SHIM_CGROUP_UNIFIED
                                           : str_eq(w->names[i], "memory")  ? SHIM_CGROUP_MEMORY
                                           : str_eq(w->names[i], "freezer") ? SHIM_CGROUP_FREEZER
                                                                            : 0,
                                           w->names[i], path };
        }
        return w->n_roots;
}

static inline void free_cgroups(ShimCgroup *cgroups, size_t n)
{
        for (size_t i = 0; i < n; i++)
                free((char *)(uintptr_t)cgroups[i].path);
}

static inline void set_limit(World *w, const char *controller, const char *group, const char *file,
                             const char *value)
{
        for (size_t i = 0; i < w->n_roots; i++) {
                KL_AUTOFREE char *path = str_format("%s/%s", w->roots[i], group);
                KL_AUTOFREE char *full = str_format("%s/%s", path, file);

                if (!str_eq(w->v2 ? "" : controller, w->names[i]) || w->no_controllers)
                        continue;
                mkdir(path, 0755);
                assert_int_equal(file_write(full, value), 0);
        }
}

static inline void remove_group(const char *path, int depth)
{
        KL_AUTODIR DIR *dir = opendir(path);
        struct dirent *entry;

        while (dir && depth > 0 && (entry = readdir(dir)))
                if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
                        KL_AUTOFREE char *sub = str_format("%s/%s", path, entry->d_name);

                        remove_group(sub, depth - 1);
                }
        for (int i = 0; i < 200 && rmdir(path) < 0 && errno == EBUSY; i++)
                usleep(5000);
}

/* Processes in one of our groups. */
static inline size_t group_count(World *w, const char *name)
{
        for (size_t i = 0; i < w->n_roots; i++)
                if (w->v2 || str_eq(w->names[i], "freezer")) {
                        KL_AUTOFREE char *path =
                                str_format("%s/%s/cgroup.procs", w->roots[i], name);
                        KL_AUTOFREE char *text = read_text(path);
                        size_t n = 0;

                        for (char *p = text; *p; p++)
                                n += *p == '\n';
                        return n;
                }
        return 0;
}

/* --- events --- */

static inline void on_sandbox(ShimClient *client, const ShimSandboxState *state, void *data)
{
        World *w = data;

        w->sandbox = *state;
        w->have_sandbox = true;
}

static inline void on_container(ShimClient *client, const ShimContainerState *state, void *data)
{
        World *w = data;
        size_t i;

        for (i = 0; i < w->n_containers; i++)
                if (strcmp(w->containers[i].id, state->id) == 0)
                        break;
        assert_true(i < ELEMENTS(w->containers));
        if (i == w->n_containers)
                w->n_containers++;
        w->containers[i] = *state;
}

static inline void on_synced(ShimClient *client, const ShimWelcome *welcome, void *data)
{
        ((World *)data)->synced = true;
}

static inline void on_exec_done(ShimClient *client, const ShimExecDone *done, void *data)
{
        World *w = data;

        w->done = *done;
        w->have_done = true;
}

static inline void on_result(ShimClient *client, uint32_t request, const ShimResult *result,
                             void *data)
{
        World *w = data;

        w->result = *result;
        w->result_request = request;
}

static inline void on_lost(ShimClient *client, const KlError *error, void *data)
{
        ((World *)data)->lost = true;
}

static inline void on_log_rotated(ShimClient *client, const char *id, void *data)
{
        World *w = data;

        w->n_rotated++;
        snprintf(w->rotated, sizeof(w->rotated), "%s", id);
}

static const ShimClientEvents world_events = { on_sandbox,     on_container, on_synced,
                                               on_log_rotated, on_exec_done, on_result,
                                               on_lost };

static inline void on_late(Timer *timer, void *data)
{
        ((World *)data)->late = true;
}

#define WAIT_FOR(w, condition)                                                                     \
        do {                                                                                       \
                (w)->late = false;                                                                 \
                timer_start((w)->timer, WAIT_MS);                                                  \
                while (!(condition) && !(w)->late)                                                 \
                        loop_turn((w)->loop, true);                                                \
                timer_stop((w)->timer);                                                            \
                if (!(condition))                                                                  \
                        fail_msg("waited in vain for %s", #condition);                             \
        } while (0)

static inline ShimContainerState *container_of_id(World *w, const char *id)
{
        for (size_t i = 0; i < w->n_containers; i++)
                if (strcmp(w->containers[i].id, id) == 0)
                        return &w->containers[i];
        return NULL;
}

static inline bool has_state(World *w, const char *id, uint32_t state)
{
        ShimContainerState *c = container_of_id(w, id);

        return c && c->state >= state;
}

static inline void wait_result(World *w, int request, int code)
{
        assert_true(request > 0);
        WAIT_FOR(w, w->result_request == (uint32_t)request);
        if (w->result.code != code)
                fail_msg("result %d (%s), expected %d", w->result.code, w->result.message, code);
}

static inline pid_t find_log_writer(World *w)
{
        pid_t shim = shim_client_pid(w->client);
        KL_AUTOFREE char *path = str_format("/proc/%d/task/%d/children", shim, shim);
        KL_AUTOFREE char *text = read_text(path);

        for (char *p = text; *p; p += strcspn(p, " ") + 1) {
                pid_t pid = (pid_t)strtoul(p, NULL, 10);
                KL_AUTOFREE char *comm_path = str_format("/proc/%d/comm", pid);
                KL_AUTOFREE char *comm = read_text(comm_path);

                if (str_eq(comm, "kubelite-log\n"))
                        return pid;
                if (!strchr(p, ' '))
                        break;
        }
        return 0;
}

/* The log writer among the shim's children, which gives itself its name. */
static inline pid_t log_writer_pid(World *w)
{
        pid_t pid = 0;

        for (int i = 0; i < 1000 && !(pid = find_log_writer(w)); i++)
                usleep(1000);
        return pid;
}

/* --- the world --- */

static inline int shim_program(void)
{
        char self[512], *slash;
        KlError *err = NULL;
        const char *given = getenv("KUBELITE_SHIM");
        int fd;

        if (given) {
                snprintf(self, sizeof(self), "%s", given);
        } else {
                ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 64);

                assert_true(n > 0);
                self[n] = '\0';
                slash = strrchr(self, '/');
                strcpy(slash, "/../../kubelite/shim/kubelite-shim");
        }
        if (shim_program_open(self, &fd, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        return fd;
}

static inline World *world_new(void)
{
        World *w = calloc(1, sizeof(*w));
        KlError *err = NULL;

        assert_int_equal(loop_new(&w->loop, NULL), 0);
        w->timer = timer_new(w->loop, on_late, w);
        strcpy(w->dir, "/tmp/kubelite-test-shim-XXXXXX");
        assert_non_null(mkdtemp(w->dir));
        chmod(w->dir, 0755);
        snprintf(w->state, sizeof(w->state), "%s/state", w->dir);
        mkdir(w->state, 0700);
        find_cgroups(w);
        make_layer(w->dir, "base");
        w->program_fd = shim_program();
        {
                ShimSpawn spawn = { w->program_fd, w->state, "test", 2 };

                if (shim_client_spawn(w->loop, &spawn, &world_events, w, &w->client, &err) < 0)
                        fail_msg("%s", kl_error_msg(err));
        }
        WAIT_FOR(w, w->synced);
        return w;
}

static inline ShimSandbox sandbox_default(World *w)
{
        snprintf(w->id, sizeof(w->id), "kubelite-test-shim-%d", getpid());
        snprintf(w->netns, sizeof(w->netns), "/run/netns/%s", w->id);
        return (ShimSandbox){
                .id = w->id, .netns_path = w->netns, .hostname = "pod-host", .oom_score_adj = 100
        };
}

static inline void world_sandbox(World *w, ShimSandbox *sandbox)
{
        ShimCgroup cgroups[CGROUPS_MAX];
        size_t n = make_cgroups(w, "shim", cgroups);

        sandbox->cgroups = cgroups;
        sandbox->n_cgroups = n;
        wait_result(w, shim_client_sandbox(w->client, sandbox), 0);
        WAIT_FOR(w, w->have_sandbox);
        if (w->sandbox.state != SHIM_SANDBOX_READY)
                fail_msg("sandbox: %s", w->sandbox.message);
        free_cgroups(cgroups, n);
}

static inline void world_free(World *w)
{
        if (w->client && !w->lost) {
                shim_client_shutdown(w->client);
                WAIT_FOR(w, w->lost);
        }
        /* The child is reaped in a turn of its own. */
        for (int i = 0; i < 3; i++)
                loop_turn(w->loop, false);
        shim_client_free(w->client);
        timer_free(w->timer);
        loop_turn(w->loop, false);
        loop_free(w->loop);
        close(w->program_fd);
        for (size_t i = 0; i < w->n_roots; i++) {
                remove_group(w->roots[i], 4);
                if (access(w->roots[i], F_OK) == 0)
                        fail_msg("'%s' is left", w->roots[i]);
                free(w->roots[i]);
        }
        assert_int_equal(access(w->netns, F_OK), -1);
        assert_int_equal(tree_remove(w->dir), 0);
        free(w);
}

/* --- containers --- */

static inline const ShimMount *default_mounts(size_t *n)
{
        enum { NOTHING = SHIM_MOUNT_NOSUID | SHIM_MOUNT_NODEV | SHIM_MOUNT_NOEXEC };
        static const ShimMount mounts[] = {
                { SHIM_MOUNT_PROC, "/proc", -1, NOTHING, 0, NULL },
                { SHIM_MOUNT_DEV, "/dev", -1, SHIM_MOUNT_NOSUID, 0, NULL },
                { SHIM_MOUNT_DEVPTS, "/dev/pts", -1, SHIM_MOUNT_NOSUID | SHIM_MOUNT_NOEXEC, 0,
                  NULL },
                { SHIM_MOUNT_MQUEUE, "/dev/mqueue", -1, NOTHING, 0, NULL },
                { SHIM_MOUNT_SHM, "/dev/shm", -1, NOTHING, 0, NULL },
                { SHIM_MOUNT_SYSFS, "/sys", -1, NOTHING | SHIM_MOUNT_RO, 0, NULL },
                { SHIM_MOUNT_CGROUP, "/sys/fs/cgroup", -1, NOTHING | SHIM_MOUNT_RO, 0, NULL },
        };

        *n = ELEMENTS(mounts);
        return mounts;
}

static char *const default_env[] = { (char *)"PATH=/bin", NULL };
static char *const default_layers[] = { (char *)"base", NULL };
static char *const default_masked[] = { (char *)"/proc/kcore",   (char *)"/proc/keys",
                                        (char *)"/sys/firmware", (char *)"/proc/acpi",
                                        (char *)"/proc/version", NULL };
static char *const default_read_only[] = { (char *)"/proc/sys", (char *)"/proc/bus",
                                           (char *)"/proc/irq", (char *)"/proc/sysrq-trigger",
                                           NULL };

static inline void run_init(World *w, Run *run, const char *id, char *const *args)
{
        const ShimMount *mounts;
        size_t n = 0;

        memset(run, 0, sizeof(*run));
        snprintf(run->log, sizeof(run->log), "%s/%s.log", w->dir, id);
        snprintf(run->rw, sizeof(run->rw), "%s/rw-%s", w->dir, id);
        mkdir(run->rw, 0700);
        mounts = default_mounts(&n);
        memcpy(run->mounts, mounts, n * sizeof(run->mounts[0]));
        run->start = (ShimStart){
                .id = id,
                .args = args,
                .env = default_env,
                .cwd = "",
                .user = { .run_as_user = -1, .run_as_group = -1, .image_user = "" },
                .cap_bounding = DEFAULT_CAPS,
                .cap_effective = DEFAULT_CAPS,
                .layers = default_layers,
                .mounts = run->mounts,
                .n_mounts = n,
                .masked_paths = default_masked,
                .read_only_paths = default_read_only,
                .oom_score_adj = 500,
                .layers_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                .rw_fd = open(run->rw, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                .log_fd = open(run->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640),
                .log_dir_fd = -1,
        };
        run->start.n_cgroups = make_cgroups(w, id, run->cgroups);
        run->start.cgroups = run->cgroups;
}

/* Sends it and closes what was opened for it. */
static inline int run_start(World *w, Run *run)
{
        int r = shim_client_start(w->client, &run->start);

        close(run->start.layers_fd);
        close(run->start.rw_fd);
        if (run->start.log_fd >= 0)
                close(run->start.log_fd);
        if (run->start.log_dir_fd >= 0)
                close(run->start.log_dir_fd);
        free_cgroups(run->cgroups, run->start.n_cgroups);
        return r;
}

static inline void wait_exit(World *w, const char *id)
{
        WAIT_FOR(w, has_state(w, id, SHIM_CONTAINER_EXITED));
}

/* Runs to the end; the joined output. */
static inline char *run_to_end(World *w, Run *run)
{
        wait_result(w, run_start(w, run), 0);
        wait_exit(w, run->start.id);
        return log_text(run->log);
}

/* A shell command in a container of default settings: its output. */
static inline char *run_shell(World *w, const char *id, const char *script)
{
        char *const args[] = { (char *)"sh", (char *)"-c", (char *)(uintptr_t)script, NULL };
        Run run;

        run_init(w, &run, id, args);
        return run_to_end(w, &run);
}

#endif
