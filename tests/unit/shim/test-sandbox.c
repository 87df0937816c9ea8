/* SPDX-License-Identifier: Apache-2.0 */

/* Sandboxes and containers of a real shim: isolation, ends, and what hostile images try. */

#include "tests/unit/shim/harness.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/resource.h>

/* A shim without a sandbox yet. */
static int set_up_bare(void **state)
{
        *state = world_new();
        return 0;
}

static int set_up(void **state)
{
        World *w = world_new();
        ShimSandbox sandbox = sandbox_default(w);

        world_sandbox(w, &sandbox);
        *state = w;
        return 0;
}

static int tear_down(void **state)
{
        world_free(*state);
        return 0;
}

#define ARGS(...) ((char *const *)(uintptr_t)(const char *const[]){ __VA_ARGS__, NULL })

static void assert_contains(const char *text, const char *part)
{
        if (!strstr(text, part))
                fail_msg("'%s' is not in '%s'", part, text);
}

static void test_exit_code(void **state)
{
        KL_AUTOFREE char *out = run_shell(*state, "c1", "echo hello; echo err >&2; exit 3");
        ShimContainerState *c = container_of_id(*state, "c1");

        if (c->start_error)
                fail_msg("%s", c->message);
        assert_int_equal(c->exit_code, 3);
        assert_int_equal(c->signal, 0);
        assert_true(c->created_us > 0 && c->started_us >= c->created_us &&
                    c->finished_us >= c->started_us);
        assert_contains(out, "hello\n");
        assert_contains(out, "err\n");
}

static int expect_start_error(World *w, const char *id, const char *message)
{
        ShimContainerState *c;

        wait_exit(w, id);
        c = container_of_id(w, id);
        assert_int_equal(c->start_error, 1);
        assert_int_equal(c->exit_code, 128);
        assert_string_equal(c->reason, "StartError");
        if (!strstr(c->message, message))
                fail_msg("'%s' is not in '%s'", message, c->message);
        return 0;
}

static void test_missing_program(void **state)
{
        World *w = *state;
        Run run;

        run_init(w, &run, "c1", ARGS("/no/such"));
        wait_result(w, run_start(w, &run), 0);
        expect_start_error(w, "c1", "exec: \"/no/such\": stat /no/such: no such file or directory");
        run_init(w, &run, "c2", ARGS("nosuch"));
        wait_result(w, run_start(w, &run), 0);
        expect_start_error(w, "c2", "exec: \"nosuch\": executable file not found in $PATH");
        run_init(w, &run, "c3", ARGS("/etc/passwd"));
        wait_result(w, run_start(w, &run), 0);
        expect_start_error(w, "c3", "exec: \"/etc/passwd\": permission denied");
        run_init(w, &run, "c4", ARGS("/etc"));
        wait_result(w, run_start(w, &run), 0);
        expect_start_error(w, "c4", "exec: \"/etc\": is a directory");
}

static void test_isolation(void **state)
{
        KL_AUTOFREE char *out = run_shell(
                *state, "c1",
                "exec 2>/dev/null; echo pid=$$ host=$(hostname); echo fds=$(ls /proc/self/fd | tr "
                "'\\n' ' ');"
                "ip link | grep -c UP; cat /proc/sys/net/ipv4/ip_unprivileged_port_start;"
                "cat /proc/sys/net/ipv4/ping_group_range; ls / | tr '\\n' ' '; echo;"
                "grep -E 'Cap|NoNewPrivs|Groups' /proc/self/status; readlink /proc/self/cwd;"
                "echo x > /proc/sys/kernel/domainname || echo ro; ls -A /sys/firmware | wc -l;"
                "test -c /proc/version && echo masked; cat /proc/version | wc -c; echo HOME=$HOME;"
                "df -k /dev/shm | grep shm; ping -c 1 -w 2 127.0.0.1 | grep -c '1 packets "
                "received';"
                "cat /proc/self/cgroup | head -1; cat /proc/self/oom_score_adj");

        assert_contains(out, "pid=1 host=pod-host\n");
        /* The fourth is the directory that ls reads. */
        assert_contains(out, "fds=0 1 2 3\n");
        assert_contains(out, "\n1\n0\n0\t2147483647\n");
        assert_contains(out, "CapInh:\t0000000000000000\n");
        assert_contains(out, "CapPrm:\t00000000a80425fb\n");
        assert_contains(out, "CapBnd:\t00000000a80425fb\n");
        assert_contains(out, "CapAmb:\t0000000000000000\n");
        assert_contains(out, "NoNewPrivs:\t0\n");
        assert_contains(out, "\nro\n0\nmasked\n0\nHOME=/root\n");
        assert_contains(out, "65536 ");
        assert_contains(out, "1\n");
        assert_contains(out, ":/\n500\n");
}

static void test_stop(void **state)
{
        World *w = *state;
        ShimContainerState *c;
        Run run;

        run_init(w, &run, "c1",
                 ARGS("sh", "-c", "trap 'exit 7' TERM; echo up; while true; do sleep 0.05; done"));
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
        for (int i = 0; i < 200; i++) {
                KL_AUTOFREE char *text = read_text(run.log);

                if (*text)
                        break;
                usleep(10000);
        }
        wait_result(w, shim_client_stop(w->client, "c1", 10000), 0);
        wait_exit(w, "c1");
        assert_int_equal(container_of_id(w, "c1")->exit_code, 7);
        /* As pid 1 without a handler it does not hear the signal: the grace ends it. */
        run_init(w, &run, "c2", ARGS("sleep", "1000"));
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c2", SHIM_CONTAINER_RUNNING));
        wait_result(w, shim_client_stop(w->client, "c2", 60000), 0);
        wait_result(w, shim_client_stop(w->client, "c2", 100), 0);
        wait_exit(w, "c2");
        c = container_of_id(w, "c2");
        assert_int_equal(c->exit_code, 137);
        assert_int_equal(c->signal, 9);
        assert_true(c->finished_us - c->started_us < 5000000);
        wait_result(w, shim_client_stop(w->client, "nobody", 100), -ENOENT);
}

static void test_fork_bomb(void **state)
{
        World *w = *state;
        Run run;

        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "(while true; do sleep 1000 & done) & (while true; do true | true; done) & "
                      "exec sleep 1000"));
        if (w->no_controllers) {
                free_cgroups(run.cgroups, run.start.n_cgroups);
                fprintf(stderr, "\nkernel: cgroup v2 has no controllers here\n");
                skip();
        }
        set_limit(w, "pids", "c1", "pids.max", "64");
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
        for (int i = 0; i < 100 && group_count(w, "c1") < 40; i++)
                usleep(10000);
        assert_true(group_count(w, "c1") > 10);
        wait_result(w, shim_client_stop(w->client, "c1", 0), 0);
        wait_exit(w, "c1");
        assert_int_equal(group_count(w, "c1"), 0);
}

static void test_oom(void **state)
{
        World *w = *state;
        Run run;

        run_init(w, &run, "c1", ARGS("dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"));
        if (w->no_controllers) {
                free_cgroups(run.cgroups, run.start.n_cgroups);
                fprintf(stderr, "\nkernel: cgroup v2 has no controllers here\n");
                skip();
        }
        set_limit(w, "memory", "c1", w->v2 ? "memory.max" : "memory.limit_in_bytes", "20000000");
        free(run_to_end(w, &run));
        assert_int_equal(container_of_id(w, "c1")->oom_killed, 1);
        assert_int_equal(container_of_id(w, "c1")->exit_code, 137);
}

static void test_cwd(void **state)
{
        World *w = *state;
        Run run;

        run_init(w, &run, "c1", ARGS("pwd"));
        run.start.cwd = "/srv/deep/dir";
        run.start.read_only_root = true;
        {
                KL_AUTOFREE char *out = run_to_end(w, &run);

                if (container_of_id(w, "c1")->start_error)
                        fail_msg("%s", container_of_id(w, "c1")->message);
                assert_string_equal(out, "/srv/deep/dir\n");
        }
        for (int i = 0; i <= 64; i++) {
                char cwd[32], id[16];
                ShimContainerState *c;

                if (i == 16)
                        i = 60;
                snprintf(cwd, sizeof(cwd), "/proc/self/fd/%d", i);
                snprintf(id, sizeof(id), "f%d", i);
                run_init(w, &run, id, ARGS("cat", "../../../../../../etc/hostname"));
                run.start.cwd = cwd;
                free(run_to_end(w, &run));
                c = container_of_id(w, id);
                if (!c->start_error)
                        fail_msg("started in '%s'", cwd);
        }
}

static void test_credentials(void **state)
{
        World *w = *state;
        const uint32_t groups[] = { 3000 };
        KL_AUTOFREE char *out = NULL;
        ShimContainerState *c;
        Run run;

        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "id -u; id -g; id -G; grep Cap /proc/self/status; echo $HOME;"
                      "grep NoNew /proc/self/status; echo x > /dev/stdout"));
        run.start.user.image_user = "app";
        run.start.user.groups = groups;
        run.start.user.n_groups = 1;
        run.start.no_new_privs = true;
        run.start.user.non_root = true;
        out = run_to_end(w, &run);
        assert_contains(out, "1000\n1001\n1001 2000 3000\n");
        assert_contains(out, "CapPrm:\t0000000000000000\n");
        assert_contains(out, "CapEff:\t0000000000000000\n");
        assert_contains(out, "CapBnd:\t00000000a80425fb\n");
        assert_contains(out, "/home/app\nNoNewPrivs:\t1\nx\n");
        c = container_of_id(w, "c1");
        assert_int_equal(c->uid, 1000);
        assert_int_equal(c->gid, 1001);
        assert_int_equal(c->n_groups, 3);
        assert_int_equal(c->groups[1], 2000);

        run_init(w, &run, "c2", ARGS("true"));
        run.start.user.image_user = "nobody-here";
        free(run_to_end(w, &run));
        assert_string_equal(container_of_id(w, "c2")->reason, "CreateContainerError");
        assert_non_null(
                strstr(container_of_id(w, "c2")->message, "unable to find user nobody-here"));
        run_init(w, &run, "c3", ARGS("true"));
        run.start.user.non_root = true;
        free(run_to_end(w, &run));
        assert_string_equal(container_of_id(w, "c3")->reason, "CreateContainerConfigError");
}

/* Allows everything but mkdir(2) and mkdirat(2), which get EPERM. */
static void test_seccomp(void **state)
{
        World *w = *state;
        const struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdirat, 1, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdir, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };

        for (int i = 0; i < 2; i++) {
                const char *id = i ? "c1" : "c0";
                KL_AUTOFREE char *out = NULL;
                Run run;

                run_init(
                        w, &run, id,
                        ARGS("sh", "-c",
                             "mkdir /tmp/x 2>&1 || echo refused; grep Seccomp: /proc/self/status"));
                run.start.seccomp = filter;
                run.start.seccomp_size = sizeof(filter);
                run.start.no_new_privs = i;
                run.start.user.run_as_user = 1000;
                out = run_to_end(w, &run);
                assert_contains(out, "refused");
                assert_contains(out, "Seccomp:\t2");
        }
}

static void test_shared_memory(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *a =
                run_shell(w, "c1", "echo shared > /dev/shm/x; grep -c ' /dev/shm ' /proc/mounts");
        KL_AUTOFREE char *b = run_shell(w, "c2", "cat /dev/shm/x; ls /dev/mqueue | wc -l");
        KL_AUTOFREE char *host = read_text("/proc/self/mounts");

        assert_string_equal(a, "1\n");
        assert_string_equal(b, "shared\n0\n");
        assert_null(strstr(host, "overlay"));
}

static int clone_tree(const char *path)
{
        int fd = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | AT_RECURSIVE);

        assert_true(fd >= 0);
        return fd;
}

static void test_mounts(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *volume = str_format("%s/volume", w->dir);
        KL_AUTOFREE char *out = NULL, *file = NULL;
        int fds[3];
        Run run;

        mkdir(volume, 0755);
        put_file(volume, "f", "content\n", 0644);
        file = str_format("%s/f", volume);
        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "exec 2>/dev/null; cat /data/sub/f; echo more > /data/sub/g && echo written;"
                      "echo x > /ro/h || echo ro; cat /etc/special; echo x > /root-file || echo "
                      "roroot;"
                      "grep -c ' /data' /proc/mounts"));
        for (int i = 0; i < 3; i++)
                fds[i] = clone_tree(i == 2 ? file : volume);
        run.mounts[run.start.n_mounts++] = (ShimMount){
                SHIM_MOUNT_BIND, "/data/sub", fds[0], 0, SHIM_PROPAGATION_SLAVE, NULL
        };
        run.mounts[run.start.n_mounts++] = (ShimMount){
                SHIM_MOUNT_BIND, "/ro", fds[1], SHIM_MOUNT_RO | SHIM_MOUNT_RO_RECURSIVE, 0, NULL
        };
        run.mounts[run.start.n_mounts++] =
                (ShimMount){ SHIM_MOUNT_BIND, "/etc/special", fds[2], SHIM_MOUNT_RO, 0, NULL };
        run.start.read_only_root = true;
        out = run_to_end(w, &run);
        for (int i = 0; i < 3; i++)
                close(fds[i]);
        if (container_of_id(w, "c1")->start_error)
                fail_msg("%s", container_of_id(w, "c1")->message);
        assert_contains(out, "content\nwritten\n");
        assert_contains(out, "\nro\ncontent\n");
        assert_contains(out, "\nroroot\n1\n");
}

/* A mount that a container makes in a Bidirectional volume is the host's too, and the other way
 * round. */
static void test_propagation(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *volume = str_format("%s/shared", w->dir), *out = NULL;
        KL_AUTOFREE char *inner = str_format("%s/inner", volume), *file = str_format("%s/f", inner);
        KL_AUTOFREE char *outer = str_format("%s/outer", volume);
        struct stat st;
        Run run, second;

        mkdir(volume, 0755);
        assert_int_equal(mount("none", volume, "tmpfs", 0, NULL), 0);
        assert_int_equal(mount(NULL, volume, NULL, MS_SHARED, NULL), 0);
        mkdir(inner, 0755);
        mkdir(outer, 0755);
        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "mount -t tmpfs none /v/inner && touch /v/inner/f && echo mounted"));
        run.start.cap_bounding = run.start.cap_effective = ALL_CAPS;
        run.mounts[run.start.n_mounts++] =
                (ShimMount){ SHIM_MOUNT_BIND,         "/v", clone_tree(volume), 0,
                             SHIM_PROPAGATION_SHARED, NULL };
        out = run_to_end(w, &run);
        close(run.mounts[run.start.n_mounts - 1].fd);
        assert_contains(out, "mounted\n");
        assert_int_equal(stat(file, &st), 0);

        run_init(w, &second, "c2",
                 ARGS("sh", "-c",
                      "while ! test -e /v/outer/f; do sleep 0.02; done; mount -t tmpfs none "
                      "/v/outer"));
        second.start.cap_bounding = second.start.cap_effective = ALL_CAPS;
        second.mounts[second.start.n_mounts++] =
                (ShimMount){ SHIM_MOUNT_BIND,        "/v", clone_tree(volume), 0,
                             SHIM_PROPAGATION_SLAVE, NULL };
        wait_result(w, run_start(w, &second), 0);
        WAIT_FOR(w, has_state(w, "c2", SHIM_CONTAINER_RUNNING));
        close(second.mounts[second.start.n_mounts - 1].fd);
        assert_int_equal(mount("none", outer, "tmpfs", 0, NULL), 0);
        put_file(outer, "f", "", 0644);
        wait_exit(w, "c2");
        /* What the second one mounted there stays in it. */
        assert_int_equal(umount2(outer, 0), 0);
        assert_int_equal(umount2(outer, 0), -1);
        umount2(inner, MNT_DETACH);
        umount2(volume, MNT_DETACH);
}

/* More descriptors than one packet can carry, more layers than names fit into a page. */
static void test_many(void **state)
{
        enum { MOUNTS = 300, LAYERS = 127 };
        World *w = *state;
        char *layers[LAYERS + 1] = { NULL };
        ShimMount *mounts = calloc(MOUNTS + 32, sizeof(*mounts));
        KL_AUTOFREE char *volume = str_format("%s/volume", w->dir), *out = NULL;
        Run run;

        mkdir(volume, 0755);
        put_file(volume, "f", "", 0644);
        run_init(w, &run, "c1", ARGS("sh", "-c", "grep -c ' /v/' /proc/mounts; cat /l/* | wc -l"));
        memcpy(mounts, run.mounts, run.start.n_mounts * sizeof(*mounts));
        for (int i = 0; i < MOUNTS; i++)
                mounts[run.start.n_mounts++] = (ShimMount){
                        SHIM_MOUNT_BIND, str_format("/v/%d", i), clone_tree(volume), 0, 0, NULL
                };
        run.start.mounts = mounts;
        layers[0] = strdup("base");
        for (int i = 1; i < LAYERS; i++) {
                layers[i] = str_format("%064d", i);
                KL_AUTOFREE char *dir = str_format("%s/%s", w->dir, layers[i]);
                KL_AUTOFREE char *sub = str_format("%s/l", dir), *name = str_format("%d", i);

                mkdir(dir, 0755);
                mkdir(sub, 0755);
                put_file(sub, name, "x\n", 0644);
        }
        run.start.layers = layers;
        out = run_to_end(w, &run);
        if (container_of_id(w, "c1")->start_error)
                fail_msg("%s", container_of_id(w, "c1")->message);
        assert_string_equal(out, "300\n126\n");
        for (size_t i = 0; i < run.start.n_mounts; i++)
                if (mounts[i].kind == SHIM_MOUNT_BIND) {
                        close(mounts[i].fd);
                        free((char *)(uintptr_t)mounts[i].target);
                }
        for (int i = 0; i < LAYERS; i++)
                free(layers[i]);
        free(mounts);
}

/* Images whose mount points are links to what is the host's, or should be. */
static void test_link_images(void **state)
{
        static const char *const points[] = { "proc", "sys", "dev" };
        World *w = *state;

        for (size_t i = 0; i < ELEMENTS(points); i++) {
                KL_AUTOFREE char *layer = str_format("%s/evil%zu", w->dir, i);
                KL_AUTOFREE char *link = str_format("%s/%s", layer, points[i]);
                char name[16], id[16];
                char *layers[] = { (char *)"base", name, NULL };
                Run run;

                snprintf(name, sizeof(name), "evil%zu", i);
                snprintf(id, sizeof(id), "e%zu", i);
                mkdir(layer, 0755);
                assert_int_equal(symlink("/etc", link), 0);
                run_init(w, &run, id, ARGS("true"));
                run.start.layers = layers;
                free(run_to_end(w, &run));
                expect_start_error(w, id, "is a symbolic link");
        }
        assert_int_equal(access("/etc/passwd", F_OK), 0);
}

/* Volume targets through links stay in the root; magic links and /proc are refused. */
static void test_link_targets(void **state)
{
        static const struct {
                const char *link, *to, *target;
                bool works;
        } cases[] = {
                { "abs", "/../../../../tmp", "/abs/made-by-kubelite-test", true },
                { "up", "../../../../..", "/up/made-by-kubelite-test", true },
                { "magic", "/proc/1/root", "/magic/tmp/made-by-kubelite-test", false },
                { "fd", "/proc/self/fd/0", "/fd", false },
                { "pr", "/proc/sys", "/pr/kernel", false },
                { "pc", "/proc", "/pc/made", false },
        };
        World *w = *state;
        KL_AUTOFREE char *volume = str_format("%s/volume", w->dir),
                         *layer = str_format("%s/links", w->dir);

        mkdir(volume, 0755);
        mkdir(layer, 0755);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOFREE char *link = str_format("%s/%s", layer, cases[i].link);
                char *layers[] = { (char *)"base", (char *)"links", NULL };
                ShimContainerState *c;
                char id[16];
                Run run;
                int fd;

                assert_int_equal(symlink(cases[i].to, link), 0);
                snprintf(id, sizeof(id), "t%zu", i);
                run_init(w, &run, id, ARGS("true"));
                run.start.layers = layers;
                fd = clone_tree(volume);
                run.mounts[run.start.n_mounts++] =
                        (ShimMount){ SHIM_MOUNT_BIND, cases[i].target, fd, 0, 0, NULL };
                free(run_to_end(w, &run));
                close(fd);
                c = container_of_id(w, id);
                if (c->start_error == cases[i].works)
                        fail_msg("%s: %s", cases[i].target, c->message);
        }
        assert_int_equal(access("/tmp/made-by-kubelite-test", F_OK), -1);
        assert_int_equal(access("/made-by-kubelite-test", F_OK), -1);
}

static void test_devices(void **state)
{
        World *w = *state;
        const ShimDevice devices[] = { { "/dev/net/tun", 'c', 10, 200, 0666, 0, 0 } };
        KL_AUTOFREE char *out = NULL;
        Run run;

        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "for d in null zero full random urandom tty net/tun; do test -c /dev/$d && "
                      "echo -n $d; done; echo;"
                      "echo hi > /dev/null && head -c 3 /dev/zero | wc -c; readlink /dev/fd;"
                      "ls /dev | tr '\\n' ' '"));
        run.start.devices = devices;
        run.start.n_devices = 1;
        out = run_to_end(w, &run);
        assert_contains(out, "nullzerofullrandomurandomttynet/tun\n3\n/proc/self/fd\n");
        assert_contains(
                out,
                "fd full mqueue net null ptmx pts random shm stderr stdin stdout tty urandom zero");
}

static void test_limits(void **state)
{
        World *w = *state;
        const ShimRlimit limits[] = { { RLIMIT_NOFILE, 123, 456 }, { RLIMIT_CORE, 0, 0 } };
        KL_AUTOFREE char *out = NULL;
        Run run;

        run_init(w, &run, "c1", ARGS("sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c"));
        run.start.rlimits = limits;
        run.start.n_rlimits = 2;
        out = run_to_end(w, &run);
        assert_string_equal(out, "123\n456\n0\n");
}

/* The shim and what it keeps must not be in a container's reach, even with the host's pids. */
static void test_host_pid(void **state)
{
        World *w = *state;
        ShimSandbox sandbox = sandbox_default(w);
        KL_AUTOFREE char *script = NULL, *out = NULL;
        Run run;

        sandbox.host_pid = true;
        world_sandbox(w, &sandbox);
        script = str_format("exec 2>/dev/null; p=%d; test -d /proc/$p && echo seen; readlink "
                            "/proc/$p/exe || echo noexe;"
                            "ls /proc/$p/root || echo noroot; readlink /proc/$p/fd/3 || echo nofd; "
                            "cat /proc/$p/environ || echo noenv",
                            shim_client_pid(w->client));
        out = run_shell(w, "c1", script);
        assert_string_equal(out, "seen\nnoexe\nnoroot\nnofd\nnoenv\n");
        /* What double-forks away ends with its container. */
        run_init(w, &run, "c2",
                 ARGS("sh", "-c",
                      "setsid sh -c 'setsid sleep 1000 & sleep 1000 &' & sleep 0.2; exit 0"));
        free(run_to_end(w, &run));
        assert_int_equal(container_of_id(w, "c2")->exit_code, 0);
        assert_int_equal(group_count(w, "c2"), 0);
}

static void test_shared_pid(void **state)
{
        World *w = *state;
        ShimSandbox sandbox = sandbox_default(w);
        KL_AUTOFREE char *out = NULL;
        Run run;

        sandbox.share_pid = true;
        world_sandbox(w, &sandbox);
        assert_true(w->sandbox.init_pid > 0);
        run_init(w, &run, "c1", ARGS("sleep", "1000"));
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
        out = run_shell(
                w, "c2",
                "exec 2>/dev/null; ps | grep -c 'sleep 1000'; ls /proc/1/root/ || echo noroot; "
                "readlink /proc/1/fd/0 || echo nofd;"
                "cat /proc/1/root/etc/shadow || echo noshadow; readlink /proc/1/exe || echo noexe;"
                "grep -E '^(Uid|Cap(Prm|Eff|Bnd)|NoNewPrivs|Groups)' /proc/1/status; kill -9 1;"
                "sh -c 'sh -c \"sleep 0.1\" & exit 0'; sleep 0.3; echo zombies=$(cat "
                "/proc/[0-9]*/stat | grep -c ') Z')");
        assert_contains(out, "noroot\nnofd\nnoshadow\nnoexe\n");
        assert_contains(out, "Uid:\t65535\t65535\t65535\t65535\n");
        assert_contains(out, "CapBnd:\t0000000000000000\n");
        assert_contains(out, "zombies=0\n");
        assert_int_equal(container_of_id(w, "c1")->state, SHIM_CONTAINER_RUNNING);
        wait_result(w, shim_client_stop(w->client, "c1", 0), 0);
        wait_exit(w, "c1");
}

static void test_user_namespace(void **state)
{
        World *w = *state;
        ShimSandbox sandbox = sandbox_default(w);
        const ShimIdMap map = { 0, 200000, 65536 };
        KL_AUTOFREE char *out = NULL, *volume = str_format("%s/volume", w->dir);
        struct stat st;
        int fd;
        Run run;

        sandbox.uid_maps = sandbox.gid_maps = &map;
        sandbox.n_uid_maps = sandbox.n_gid_maps = 1;
        world_sandbox(w, &sandbox);
        mkdir(volume, 0700);
        run_init(w, &run, "c1",
                 ARGS("sh", "-c",
                      "cat /proc/self/uid_map; id -u; stat -c %u /bin/busybox / /dev /dev/null "
                      "/data;"
                      "echo x > /tmp/f && echo wrote; echo y > /dev/null && echo null; echo z > "
                      "/data/f && echo data;"
                      "ip link | grep -c UP; hostname; mount -t tmpfs none /tmp && echo mounted; "
                      "touch /dev/shm/a && echo shm;"
                      "ls /proc/self/fd | wc -l; grep -c cgroup /proc/mounts"));
        fd = clone_tree(volume);
        run.mounts[run.start.n_mounts++] =
                (ShimMount){ SHIM_MOUNT_BIND, "/data", fd, SHIM_MOUNT_IDMAP, 0, NULL };
        run.start.cap_bounding = run.start.cap_effective = ALL_CAPS;
        out = run_to_end(w, &run);
        close(fd);
        if (container_of_id(w, "c1")->start_error)
                fail_msg("%s", container_of_id(w, "c1")->message);
        assert_contains(out, "200000");
        assert_contains(out,
                        "\n0\n0\n0\n0\n0\n0\nwrote\nnull\ndata\n1\npod-host\nmounted\nshm\n4\n");
        {
                KL_AUTOFREE char *file = str_format("%s/f", volume),
                                 *upper = str_format("%s/upper/tmp/f", run.rw);

                assert_int_equal(stat(file, &st), 0);
                assert_int_equal(st.st_uid, 0);
                assert_int_equal(stat(upper, &st), 0);
                assert_int_equal(st.st_uid, 200000);
        }
}

static void test_user_namespace_shared_pid(void **state)
{
        World *w = *state;
        ShimSandbox sandbox = sandbox_default(w);
        const ShimIdMap map = { 0, 200000, 65536 };
        KL_AUTOFREE char *out = NULL;

        sandbox.uid_maps = sandbox.gid_maps = &map;
        sandbox.n_uid_maps = sandbox.n_gid_maps = 1;
        sandbox.share_pid = true;
        world_sandbox(w, &sandbox);
        out = run_shell(w, "c1",
                        "grep ^Uid /proc/1/status; ls /proc/1/root/ || echo noroot; exit 4");
        assert_contains(out, "Uid:\t65535");
        assert_contains(out, "noroot");
        assert_int_equal(container_of_id(w, "c1")->exit_code, 4);
}

static void test_host_namespaces(void **state)
{
        World *w = *state;
        ShimSandbox sandbox = sandbox_default(w);
        KL_AUTOFREE char *out = NULL;
        char host[65];

        sandbox.host_network = sandbox.host_ipc = true;
        world_sandbox(w, &sandbox);
        assert_string_equal(w->sandbox.netns_path, "");
        out = run_shell(w, "c1",
                        "hostname; for n in net ipc uts; do readlink /proc/self/ns/$n; done");
        gethostname(host, sizeof(host));
        assert_memory_equal(out, host, strlen(host));
        for (int i = 0; i < 3; i++) {
                char path[32], link[64];
                ssize_t n;

                snprintf(path, sizeof(path), "/proc/self/ns/%s",
                         i == 0   ? "net"
                         : i == 1 ? "ipc"
                                  : "uts");
                n = readlink(path, link, sizeof(link) - 1);
                assert_true(n > 0);
                link[n] = '\0';
                assert_contains(out, link);
        }
}

static void test_sysctls(void **state)
{
        World *w = *state;
        ShimSandbox sandbox = sandbox_default(w);
        const ShimSysctl sysctls[] = { { "net.ipv4.ip_unprivileged_port_start", "1000" },
                                       { "kernel.shm_rmid_forced", "1" } };
        KL_AUTOFREE char *out = NULL;

        sandbox.sysctls = sysctls;
        sandbox.n_sysctls = 2;
        world_sandbox(w, &sandbox);
        out = run_shell(w, "c1",
                        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start "
                        "/proc/sys/kernel/shm_rmid_forced");
        assert_string_equal(out, "1000\n1\n");
}

static void test_bad_sandbox(void **state)
{
        World *w = *state;
        ShimSandbox sandbox = sandbox_default(w);
        const ShimSysctl sysctl = { "net/../../../etc/passwd", "1" };

        sandbox.sysctls = &sysctl;
        sandbox.n_sysctls = 1;
        wait_result(w, shim_client_sandbox(w->client, &sandbox), 0);
        WAIT_FOR(w, w->have_sandbox);
        assert_int_equal(w->sandbox.state, SHIM_SANDBOX_FAILED);
        assert_non_null(strstr(w->sandbox.message, "is no name"));
}

/* Half-made is not made: nothing stays pinned, and nothing can be started. */
static void test_bad_cgroup(void **state)
{
        const ShimCgroup nowhere = { SHIM_CGROUP_FREEZER, "freezer",
                                     "/sys/fs/cgroup/no/such/group" };
        World *w = *state;
        ShimSandbox sandbox = sandbox_default(w);
        Run run;

        sandbox.cgroups = &nowhere;
        sandbox.n_cgroups = 1;
        wait_result(w, shim_client_sandbox(w->client, &sandbox), -ENOENT);
        run_init(w, &run, "c1", ARGS("true"));
        wait_result(w, run_start(w, &run), -EAGAIN);
}

/* The exit is on disk before it is told, and the daemon may come back for it. */
static void test_reconnect(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *exit_path = str_format("%s/containers/c1/exit", w->state);
        KL_AUTOFREE char *text = NULL;
        ShimContainerState parsed;
        struct stat st;
        char socket_path[128];
        Run run;

        snprintf(socket_path, sizeof(socket_path), "%s/shim.sock", w->state);
        assert_int_equal(stat(socket_path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        run_init(w, &run, "c1", ARGS("sh", "-c", "sleep 0.3; exit 5"));
        wait_result(w, run_start(w, &run), 0);
        run_init(w, &run, "c2", ARGS("sleep", "1000"));
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c2", SHIM_CONTAINER_RUNNING));
        kill(shim_client_pid(w->client), SIGTERM);
        kill(shim_client_pid(w->client), SIGHUP);
        w->client = shim_client_free(w->client);
        for (int i = 0; i < 400 && access(exit_path, F_OK) < 0; i++)
                usleep(10000);
        text = read_text(exit_path);
        assert_int_equal(shim_exit_parse(text, strlen(text), &parsed), 0);
        assert_string_equal(parsed.id, "c1");
        assert_int_equal(parsed.exit_code, 5);
        w->synced = w->have_sandbox = false;
        w->n_containers = 0;
        assert_int_equal(shim_client_connect(w->loop, w->state, &world_events, w, &w->client, NULL),
                         0);
        WAIT_FOR(w, w->synced);
        assert_true(w->have_sandbox);
        assert_int_equal(w->n_containers, 2);
        assert_int_equal(container_of_id(w, "c1")->state, SHIM_CONTAINER_EXITED);
        assert_int_equal(container_of_id(w, "c1")->exit_code, 5);
        assert_int_equal(container_of_id(w, "c2")->state, SHIM_CONTAINER_RUNNING);
        wait_result(w, shim_client_forget(w->client, "c2"), -EBUSY);
        wait_result(w, shim_client_forget(w->client, "c1"), 0);
        wait_result(w, shim_client_forget(w->client, "c1"), 0);
        assert_int_equal(access(exit_path, F_OK), -1);
        /* The same id may be used again. */
        w->n_containers = 0;
        run_init(w, &run, "c1", ARGS("true"));
        free(run_to_end(w, &run));
        assert_int_equal(container_of_id(w, "c1")->exit_code, 0);
}

/* A daemon that does not read must not stop anything, and hears the end of it later. */
static void test_slow_daemon(void **state)
{
        World *w = *state;
        char id[16];
        Run run;

        for (int i = 0; i < 60; i++) {
                snprintf(id, sizeof(id), "s%d", i);
                run_init(w, &run, id, ARGS("true"));
                assert_true(run_start(w, &run) > 0);
        }
        /* Not a turn of the loop until all are over. */
        for (int i = 0; i < 1000; i++) {
                KL_AUTOFREE char *last = str_format("%s/containers/s20/exit", w->state);

                if (access(last, F_OK) == 0)
                        break;
                usleep(10000);
        }
        for (int i = 0; i < 60; i++) {
                snprintf(id, sizeof(id), "s%d", i);
                wait_exit(w, id);
                assert_int_equal(container_of_id(w, id)->exit_code, 0);
        }
}

/* Nothing of a killed shim is in the way of who cleans up: killing the cgroups is enough. */
static void test_killed_shim(void **state)
{
        World *w = *state;
        Run run;

        run_init(w, &run, "c1", ARGS("sh", "-c", "sleep 1000 & sleep 1000"));
        wait_result(w, run_start(w, &run), 0);
        WAIT_FOR(w, has_state(w, "c1", SHIM_CONTAINER_RUNNING));
        kill(shim_client_pid(w->client), SIGKILL);
        WAIT_FOR(w, w->lost);
        for (size_t i = 0; i < w->n_roots; i++) {
                ShimCgroup group = { w->v2 ? SHIM_CGROUP_UNIFIED : SHIM_CGROUP_FREEZER, "",
                                     w->roots[i] };
                KL_AUTOFREE char *procs = str_format("%s/c1/cgroup.procs", w->roots[i]);

                if (!w->v2 && !str_eq(w->names[i], "freezer"))
                        continue;
                for (int k = 0; k < 100 && group_count(w, "c1") > 0; k++) {
                        KL_AUTOFREE char *text = read_text(procs);

                        for (char *p = text; *p; p = strchr(p, '\n') + 1)
                                kill((pid_t)strtoul(p, NULL, 10), SIGKILL);
                        usleep(10000);
                }
                assert_true(group.path != NULL);
        }
        assert_int_equal(group_count(w, "c1"), 0);
        for (int i = 0; i < 200 && group_count(w, "shim") > 0; i++)
                usleep(10000);
        assert_int_equal(group_count(w, "shim"), 0);
        umount2(w->netns, MNT_DETACH);
        unlink(w->netns);
        for (int i = 0; i < 2; i++) {
                KL_AUTOFREE char *pin = str_format("%s/%s", w->state, i ? "ipc" : "uts");

                umount2(pin, MNT_DETACH);
        }
        {
                KL_AUTOERR err = NULL;
                ShimClient *client;

                assert_int_equal(
                        shim_client_connect(w->loop, w->state, &world_events, w, &client, &err),
                        -ECONNREFUSED);
        }
}

/* `#!/proc/self/exe` runs what the set-up ran; it must not be a file that can be written. */
static void test_own_program(void **state)
{
        World *w = *state;
        KL_AUTOFREE char *layer = str_format("%s/selfexe", w->dir);
        char *layers[] = { (char *)"base", (char *)"selfexe", NULL };
        Run run;

        mkdir(layer, 0755);
        put_file(layer, "run", "#!/proc/self/exe\n", 0755);
        run_init(w, &run, "c1", ARGS("/run"));
        run.start.layers = layers;
        free(run_to_end(w, &run));
        /* It ran as itself, without its descriptors, and said so. */
        assert_int_not_equal(container_of_id(w, "c1")->exit_code, 0);
        {
                KL_AUTOFREE char *exe = str_format("/proc/%d/exe", shim_client_pid(w->client));

                assert_int_equal(open(exe, O_WRONLY | O_CLOEXEC), -1);
                assert_true(errno == ETXTBSY || errno == EPERM || errno == EACCES);
                assert_int_equal(write(w->program_fd, "x", 1), -1);
                assert_int_equal(errno, EPERM);
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_exit_code, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_missing_program, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_isolation, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_stop, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_fork_bomb, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_oom, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_cwd, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_credentials, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_seccomp, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_shared_memory, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_mounts, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_propagation, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_link_images, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_link_targets, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_devices, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_host_pid, set_up_bare, tear_down),
                cmocka_unit_test_setup_teardown(test_shared_pid, set_up_bare, tear_down),
                cmocka_unit_test_setup_teardown(test_user_namespace, set_up_bare, tear_down),
                cmocka_unit_test_setup_teardown(test_user_namespace_shared_pid, set_up_bare,
                                                tear_down),
                cmocka_unit_test_setup_teardown(test_host_namespaces, set_up_bare, tear_down),
                cmocka_unit_test_setup_teardown(test_sysctls, set_up_bare, tear_down),
                cmocka_unit_test_setup_teardown(test_bad_sandbox, set_up_bare, tear_down),
                cmocka_unit_test_setup_teardown(test_bad_cgroup, set_up_bare, tear_down),
                cmocka_unit_test_setup_teardown(test_reconnect, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_slow_daemon, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_killed_shim, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_own_program, set_up, tear_down),
        };
        int failed;

        if (geteuid() != 0)
                return SKIPPED;
        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        /* A machine of v1 shows both. */
        if (access("/sys/fs/cgroup/unified/cgroup.controllers", F_OK) == 0 &&
            access("/sys/fs/cgroup/cgroup.controllers", F_OK) < 0) {
                setenv("KUBELITE_TEST_UNIFIED", "1", 1);
                failed += cmocka_run_group_tests_name("unified", tests, NULL, NULL);
        }
        return failed;
}
