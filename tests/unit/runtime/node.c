/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A small node for the tests of the runtime: a layer with busybox, a runtime on directories and a
 * group of its own, and what is needed to run containers and to see that nothing is left of them.
 */

#include "tests/unit/runtime/node.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <sys/stat.h>

#define BUSYBOX "/bin/busybox"

char base[128];
Loop *loop;
Runtime *runtime;
bool timed_out;

static char cgroup_root[64], shim_path[PATH_MAX];

void on_wait_timeout(Timer *timer, void *data)
{
        timed_out = true;
}

Seen *seen_of(Pod *pod, const char *id)
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

static void on_refused(Sandbox *sandbox, const char *id, const KlError *error, void *data)
{
        Pod *pod = data;

        snprintf(pod->refused, sizeof(pod->refused), "%s", id);
        snprintf(pod->refusal, sizeof(pod->refusal), "%s", error->reason);
        snprintf(pod->error, sizeof(pod->error), "%s", kl_error_msg(error));
}

static void on_lost(Sandbox *sandbox, void *data)
{
        ((Pod *)data)->lost = true;
}

static void on_destroyed(Sandbox *sandbox, void *data)
{
        ((Pod *)data)->destroyed = true;
}

const SandboxEvents node_events = {
        .ready = on_ready,
        .failed = on_failed,
        .container_changed = on_changed,
        .container_refused = on_refused,
        .lost = on_lost,
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
        static const char *const tools[] = { "sh",     "echo",     "sleep", "cat",   "mknod",
                                             "tail",   "id",       "true",  "mount", "ls",
                                             "touch",  "hostname", "dd",    "head",  "yes",
                                             "setsid", "grep",     "stat",  "mkdir" };
        static const char passwd[] =
                "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
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

void runtime_up(void)
{
        KL_AUTOFREE char *state = str_format("%s/state", base), *data = str_format("%s/data", base);
        KL_AUTOFREE char *layers = str_format("%s/layers", base),
                         *seccomp = str_format("%s/seccomp", base);
        RuntimeOptions options = { .state_dir = state,
                                   .data_dir = data,
                                   .layers_dir = layers,
                                   .seccomp_dir = seccomp,
                                   .shim_path = shim_path,
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

bool gc_idle(void)
{
        return !runtime->gc_worker && list_empty(&runtime->gc_queue);
}

/* What a failed test left: its Pod is gone, so nobody is told. */
static void destroy_rest(void)
{
        static Pod nobody;
        Sandbox *s;

        for (size_t i = 0; map_next(runtime->sandboxes, &i, NULL, &s);) {
                sandbox_set_events(s, &node_events, &nobody);
                nobody.n_seen = 0;
                sandbox_destroy(s, true);
        }
        WAIT_FOR(map_len(runtime->sandboxes) == 0);
}

int after_each(void **state)
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

SandboxSpec pod_spec(Pod *pod)
{
        if (!pod->id[0]) {
                random_hex(pod->id, 32);
                random_hex(pod->uid, 16);
        }
        return (SandboxSpec){ .id = pod->id,
                              .pod_uid = pod->uid,
                              .pod_namespace = "ns",
                              .pod_name = "pod",
                              .hostname = "box",
                              .qos = QOS_BURSTABLE,
                              .resources = { .cpu_shares = 200 } };
}

void create(Pod *pod, const SandboxSpec *spec)
{
        KL_AUTOERR err = NULL;

        if (sandbox_create(runtime, spec, &node_events, pod, &pod->sandbox, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_false(pod->ready);
}

void up(Pod *pod)
{
        SandboxSpec spec = pod_spec(pod);

        create(pod, &spec);
        WAIT_FOR(pod->ready || pod->failed);
        if (pod->failed)
                fail_msg("%s", pod->error);
}

/* Nothing is left of a pod. */
void expect_nothing(const Pod *pod, bool records)
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

void down(Pod *pod)
{
        sandbox_destroy(pod->sandbox, true);
        WAIT_FOR(pod->destroyed);
        expect_nothing(pod, true);
}

/* --- containers --- */

static char *const layers[] = { (char *)"l0", NULL };
static char *const env[] = { (char *)"PATH=/bin", NULL };

void box_init(Box *box, const char *script)
{
        random_hex(box->id, 32);
        snprintf(box->log, sizeof(box->log), "%s/%s.log", base, box->id);
        box->args[0] = (char *)"/bin/sh";
        box->args[1] = (char *)"-c";
        box->args[2] = (char *)script;
        box->args[3] = NULL;
        box->spec = (ContainerSpec){
                .id = box->id,
                .name = "c",
                .image = "img",
                .image_id = "i",
                .image_ref = "r",
                .spec_hash = "h",
                .layers = layers,
                .args = box->args,
                .env = env,
                .cwd = "",
                .run_as_user = -1,
                .run_as_group = -1,
                .allow_privilege_escalation = true,
                .seccomp = SECCOMP_RUNTIME_DEFAULT,
                .log_path = box->log,
        };
}

Seen *start(Pod *pod, Box *box)
{
        KL_AUTOERR err = NULL;
        Seen *s = seen_of(pod, box->id);

        if (sandbox_start_container(pod->sandbox, &box->spec, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_int_equal(s->changes, 0);
        return s;
}

Seen *run_to_end(Pod *pod, Box *box)
{
        Seen *s = start(pod, box);

        WAIT_FOR(s->state == CONTAINER_EXITED);
        return s;
}

/* The log's lines without their heads, joined. */
char *log_of(const Box *box)
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

bool log_has(const Box *box, const char *text)
{
        KL_AUTOFREE char *log = log_of(box);

        return strstr(log, text) != NULL;
}

void expect_log(const Box *box, const char *text)
{
        uint64_t end = time_monotonic_ms() + 3000;

        while (!log_has(box, text) && time_monotonic_ms() < end)
                usleep(2000);
        if (!log_has(box, text)) {
                KL_AUTOFREE char *log = log_of(box);

                fail_msg("'%s' is not in the log: %s", text, log);
        }
}

/* One turn that ends even if nothing happens. */
void turn(void)
{
        Timer *timer = timer_new(loop, on_wait_timeout, NULL);

        timer_start(timer, 50);
        loop_turn(loop, true);
        timer_free(timer);
}

bool alive(pid_t pid)
{
        KL_AUTOFREE char *path = str_format("/proc/%d/stat", pid), *text = NULL;
        const char *state;

        if (file_read(path, 4096, &text, NULL) < 0)
                return false;
        state = strrchr(text, ')');
        return state && state[2] != 'Z' && state[2] != 'X';
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
                KL_AUTOFREE char *path = str_format(i ? "%s/../kubelite/shim/kubelite-shim"
                                                      : "%s/../../kubelite/shim/kubelite-shim",
                                                    self);

                if (access(path, X_OK) == 0) {
                        snprintf(shim_path, sizeof(shim_path), "%s", path);
                        return true;
                }
        }
        return given && access(shim_path, X_OK) == 0;
}

int run_on_node(const struct CMUnitTest *tests, size_t n)
{
        if (geteuid() != 0 || access(BUSYBOX, X_OK) < 0 || !find_shim()) {
                print_message("skipped: needs root, " BUSYBOX " and the shim\n");
                return 77;
        }
        if (getenv("KUBELITE_TEST_FILTER"))
                cmocka_set_test_filter(getenv("KUBELITE_TEST_FILTER"));
        return _cmocka_run_group_tests("runtime", tests, n, set_up, tear_down);
}
