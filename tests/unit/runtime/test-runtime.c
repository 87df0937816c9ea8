/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The whole runtime against the real kernel and the real shim (KUBELITE_SHIM, or the one in the
 * build tree). Containers run busybox from a layer that is made here. Every test ends with nothing
 * left of its pods: no process, mount, group or file.
 */

#include "runtime/runtime-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <cmocka.h>

#define WAIT_MS 30000
#define BUSYBOX "/bin/busybox"

static char base[128], cgroup_root[64], shim_path[PATH_MAX];

/* --- what a test sees --- */

typedef struct Seen {
        char id[65];
        ContainerState state;
        pid_t pid;
        int exit_code, changes;
        bool oom_killed;
        char reason[64], message[512];
        uint32_t uid, gid;
} Seen;

typedef struct Pod {
        Sandbox *sandbox;
        char uid[48], id[65];
        bool ready, failed, lost, destroyed;
        char netns[PATH_MAX], error[512];
        Seen seen[16];
        size_t n_seen;
} Pod;

static Loop *loop;
static Runtime *runtime;
static bool timed_out;

static void on_timeout(Timer *timer, void *data)
{
        timed_out = true;
}

#define WAIT_FOR(condition)                                                                        \
        do {                                                                                       \
                Timer *timer_ = timer_new(loop, on_timeout, NULL);                                 \
                timed_out = false;                                                                 \
                timer_start(timer_, WAIT_MS);                                                      \
                while (!(condition) && !timed_out)                                                 \
                        loop_turn(loop, true);                                                     \
                timer_free(timer_);                                                                \
                if (!(condition))                                                                  \
                        fail_msg("waited in vain for: %s", #condition);                            \
        } while (0)

static Seen *seen_of(Pod *pod, const char *id)
{
        for (size_t i = 0; i < pod->n_seen; i++)
                if (str_eq(pod->seen[i].id, id))
                        return &pod->seen[i];
        assert_true(pod->n_seen < ELEMENTS(pod->seen));
        snprintf(pod->seen[pod->n_seen].id, sizeof(pod->seen[0].id), "%s", id);
        return &pod->seen[pod->n_seen++];
}

static void see(Pod *pod, const ContainerInfo *info)
{
        Seen *s = seen_of(pod, info->id);

        s->state = info->state;
        s->pid = info->pid;
        s->exit_code = info->exit_code;
        s->oom_killed = info->oom_killed;
        s->uid = info->uid;
        s->gid = info->gid;
        s->changes++;
        snprintf(s->reason, sizeof(s->reason), "%s", info->reason);
        snprintf(s->message, sizeof(s->message), "%s", info->message);
        if (s->message[0] && getenv("KUBELITE_TEST_VERBOSE"))
                print_message("container: %s: %s\n", s->reason, s->message);
}

static void on_ready(Sandbox *sandbox, const char *netns_path, void *data)
{
        Pod *pod = data;

        pod->ready = true;
        snprintf(pod->netns, sizeof(pod->netns), "%s", netns_path);
}

static void on_failed(Sandbox *sandbox, const KlError *error, void *data)
{
        Pod *pod = data;

        pod->failed = true;
        snprintf(pod->error, sizeof(pod->error), "%s", kl_error_msg(error));
}

static void on_changed(Sandbox *sandbox, const ContainerInfo *info, void *data)
{
        see(data, info);
}

static void on_lost(Sandbox *sandbox, void *data)
{
        ((Pod *)data)->lost = true;
}

static void on_destroyed(Sandbox *sandbox, void *data)
{
        ((Pod *)data)->destroyed = true;
}

static const SandboxEvents events = {
        .ready = on_ready, .failed = on_failed, .container_changed = on_changed, .lost = on_lost,
        .destroyed = on_destroyed,
};

/* --- the node --- */

static void make_link(const char *name)
{
        KL_AUTOFREE char *path = str_format("%s/layers/l0/bin/%s", base, name);

        assert_int_equal(symlink("busybox", path), 0);
}

static void make_layer(void)
{
        static const char *const tools[] = { "sh", "echo", "sleep", "cat", "mknod", "tail", "id", "true",
                                             "mount", "ls", "touch", "hostname", "dd", "head", "yes",
                                             "setsid", "grep", "stat", "mkdir" };
        static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
        KL_AUTOFREE char *bin = str_format("%s/layers/l0/bin", base);
        KL_AUTOFREE char *etc = str_format("%s/layers/l0/etc", base);
        KL_AUTOFREE char *file = str_format("%s/busybox", bin);
        KL_AUTOFREE char *users = str_format("%s/passwd", etc), *text = NULL;
        size_t len;

        assert_int_equal(dir_make_all(bin, 0755), 0);
        assert_int_equal(dir_make_all(etc, 0755), 0);
        assert_int_equal(file_read(BUSYBOX, 16 << 20, &text, &len), 0);
        assert_int_equal(file_replace(file, text, len, 0755, false), 0);
        assert_int_equal(file_replace(users, passwd, sizeof(passwd) - 1, 0644, false), 0);
        for (size_t i = 0; i < ELEMENTS(tools); i++)
                make_link(tools[i]);
}

static void runtime_up(void)
{
        KL_AUTOFREE char *state = str_format("%s/state", base), *data = str_format("%s/data", base);
        KL_AUTOFREE char *layers = str_format("%s/layers", base), *seccomp = str_format("%s/seccomp", base);
        RuntimeOptions options = { .state_dir = state, .data_dir = data, .layers_dir = layers,
                                   .seccomp_dir = seccomp, .shim_path = shim_path,
                                   .cgroup_root = cgroup_root };
        KL_AUTOERR err = NULL;

        dir_make_all(seccomp, 0755);
        if (runtime_new(loop, &options, &runtime, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
}

static int set_up(void **state)
{
        snprintf(base, sizeof(base), "/tmp/kubelite-runtime-%d", getpid());
        snprintf(cgroup_root, sizeof(cgroup_root), "/kubelite-test-%d", getpid());
        tree_remove(base);
        make_layer();
        assert_int_equal(loop_new(&loop, NULL), 0);
        runtime_up();
        return 0;
}

static bool gc_idle(void)
{
        return !runtime->gc_worker && list_empty(&runtime->gc_queue);
}

/* What a failed test left: its Pod is gone, so nobody is told. */
static void destroy_rest(void)
{
        static Pod nobody;
        Sandbox *s;

        for (size_t i = 0; map_next(runtime->sandboxes, &i, NULL, &s);) {
                sandbox_set_events(s, &events, &nobody);
                nobody.n_seen = 0;
                sandbox_destroy(s, true);
        }
        WAIT_FOR(map_len(runtime->sandboxes) == 0);
}

static int after_each(void **state)
{
        if (!runtime)
                runtime_up();
        destroy_rest();
        return 0;
}

static int tear_down(void **state)
{
        CgroupTree *tree;
        CgroupTreeOptions options = { .root = cgroup_root };

        destroy_rest();
        WAIT_FOR(gc_idle());
        runtime = runtime_free(runtime);
        loop = loop_free(loop);
        assert_int_equal(cgroup_tree_new(&options, &tree, NULL), 0);
        assert_int_equal(cgroup_remove(tree, "kubepods", 5000), 0);
        for (size_t i = 0; i < cgroup_n_hierarchies(tree); i++)
                assert_int_equal(rmdir(tree->hierarchies[i].dir), 0);
        cgroup_tree_free(tree);
        assert_int_equal(tree_remove(base), 0);
        return 0;
}

static SandboxSpec pod_spec(Pod *pod)
{
        if (!pod->id[0]) {
                random_hex(pod->id, 32);
                random_hex(pod->uid, 16);
        }
        return (SandboxSpec){ .id = pod->id, .pod_uid = pod->uid, .pod_namespace = "ns", .pod_name = "pod",
                              .hostname = "box", .qos = QOS_BURSTABLE,
                              .resources = { .cpu_shares = 200 } };
}

static void create(Pod *pod, const SandboxSpec *spec)
{
        KL_AUTOERR err = NULL;

        if (sandbox_create(runtime, spec, &events, pod, &pod->sandbox, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_false(pod->ready);
}

static void up(Pod *pod)
{
        SandboxSpec spec = pod_spec(pod);

        create(pod, &spec);
        WAIT_FOR(pod->ready || pod->failed);
        if (pod->failed)
                fail_msg("%s", pod->error);
}

/* Nothing is left of a pod. */
static void expect_nothing(const Pod *pod, bool records)
{
        KL_AUTOFREE char *text = NULL;
        KL_AUTOFREE char *dir = str_format("%s/state/pods/%s", base, pod->uid);
        struct stat st;
        size_t len;

        WAIT_FOR(gc_idle());
        assert_int_equal(file_read("/proc/self/mountinfo", 16 << 20, &text, &len), 0);
        assert_null(strstr(text, pod->uid));
        assert_null(strstr(text, pod->id));
        for (QosClass qos = QOS_GUARANTEED; qos <= QOS_BEST_EFFORT; qos++)
                for (size_t i = 0; i < cgroup_n_hierarchies(runtime->tree); i++) {
                        KL_AUTOFREE char *path = cgroup_pod_path(qos, pod->uid);
                        KL_AUTOFREE char *group = cgroup_dir(runtime->tree, i, path);

                        assert_int_equal(stat(group, &st), -1);
                }
        if (pod->netns[0])
                assert_int_equal(lstat(pod->netns, &st), -1);
        if (!records)
                return;
        assert_int_equal(stat(dir, &st), -1);
        for (size_t i = 0; i < pod->n_seen; i++) {
                KL_AUTOFREE char *data = str_format("%s/data/%s", base, pod->seen[i].id);

                assert_int_equal(stat(data, &st), -1);
        }
}

static void down(Pod *pod)
{
        sandbox_destroy(pod->sandbox, true);
        WAIT_FOR(pod->destroyed);
        expect_nothing(pod, true);
}

/* --- containers --- */

typedef struct Box {
        ContainerSpec spec;
        char id[65], log[PATH_MAX];
        char *args[4];
} Box;

static char *const layers[] = { (char *)"l0", NULL };
static char *const env[] = { (char *)"PATH=/bin", NULL };

static void box_init(Box *box, const char *script)
{
        random_hex(box->id, 32);
        snprintf(box->log, sizeof(box->log), "%s/%s.log", base, box->id);
        box->args[0] = (char *)"/bin/sh";
        box->args[1] = (char *)"-c";
        box->args[2] = (char *)script;
        box->args[3] = NULL;
        box->spec = (ContainerSpec){
                .id = box->id, .name = "c", .image = "img", .image_id = "i", .image_ref = "r",
                .spec_hash = "h", .layers = layers, .args = box->args, .env = env, .cwd = "",
                .run_as_user = -1, .run_as_group = -1, .allow_privilege_escalation = true,
                .seccomp = SECCOMP_RUNTIME_DEFAULT, .log_path = box->log,
        };
}

static Seen *start(Pod *pod, Box *box)
{
        KL_AUTOERR err = NULL;
        Seen *s = seen_of(pod, box->id);

        if (sandbox_start_container(pod->sandbox, &box->spec, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_int_equal(s->changes, 0);
        return s;
}

static Seen *run_to_end(Pod *pod, Box *box)
{
        Seen *s = start(pod, box);

        WAIT_FOR(s->state == CONTAINER_EXITED);
        return s;
}

/* The log's lines without their heads, joined. */
static char *log_of(const Box *box)
{
        KL_AUTOFREE char *text = NULL;
        KL_AUTOBUF buf = BUF_INIT;
        char *save = NULL;

        if (file_read(box->log, 1 << 20, &text, NULL) < 0)
                return strdup("");
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                char *p = strchr(line, ' ');

                p = p ? strchr(p + 1, ' ') : NULL;
                p = p ? strchr(p + 1, ' ') : NULL;
                if (p)
                        buf_addf(&buf, "%s\n", p + 1);
        }
        return buf.len ? buf_steal(&buf) : strdup("");
}

static bool log_has(const Box *box, const char *text)
{
        KL_AUTOFREE char *log = log_of(box);

        return strstr(log, text) != NULL;
}

static void expect_log(const Box *box, const char *text)
{
        uint64_t end = time_monotonic_ms() + 3000;

        while (!log_has(box, text) && time_monotonic_ms() < end)
                usleep(2000);
        if (!log_has(box, text)) {
                KL_AUTOFREE char *log = log_of(box);

                fail_msg("'%s' is not in the log: %s", text, log);
        }
}

/* --- tests --- */

static void test_life(void **state)
{
        Pod pod = { .id = "" };
        Box box;
        Seen *s;
        ContainerInfo info;
        KL_AUTOFREE char *config = NULL;
        struct stat st;

        up(&pod);
        assert_int_equal(stat(pod.netns, &st), 0);
        box_init(&box, "echo hello; hostname; echo no >&2; exit 3");
        s = run_to_end(&pod, &box);
        assert_int_equal(s->exit_code, 3);
        assert_string_equal(s->reason, "Error");
        assert_int_equal(s->changes, 2);
        expect_log(&box, "hello\nbox\n");
        assert_true(sandbox_container(pod.sandbox, box.id, &info));
        assert_string_equal(info.spec_hash, "h");
        assert_true(info.created_us > 0 && info.started_us >= info.created_us &&
                    info.finished_us >= info.started_us);
        assert_true(sandbox_container_at(pod.sandbox, 0, &info));
        assert_false(sandbox_container_at(pod.sandbox, 1, &info));
        config = str_format("%s/state/pods/%s/containers/%s/config.json", base, pod.uid, box.id);
        assert_int_equal(stat(config, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        sandbox_remove_container(pod.sandbox, box.id);
        assert_false(sandbox_container(pod.sandbox, box.id, &info));
        WAIT_FOR(gc_idle());
        assert_int_equal(stat(config, &st), -1);
        down(&pod);
}

static void test_completed(void **state)
{
        Pod pod = { .id = "" };
        Box box;
        Seen *s;

        up(&pod);
        box_init(&box, "exit 0");
        s = run_to_end(&pod, &box);
        assert_int_equal(s->exit_code, 0);
        assert_string_equal(s->reason, "Completed");
        down(&pod);
}

static void test_stop(void **state)
{
        Pod pod = { .id = "" };
        Box polite, stubborn, early;
        Seen *a, *b, *c;

        up(&pod);
        box_init(&polite, "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done");
        box_init(&stubborn, "trap '' TERM; echo up; while :; do sleep 0.05; done");
        box_init(&early, "sleep 1000");
        a = start(&pod, &polite);
        b = start(&pod, &stubborn);
        expect_log(&polite, "");
        WAIT_FOR(a->state == CONTAINER_RUNNING && b->state == CONTAINER_RUNNING);
        expect_log(&polite, "up");
        expect_log(&stubborn, "up");
        sandbox_stop_container(pod.sandbox, polite.id, 20000);
        sandbox_stop_container(pod.sandbox, stubborn.id, 20000);
        sandbox_stop_container(pod.sandbox, stubborn.id, 200);
        WAIT_FOR(a->state == CONTAINER_EXITED && b->state == CONTAINER_EXITED);
        assert_int_equal(a->exit_code, 5);
        assert_int_equal(b->exit_code, 137);
        /* Stopped before it was even started. */
        c = start(&pod, &early);
        sandbox_stop_container(pod.sandbox, early.id, 0);
        WAIT_FOR(c->state == CONTAINER_EXITED);
        assert_int_equal(c->exit_code, 137);
        down(&pod);
}

typedef struct Ran {
        bool done, timed_out;
        int exit_code;
        char output[4096], error[512];
        size_t len;
} Ran;

static void on_exec(Exec *exec, int exit_code, bool late, const char *output, size_t len,
                    const KlError *error, void *data)
{
        Ran *ran = data;

        ran->done = true;
        ran->exit_code = exit_code;
        ran->timed_out = late;
        ran->len = len;
        snprintf(ran->output, sizeof(ran->output), "%s", output);
        snprintf(ran->error, sizeof(ran->error), "%s", error ? kl_error_msg(error) : "");
}

static void exec_in(Pod *pod, const char *id, const char *script, uint64_t timeout_ms, size_t out_max,
                    Ran *ran)
{
        char *args[] = { (char *)"/bin/sh", (char *)"-c", (char *)script, NULL };
        ExecSpec spec = { .args = args, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1,
                          .out_max = out_max, .timeout_ms = timeout_ms, .done = on_exec, .data = ran };
        KL_AUTOERR err = NULL;
        Exec *exec;

        *ran = (Ran){ .done = false };
        if (sandbox_exec(pod->sandbox, id, &spec, &exec, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        WAIT_FOR(ran->done);
}

static void test_exec(void **state)
{
        Pod pod = { .id = "" };
        Box box;
        Seen *s;
        Ran ran;
        Exec *exec;
        char *args[] = { (char *)"/no/such", NULL };
        char *sleeper[] = { (char *)"/bin/sleep", (char *)"1000", NULL };
        ExecSpec spec = { .args = args, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .out_max = 100,
                          .done = on_exec, .data = &ran };

        up(&pod);
        box_init(&box, "sleep 1000");
        s = start(&pod, &box);
        WAIT_FOR(s->state == CONTAINER_RUNNING);
        exec_in(&pod, box.id, "echo out; echo err >&2; exit 7", 5000, 1000, &ran);
        assert_string_equal(ran.error, "");
        assert_int_equal(ran.exit_code, 7);
        assert_string_equal(ran.output, "out\nerr\n");
        exec_in(&pod, box.id, "yes | head -c 3000000", 20000, 1000, &ran);
        assert_int_equal(ran.exit_code, 0);
        assert_int_equal(ran.len, 1000);
        exec_in(&pod, box.id, "echo before; sleep 1000", 200, 1000, &ran);
        assert_true(ran.timed_out);
        assert_string_equal(ran.output, "before\n");
        /* Something in the background keeps the pipe. */
        exec_in(&pod, box.id, "echo x; sleep 3 & exit 0", 20000, 1000, &ran);
        assert_string_equal(ran.output, "x\n");
        ran.done = false;
        assert_int_equal(sandbox_exec(pod.sandbox, box.id, &spec, &exec, NULL), 0);
        WAIT_FOR(ran.done);
        assert_string_not_equal(ran.error, "");
        assert_int_equal(sandbox_exec(pod.sandbox, "x", &spec, &exec, NULL), -ENOENT);
        /* Killed: nobody hears of it again. */
        ran.done = false;
        spec.args = sleeper;
        assert_int_equal(sandbox_exec(pod.sandbox, box.id, &spec, &exec, NULL), 0);
        exec_kill(exec);
        /* Ended with its sandbox: told. */
        assert_int_equal(sandbox_exec(pod.sandbox, box.id, &spec, &exec, NULL), 0);
        sandbox_destroy(pod.sandbox, true);
        WAIT_FOR(pod.destroyed && ran.done);
        expect_nothing(&pod, true);
}

static void test_oom(void **state)
{
        Pod pod = { .id = "" };
        Box box;
        Seen *s;

        up(&pod);
        box_init(&box, "tail /dev/zero");
        box.spec.resources.memory_bytes = 16 << 20;
        s = run_to_end(&pod, &box);
        assert_true(s->oom_killed);
        assert_int_equal(s->exit_code, 137);
        assert_string_equal(s->reason, "OOMKilled");
        down(&pod);
}

static void test_confinement(void **state)
{
        Pod pod = { .id = "" };
        Box box, strict;
        Seen *s;

        up(&pod);
        box_init(&box, "grep -E 'CapBnd|CapInh|Seccomp:|NoNewPrivs' /proc/self/status;"
                       "mknod /dev/fuse2 c 10 229 && echo made; cat /dev/fuse2;"
                       "touch /proc/sys/kernel/x /sys/x; ls /proc/scsi /sys/firmware;"
                       "mount -t tmpfs none /bin; id; touch /w && echo writable");
        s = run_to_end(&pod, &box);
        (void)s;
        expect_log(&box, "writable");
        expect_log(&box, "CapInh:\t0000000000000000");
        expect_log(&box, "CapBnd:\t00000000a80425fb");
        expect_log(&box, "NoNewPrivs:\t0");
        expect_log(&box, "Seccomp:\t2");
        expect_log(&box, "made");
        expect_log(&box, "/dev/fuse2': Operation not permitted");
        expect_log(&box, "uid=0(root)");
        box_init(&strict, "grep -E 'CapEff|NoNewPrivs' /proc/self/status; id -u; id -G;"
                          "touch /w || echo read-only");
        strict.spec.run_as_user = 1000;
        strict.spec.allow_privilege_escalation = false;
        strict.spec.read_only_root = true;
        s = run_to_end(&pod, &strict);
        assert_int_equal(s->uid, 1000);
        expect_log(&strict, "read-only");
        expect_log(&strict, "NoNewPrivs:\t1");
        expect_log(&strict, "CapEff:\t0000000000000000");
        down(&pod);
}

static void test_start_errors(void **state)
{
        Pod pod = { .id = "" };
        Box box;
        Seen *s;
        KL_AUTOERR err = NULL;
        KL_AUTOERR again = NULL;

        up(&pod);
        box_init(&box, "");
        box.args[0] = (char *)"/no/such";
        s = run_to_end(&pod, &box);
        assert_int_equal(s->exit_code, 128);
        assert_string_equal(s->reason, "StartError");
        assert_string_not_equal(s->message, "");
        box_init(&box, "true");
        box.spec.seccomp = SECCOMP_LOCALHOST;
        box.spec.seccomp_profile = "nope.json";
        assert_true(sandbox_start_container(pod.sandbox, &box.spec, &err) < 0);
        assert_string_equal(err->reason, "CreateContainerError");
        assert_non_null(strstr(err->msg, "no such file or directory"));
        box_init(&box, "true");
        box.spec.mounts = &(MountSpec){ "/no/such", -1, "/x", false, false, PROPAGATION_NONE };
        box.spec.n_mounts = 1;
        assert_true(sandbox_start_container(pod.sandbox, &box.spec, &again) < 0);
        assert_string_equal(again->reason, "CreateContainerError");
        down(&pod);
}

static void test_localhost_profile(void **state)
{
        static const char profile[] =
                "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\",\"mkdirat\"],"
                "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":1}]}";
        KL_AUTOFREE char *path = str_format("%s/seccomp/p.json", base);
        Pod pod = { .id = "" };
        KL_AUTOERR err = NULL;
        Box box;

        assert_int_equal(file_replace(path, profile, sizeof(profile) - 1, 0644, false), 0);
        up(&pod);
        box_init(&box, "mkdir /x || echo refused");
        box.spec.seccomp = SECCOMP_LOCALHOST;
        box.spec.seccomp_profile = "p.json";
        run_to_end(&pod, &box);
        expect_log(&box, "refused");
        assert_int_equal(file_replace(path, "", 0, 0644, false), 0);
        box_init(&box, "true");
        box.spec.seccomp = SECCOMP_LOCALHOST;
        box.spec.seccomp_profile = "p.json";
        assert_true(sandbox_start_container(pod.sandbox, &box.spec, &err) < 0);
        assert_string_equal(err->reason, "CreateContainerError");
        box.spec.seccomp_profile = "../data";
        assert_true(sandbox_start_container(pod.sandbox, &box.spec, NULL) < 0);
        down(&pod);
}

static void test_volume(void **state)
{
        KL_AUTOFREE char *dir = str_format("%s/volume", base), *file = str_format("%s/volume/f", base);
        Pod pod = { .id = "" };
        Box box;

        assert_int_equal(dir_make_all(dir, 0755), 0);
        assert_int_equal(file_replace(file, "content\n", 8, 0644, false), 0);
        up(&pod);
        box_init(&box, "cat /v/deep/f; touch /v/deep/x || echo read-only; cat /one");
        box.spec.mounts = (MountSpec[]){ { dir, -1, "/v/deep", true, false, PROPAGATION_NONE },
                                         { file, -1, "/one", false, false, PROPAGATION_NONE } };
        box.spec.n_mounts = 2;
        run_to_end(&pod, &box);
        expect_log(&box, "content");
        expect_log(&box, "read-only\ncontent");
        down(&pod);
}

static void test_privileged(void **state)
{
        Pod pod = { .id = "" };
        SandboxSpec spec = pod_spec(&pod);
        Box box;
        KL_AUTOFREE char *caps = NULL;

        spec.host_network = true;
        spec.host_ipc = true;
        spec.share_pid = true;
        create(&pod, &spec);
        WAIT_FOR(pod.ready || pod.failed);
        assert_string_equal(pod.error, "");
        assert_string_equal(pod.netns, "");
        box_init(&box, "grep -E 'CapEff|Seccomp:' /proc/self/status; ls -l /dev/kmsg;"
                       "touch /sys/fs/cgroup/x 2>&1; mkdir /m; mount -t tmpfs none /m && echo mounted;"
                       "cat /proc/1/comm; echo $$");
        box.spec.privileged = true;
        run_to_end(&pod, &box);
        caps = str_format("CapEff:\t%016llx", (unsigned long long)runtime->caps_available);
        expect_log(&box, "mounted");
        expect_log(&box, caps);
        expect_log(&box, "Seccomp:\t0");
        expect_log(&box, "/dev/kmsg");
        down(&pod);
}

static bool alive(pid_t pid)
{
        KL_AUTOFREE char *path = str_format("/proc/%d/stat", pid), *text = NULL;
        const char *state;

        if (file_read(path, 4096, &text, NULL) < 0)
                return false;
        state = strrchr(text, ')');
        return state && state[2] != 'Z' && state[2] != 'X';
}

static void freeze(const Pod *pod, const char *id)
{
        int i = cgroup_find(runtime->tree, "freezer");
        KL_AUTOFREE char *path = str_format("%s/%s", pod->sandbox->cgroup, id);
        KL_AUTOFREE char *dir = i < 0 ? NULL : cgroup_dir(runtime->tree, (size_t)i, path);
        KL_AUTOFREE char *file = dir ? str_format("%s/freezer.state", dir) : NULL;

        if (file)
                assert_int_equal(file_write(file, "FROZEN"), 0);
}

/* Also what left its session and its parent, in the host's pid namespace, frozen as well. */
static void test_lost_shim(void **state)
{
        Pod pod = { .id = "" };
        SandboxSpec spec = pod_spec(&pod);
        Box box, done;
        Seen *s, *d;
        pid_t shim, daemonized;
        KL_AUTOFREE char *log = NULL;

        spec.host_pid = true;
        create(&pod, &spec);
        WAIT_FOR(pod.ready);
        box_init(&box, "setsid sh -c 'sleep 1000 & echo $!'; sleep 1000");
        box_init(&done, "exit 4");
        d = run_to_end(&pod, &done);
        s = start(&pod, &box);
        WAIT_FOR(s->state == CONTAINER_RUNNING);
        for (int i = 0; i < 500; i++) {
                free(log);
                log = log_of(&box);
                if (log[0])
                        break;
                usleep(5000);
        }
        daemonized = atoi(log);
        assert_true(daemonized > 1 && alive(daemonized));
        shim = shim_client_pid(pod.sandbox->client);
        assert_true(shim > 1);
        freeze(&pod, box.id);
        assert_int_equal(kill(shim, SIGKILL), 0);
        WAIT_FOR(pod.lost);
        assert_int_equal(s->state, CONTAINER_EXITED);
        assert_int_equal(s->exit_code, 137);
        assert_string_equal(s->reason, "ContainerStatusUnknown");
        assert_int_equal(d->exit_code, 4);
        assert_false(alive(daemonized));
        assert_false(alive(shim));
        /* The records stay for the pod's next sandbox. */
        sandbox_destroy(pod.sandbox, false);
        WAIT_FOR(pod.destroyed);
        expect_nothing(&pod, false);
        pod.destroyed = pod.ready = false;
        random_hex(pod.id, 32);
        spec.id = pod.id;
        create(&pod, &spec);
        WAIT_FOR(pod.ready);
        {
                ContainerInfo info;

                assert_true(sandbox_container(pod.sandbox, box.id, &info));
                assert_string_equal(info.reason, "ContainerStatusUnknown");
                assert_int_equal(info.exit_code, 137);
                assert_true(sandbox_container(pod.sandbox, done.id, &info));
                assert_int_equal(info.exit_code, 4);
        }
        down(&pod);
}

static void test_failed(void **state)
{
        Pod pod = { .id = "" };
        SandboxSpec spec = pod_spec(&pod);
        Sysctl sysctl = { "net.ipv4.no_such_thing", "1" };

        spec.sysctls = &sysctl;
        spec.n_sysctls = 1;
        create(&pod, &spec);
        WAIT_FOR(pod.failed || pod.ready);
        assert_true(pod.failed);
        assert_string_not_equal(pod.error, "");
        expect_nothing(&pod, true);
        down(&pod);
}

/* One turn that ends even if nothing happens. */
static void turn(void)
{
        Timer *timer = timer_new(loop, on_timeout, NULL);

        timer_start(timer, 50);
        loop_turn(loop, true);
        timer_free(timer);
}

/* Destroyed at every moment of its youth. */
static void test_early_destroy(void **state)
{
        for (int turns = 0; turns < 12; turns++) {
                Pod pod = { .id = "" };
                SandboxSpec spec = pod_spec(&pod);

                create(&pod, &spec);
                for (int i = 0; i < turns && !pod.ready; i++)
                        turn();
                sandbox_destroy(pod.sandbox, false);
                sandbox_destroy(pod.sandbox, true);
                WAIT_FOR(pod.destroyed);
                expect_nothing(&pod, true);
        }
        for (int turns = 0; turns < 6; turns++) {
                Pod pod = { .id = "" };
                Box box;

                up(&pod);
                box_init(&box, "sleep 1000");
                start(&pod, &box);
                for (int i = 0; i < turns; i++)
                        turn();
                down(&pod);
        }
}

/* --- adoption --- */

typedef struct Found {
        AdoptedSandbox one[64];
        size_t n;
        bool done;
        Pod *pods;
        size_t n_pods;
} Found;

static void on_found(const AdoptedSandbox *adopted, void *data)
{
        Found *found = data;

        found->one[found->n++] = *adopted;
        for (size_t i = 0; i < found->n_pods; i++)
                if (str_eq(found->pods[i].uid, adopted->spec.pod_uid)) {
                        found->pods[i].sandbox = adopted->sandbox;
                        sandbox_set_events(adopted->sandbox, &events, &found->pods[i]);
                }
}

static void on_adopted(void *data)
{
        ((Found *)data)->done = true;
}

static void adopt(Found *found)
{
        KL_AUTOERR err = NULL;

        if (runtime_adopt(runtime, on_found, on_adopted, found, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_int_equal(found->n, 0);
        WAIT_FOR(found->done);
}

static void test_adopt(void **state)
{
        Pod pods[2] = { { .id = "" }, { .id = "" } };
        Found found = { .pods = pods, .n_pods = 2 };
        Box running, ended, meanwhile;
        Seen *r, *e, *m;
        ContainerInfo info;
        pid_t pid, shim;

        up(&pods[0]);
        up(&pods[1]);
        box_init(&running, "sleep 1000");
        box_init(&ended, "exit 9");
        box_init(&meanwhile, "while ! cat /v/go; do sleep 0.02; done; exit 6");
        meanwhile.spec.mounts = &(MountSpec){ base, -1, "/v", false, false, PROPAGATION_NONE };
        meanwhile.spec.n_mounts = 1;
        r = start(&pods[0], &running);
        m = start(&pods[0], &meanwhile);
        e = run_to_end(&pods[0], &ended);
        assert_int_equal(e->exit_code, 9);
        WAIT_FOR(r->state == CONTAINER_RUNNING && m->state == CONTAINER_RUNNING);
        pid = r->pid;
        shim = shim_client_pid(pods[1].sandbox->client);
        runtime = runtime_free(runtime);
        assert_true(alive(pid));
        /* One shim dies and one container ends while there is no daemon. */
        kill(shim, SIGKILL);
        {
                KL_AUTOFREE char *go = str_format("%s/go", base);

                assert_int_equal(file_replace(go, "", 0, 0644, false), 0);
        }
        while (alive(m->pid))
                usleep(1000);
        runtime_up();
        adopt(&found);
        assert_int_equal(found.n, 2);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(found.one[i].lost, found.one[i].sandbox == pods[1].sandbox);
        assert_string_equal(sandbox_netns(pods[0].sandbox), pods[0].netns);
        assert_true(sandbox_container(pods[0].sandbox, running.id, &info));
        assert_int_equal(info.state, CONTAINER_RUNNING);
        assert_int_equal(info.pid, pid);
        assert_true(alive(pid));
        assert_string_equal(info.image_ref, "r");
        assert_true(sandbox_container(pods[0].sandbox, ended.id, &info));
        assert_int_equal(info.exit_code, 9);
        WAIT_FOR(sandbox_container(pods[0].sandbox, meanwhile.id, &info) &&
                 info.state == CONTAINER_EXITED);
        assert_int_equal(info.exit_code, 6);
        sandbox_stop_container(pods[0].sandbox, running.id, 0);
        WAIT_FOR(r->state == CONTAINER_EXITED);
        assert_int_equal(r->exit_code, 137);
        down(&pods[0]);
        down(&pods[1]);
}

/* Records of another boot, and what nobody knows. */
static void test_adopt_other_boot(void **state)
{
        Pod pod = { .id = "" };
        SandboxSpec spec = pod_spec(&pod);
        Found found = { .pods = &pod, .n_pods = 1 };
        KL_AUTOFREE char *dir = str_format("%s/state/pods/%s", base, pod.uid);
        KL_AUTOFREE char *broken = str_format("%s/state/pods/broken", base);
        KL_AUTOFREE char *orphan = NULL, *record = NULL;
        ContainerRecord meta = { .name = "c", .image = "i", .image_id = "", .image_ref = "",
                                 .spec_hash = "", .attempt = 2, .created_us = 5 };
        ContainerInfo info;
        struct stat st;
        char id[65], other[65];

        random_hex(id, 32);
        random_hex(other, 32);
        meta.id = id;
        orphan = str_format("%s/data/%s/upper", base, other);
        record = str_format("%s/containers/%s", dir, id);
        assert_int_equal(dir_make_all(record, 0700), 0);
        assert_int_equal(dir_make_all(broken, 0700), 0);
        assert_int_equal(dir_make_all(orphan, 0700), 0);
        assert_int_equal(store_write_sandbox(dir, &spec, "another-boot", NULL), 0);
        assert_int_equal(store_write_container(record, &meta, NULL), 0);
        assert_int_equal(cgroup_create(runtime->tree, "kubepods/podnobody", true, NULL), 0);
        adopt(&found);
        assert_int_equal(found.n, 1);
        assert_true(found.one[0].lost);
        assert_string_equal(found.one[0].spec.pod_name, "pod");
        assert_true(sandbox_container(pod.sandbox, id, &info));
        assert_int_equal(info.state, CONTAINER_EXITED);
        assert_int_equal(info.exit_code, 137);
        assert_int_equal(info.attempt, 2);
        assert_string_equal(info.reason, "ContainerStatusUnknown");
        assert_int_equal(stat(broken, &st), -1);
        assert_int_equal(stat(orphan, &st), -1);
        assert_int_equal(cgroup_remove(runtime->tree, "kubepods/podnobody", 0), 0);
        down(&pod);
}

/* --- many, and how long it takes --- */

#define MANY 50

static void test_many(void **state)
{
        static Pod pods[MANY];
        static Box boxes[MANY];
        uint64_t start_us = time_monotonic_us(), ready_us, running_us;

        for (size_t i = 0; i < MANY; i++) {
                SandboxSpec spec = pod_spec(&pods[i]);

                create(&pods[i], &spec);
        }
        for (size_t i = 0; i < MANY; i++)
                WAIT_FOR(pods[i].ready);
        ready_us = time_monotonic_us();
        for (size_t i = 0; i < MANY; i++) {
                box_init(&boxes[i], "sleep 1000");
                start(&pods[i], &boxes[i]);
        }
        for (size_t i = 0; i < MANY; i++)
                WAIT_FOR(pods[i].seen[0].state == CONTAINER_RUNNING);
        running_us = time_monotonic_us();
        for (size_t i = 0; i < MANY; i++)
                sandbox_destroy(pods[i].sandbox, true);
        for (size_t i = 0; i < MANY; i++)
                WAIT_FOR(pods[i].destroyed);
        print_message("%d sandboxes: ready %.1f ms, running %.1f ms, destroyed %.1f ms each\n", MANY,
                      (double)(ready_us - start_us) / MANY / 1000,
                      (double)(running_us - ready_us) / MANY / 1000,
                      (double)(time_monotonic_us() - running_us) / MANY / 1000);
        for (size_t i = 0; i < MANY; i++)
                expect_nothing(&pods[i], true);
}

static int compare_u64(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

#define ROUNDS 15

static void test_parts(void **state)
{
        uint64_t parts[5][ROUNDS];
        static const char *const names[] = { "sandbox_create() itself", "until ready",
                                             "sandbox_start_container() itself", "until running",
                                             "destroy until destroyed" };

        for (size_t i = 0; i < ROUNDS; i++) {
                Pod pod = { .id = "" };
                SandboxSpec spec = pod_spec(&pod);
                uint64_t t[6];
                Box box;
                Seen *s;

                t[0] = time_monotonic_us();
                create(&pod, &spec);
                t[1] = time_monotonic_us();
                WAIT_FOR(pod.ready);
                t[2] = time_monotonic_us();
                box_init(&box, "sleep 1000");
                s = start(&pod, &box);
                t[3] = time_monotonic_us();
                WAIT_FOR(s->state == CONTAINER_RUNNING);
                t[4] = time_monotonic_us();
                sandbox_destroy(pod.sandbox, true);
                WAIT_FOR(pod.destroyed);
                t[5] = time_monotonic_us();
                for (size_t k = 0; k < 5; k++)
                        parts[k][i] = t[k + 1] - t[k];
        }
        for (size_t k = 0; k < 5; k++) {
                qsort(parts[k], ROUNDS, sizeof(parts[k][0]), compare_u64);
                print_message("%-36s median %6.2f ms, best %6.2f ms\n", names[k],
                              (double)parts[k][ROUNDS / 2] / 1000, (double)parts[k][0] / 1000);
        }
}

static bool find_shim(void)
{
        char self[PATH_MAX];
        const char *given = getenv("KUBELITE_SHIM");
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

        if (given)
                snprintf(shim_path, sizeof(shim_path), "%s", given);
        self[n < 0 ? 0 : n] = '\0';
        dirname(self);
        for (size_t i = 0; i < 2 && !given; i++) {
                KL_AUTOFREE char *path = str_format(i ? "%s/../kubelite/shim/kubelite-shim" :
                                                        "%s/../../kubelite/shim/kubelite-shim", self);

                if (access(path, X_OK) == 0) {
                        snprintf(shim_path, sizeof(shim_path), "%s", path);
                        return true;
                }
        }
        return given && access(shim_path, X_OK) == 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_life, after_each),
                cmocka_unit_test_teardown(test_completed, after_each),
                cmocka_unit_test_teardown(test_stop, after_each),
                cmocka_unit_test_teardown(test_exec, after_each),
                cmocka_unit_test_teardown(test_oom, after_each),
                cmocka_unit_test_teardown(test_confinement, after_each),
                cmocka_unit_test_teardown(test_start_errors, after_each),
                cmocka_unit_test_teardown(test_localhost_profile, after_each),
                cmocka_unit_test_teardown(test_volume, after_each),
                cmocka_unit_test_teardown(test_privileged, after_each),
                cmocka_unit_test_teardown(test_lost_shim, after_each),
                cmocka_unit_test_teardown(test_failed, after_each),
                cmocka_unit_test_teardown(test_early_destroy, after_each),
                cmocka_unit_test_teardown(test_adopt, after_each),
                cmocka_unit_test_teardown(test_adopt_other_boot, after_each),
                cmocka_unit_test_teardown(test_parts, after_each),
                cmocka_unit_test_teardown(test_many, after_each),
        };

        if (geteuid() != 0 || access(BUSYBOX, X_OK) < 0 || !find_shim()) {
                print_message("skipped: needs root, " BUSYBOX " and the shim\n");
                return 77;
        }
        if (getenv("KUBELITE_TEST_FILTER"))
                cmocka_set_test_filter(getenv("KUBELITE_TEST_FILTER"));
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
