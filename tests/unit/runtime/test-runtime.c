/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The whole runtime against the real kernel and the real shim (KUBELITE_SHIM, or the one in the
 * build tree). Every test ends with nothing left of its pods: no process, mount, group or file.
 */

#include "tests/unit/runtime/node.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

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
        /* Before or after its program was reached. */
        assert_true(c->exit_code == 137 || c->exit_code == 128);
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

static void exec_in(Pod *pod, const char *id, const char *script, uint64_t timeout_ms,
                    size_t out_max, Ran *ran)
{
        char *args[] = { (char *)"/bin/sh", (char *)"-c", (char *)script, NULL };
        ExecSpec spec = { .args = args,
                          .stdin_fd = -1,
                          .stdout_fd = -1,
                          .stderr_fd = -1,
                          .out_max = out_max,
                          .timeout_ms = timeout_ms,
                          .done = on_exec,
                          .data = ran };
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
        ExecSpec spec = { .args = args,
                          .stdin_fd = -1,
                          .stdout_fd = -1,
                          .stderr_fd = -1,
                          .out_max = 100,
                          .done = on_exec,
                          .data = &ran };

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

/* Files and volumes are opened in a worker: the refusal comes later, and there never was a
 * container. */
static void refuse(Pod *pod, Box *box, const char *reason, const char *text)
{
        KL_AUTOERR err = NULL;
        ContainerInfo info;

        pod->refused[0] = '\0';
        if (sandbox_start_container(pod->sandbox, &box->spec, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        WAIT_FOR(pod->refused[0]);
        assert_string_equal(pod->refused, box->id);
        assert_string_equal(pod->refusal, reason);
        if (!strstr(pod->error, text))
                fail_msg("'%s' is not in '%s'", text, pod->error);
        assert_false(sandbox_container(pod->sandbox, box->id, &info));
}

static void test_start_errors(void **state)
{
        Pod pod = { .id = "" };
        Box box;
        Seen *s;
        KL_AUTOERR err = NULL;

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
        refuse(&pod, &box, "CreateContainerError", "open the volume '/no/such'");
        down(&pod);
}

/* Beneath the volume, whatever its content does. */
static void test_sub_paths(void **state)
{
        static const char *const bad[] = { "../x", "a/../../x", "/etc" };
        KL_AUTOFREE char *dir = str_format("%s/sub", base);
        KL_AUTOFREE char *link = str_format("%s/sub/out", base);
        KL_AUTOFREE char *file = str_format("%s/sub/file", base);
        KL_AUTOFREE char *fresh = str_format("%s/fresh", base);
        KL_AUTOFREE char *text = str_format("%s/text/hosts", base);
        KL_AUTOFD int opened = -1;
        Pod pod = { .id = "" };
        KL_AUTOERR err = NULL;
        Box box;

        assert_int_equal(dir_make_all(dir, 0755), 0);
        assert_int_equal(symlink("/", link), 0);
        assert_int_equal(file_replace(file, "", 0, 0644, false), 0);
        opened = open(dir, O_PATH | O_CLOEXEC);
        up(&pod);
        box_init(&box, "touch /x/made; ls /y; cat /t");
        box.spec.mounts = (MountSpec[]){
                { dir, -1, "/x", false, false, PROPAGATION_NONE, "a/b" },
                { "y", opened, "/y", false, false, PROPAGATION_NONE, "out" },
                { text, -1, "/t", false, false, PROPAGATION_NONE, NULL },
        };
        box.spec.n_mounts = 3;
        box.spec.files = (FileSpec[]){ { FILE_TEXT, text, "written" } };
        box.spec.n_files = 1;
        run_to_end(&pod, &box);
        expect_log(&box, "a\nfile\nout\nwritten");
        box_init(&box, "true");
        box.spec.files = (FileSpec[]){ { FILE_FRESH, fresh, NULL } };
        box.spec.n_files = 1;
        box.spec.mounts =
                &(MountSpec){ dir, -1, "/x", false, false, PROPAGATION_NONE, "file/beneath" };
        box.spec.n_mounts = 1;
        refuse(&pod, &box, "CreateContainerConfigError", "subPath 'file/beneath'");
        assert_int_equal(access(fresh, F_OK), -1);
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                box_init(&box, "true");
                box.spec.n_mounts = 1;
                box.spec.mounts =
                        &(MountSpec){ dir, -1, "/x", false, false, PROPAGATION_NONE, bad[i] };
                assert_true(sandbox_start_container(pod.sandbox, &box.spec, &err) < 0);
                assert_string_equal(err->reason, "CreateContainerConfigError");
                err = kl_error_free(err);
        }
        down(&pod);
}

static void test_localhost_profile(void **state)
{
        static const char profile[] = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{"
                                      "\"names\":[\"mkdir\",\"mkdirat\"],"
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
        KL_AUTOFREE char *dir = str_format("%s/volume", base),
                         *file = str_format("%s/volume/f", base);
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
        box_init(&box,
                 "grep -E 'CapEff|Seccomp:' /proc/self/status; ls -l /dev/kmsg;"
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

static void read_until(int fd, const char *text)
{
        char got[256] = "";
        size_t n = 0;

        while (!strstr(got, text) && n < sizeof(got) - 1) {
                ssize_t r = read(fd, got + n, sizeof(got) - 1 - n);

                if (r <= 0)
                        fail_msg("'%s' did not come, only '%s'", text, got);
                n += (size_t)r;
                got[n] = '\0';
        }
}

/* Standard input by attachment, usage, and a log that is moved away. */
static void test_streams(void **state)
{
        KL_AUTOFD int log_fd = -1;
        KL_AUTOFREE char *moved = NULL;
        Pod pod = { .id = "" };
        CgroupStats stats;
        Box box;
        Seen *s;
        int in[2], out[2];

        up(&pod);
        box_init(&box, "echo first; while read line; do echo got $line; done; exit 2");
        box.spec.stdin_open = true;
        box.spec.stdin_once = true;
        s = start(&pod, &box);
        WAIT_FOR(s->state == CONTAINER_RUNNING);
        expect_log(&box, "first");
        assert_int_equal(sandbox_stats(pod.sandbox, box.id, CGROUP_STATS_SUMMARY, &stats), 0);
        assert_true(stats.pids > 0 && stats.memory_usage_bytes > 0);
        assert_int_equal(sandbox_stats(pod.sandbox, NULL, CGROUP_STATS_SUMMARY, &stats), 0);
        assert_true(stats.cpu_usage_ns > 0);
        moved = str_format("%s.1", box.log);
        assert_int_equal(rename(box.log, moved), 0);
        log_fd = open(box.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        assert_int_equal(sandbox_reopen_log(pod.sandbox, box.id, log_fd), 0);
        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        assert_int_equal(sandbox_attach(pod.sandbox, box.id, in[0], out[1], -1), 0);
        for (int i = 0; i < 5; i++)
                turn();
        close(in[0]);
        close(out[1]);
        assert_int_equal(write(in[1], "x\n", 2), 2);
        read_until(out[0], "got x");
        close(in[1]);
        WAIT_FOR(s->state == CONTAINER_EXITED);
        assert_int_equal(s->exit_code, 2);
        expect_log(&box, "got x");
        assert_false(log_has(&box, "first"));
        assert_int_equal(sandbox_stats(pod.sandbox, box.id, CGROUP_STATS_BASIC, &stats), -ENOENT);
        close(out[0]);
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
        print_message("%d sandboxes: ready %.1f ms, running %.1f ms, destroyed %.1f ms each\n",
                      MANY, (double)(ready_us - start_us) / MANY / 1000,
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
                cmocka_unit_test_teardown(test_sub_paths, after_each),
                cmocka_unit_test_teardown(test_privileged, after_each),
                cmocka_unit_test_teardown(test_streams, after_each),
                cmocka_unit_test_teardown(test_failed, after_each),
                cmocka_unit_test_teardown(test_early_destroy, after_each),
                cmocka_unit_test_teardown(test_parts, after_each),
                cmocka_unit_test_teardown(test_many, after_each),
        };

        return run_on_node(tests, ELEMENTS(tests));
}
