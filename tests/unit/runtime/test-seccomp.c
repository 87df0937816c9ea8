/* SPDX-License-Identifier: Apache-2.0 */

/* Filters are judged by what the kernel makes of them: a child runs under each. */

#include "runtime/seccomp-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "runtime/caps-internal.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cmocka.h>

typedef struct Call {
        long nr, args[6];
} Call;

#define DONE 200

/* errno of the call under the filter, 0 if it succeeded. */
static int run_under(const Buf *program, const Call *call)
{
        struct sock_fprog prog = {
                .len = (unsigned short)(program->len / sizeof(struct sock_filter)),
                .filter = (struct sock_filter *)program->data,
        };
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                long r;

                if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
                        syscall(SYS_exit_group, 255);
                r = syscall(call->nr, call->args[0], call->args[1], call->args[2], call->args[3],
                            call->args[4], call->args[5]);
                syscall(SYS_exit_group, r < 0 ? errno : 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_not_equal(WEXITSTATUS(status), 255);
        return WEXITSTATUS(status);
}

static void compile_default(uint64_t bounding, Buf *to)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        SeccompProfile *profile = seccomp_default_profile(arena, bounding);

        assert_non_null(profile);
        assert_int_equal(seccomp_compile(profile, to, NULL), 0);
}

static int compile_json(const char *json, uint64_t bounding, Buf *to, KlError **err)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        SeccompProfile *profile = NULL;
        int r = seccomp_parse_profile(json, strlen(json), bounding, arena, &profile, err);

        return r < 0 ? r : seccomp_compile(profile, to, err);
}

static void test_default(void **state)
{
        KL_AUTOBUF program = BUF_INIT;

        compile_default(caps_default(), &program);
        assert_in_range(program.len / sizeof(struct sock_filter), 100, 1500);
        assert_int_equal(run_under(&program, &(Call){ SYS_getpid, { 0 } }), 0);
        assert_int_equal(run_under(&program, &(Call){ SYS_unshare, { CLONE_NEWNS } }), EPERM);
        assert_int_equal(run_under(&program, &(Call){ SYS_mount, { 0 } }), EPERM);
        assert_int_equal(run_under(&program, &(Call){ SYS_bpf, { 0 } }), EPERM);
        assert_int_equal(run_under(&program, &(Call){ SYS_io_uring_setup, { 1, 0 } }), EPERM);
        assert_int_equal(run_under(&program, &(Call){ SYS_keyctl, { 0 } }), EPERM);
        assert_int_equal(run_under(&program, &(Call){ SYS_clone3, { 0 } }), ENOSYS);
        assert_int_equal(run_under(&program, &(Call){ SYS_personality, { 0 } }), 0);
        assert_int_equal(run_under(&program, &(Call){ SYS_personality, { 0x40000 } }), EPERM);
        assert_int_equal(run_under(&program, &(Call){ SYS_clone, { CLONE_NEWUSER | SIGCHLD } }),
                         EPERM);
        assert_int_equal(run_under(&program, &(Call){ SYS_socket, { AF_UNIX, SOCK_STREAM } }), 0);
        assert_int_equal(run_under(&program, &(Call){ SYS_socket, { AF_ALG, SOCK_SEQPACKET } }),
                         EPERM);
        assert_int_equal(run_under(&program, &(Call){ SYS_socket, { AF_VSOCK, SOCK_STREAM } }),
                         EPERM);
        /* The kernel looks at the lower half only; the filter must not be fooled by the upper. */
        assert_int_equal(
                run_under(&program, &(Call){ SYS_socket, { (1L << 32) | AF_ALG, SOCK_SEQPACKET } }),
                EPERM);
}

/* Past the profile's newest: "no such call", known but refused ones: "not permitted". */
static void test_newer_calls(void **state)
{
        const Call chmod = { 452, { AT_FDCWD, (long)"/nonexistent", 0, 0 } };
        int expected;
        KL_AUTOBUF program = BUF_INIT;

        compile_default(caps_default(), &program);
        assert_int_equal(seccomp_new_number("cachestat"), 451);
        assert_int_equal(seccomp_new_number("file_setattr"), 469);
        assert_int_equal(seccomp_new_number("openat"), -1);
        assert_int_equal(run_under(&program, &(Call){ 470, { 0 } }), ENOSYS);
        assert_int_equal(run_under(&program, &(Call){ 3000, { 0 } }), ENOSYS);
        /* lsm_get_self_attr and open_tree_attr are known and not allowed. */
        assert_int_equal(run_under(&program, &(Call){ 459, { 0 } }), EPERM);
        assert_int_equal(run_under(&program, &(Call){ 467, { 0 } }), EPERM);
        /* fchmodat2 is allowed, though libseccomp 2.5.4 has never heard of it: as without a filter.
         */
        assert_int_equal(syscall(chmod.nr, chmod.args[0], chmod.args[1], 0, 0), -1);
        expected = errno;
        assert_int_equal(run_under(&program, &chmod), expected);
}

static void test_capabilities(void **state)
{
        KL_AUTOBUF program = BUF_INIT;

        compile_default(caps_default() | CAP_BIT(CAP_SYS_ADMIN), &program);
        assert_int_equal(run_under(&program, &(Call){ SYS_unshare, { CLONE_FS } }), 0);
        assert_int_equal(run_under(&program, &(Call){ SYS_clone3, { 0 } }), EINVAL);
        assert_int_equal(run_under(&program, &(Call){ SYS_reboot, { 0 } }), EPERM);
        buf_clear(&program);
        compile_default(0, &program);
        assert_int_equal(run_under(&program, &(Call){ SYS_chroot, { (long)"/nonexistent" } }),
                         EPERM);
        buf_clear(&program);
        compile_default(CAP_BIT(CAP_SYS_CHROOT), &program);
        assert_int_equal(run_under(&program, &(Call){ SYS_chroot, { (long)"/nonexistent" } }),
                         ENOENT);
}

/* What the filter answers, without running anything: a call may be one that even root is refused
 * here. Of libseccomp's programs; 0 for what it never makes. */
static uint32_t judge(const Buf *program, const struct seccomp_data *call)
{
        const struct sock_filter *f = (const struct sock_filter *)program->data;
        size_t n = program->len / sizeof(*f);
        uint32_t a = 0;

        for (size_t i = 0; i < n; i++) {
                bool taken;

                switch (f[i].code) {
                case BPF_LD | BPF_W | BPF_ABS:
                        memcpy(&a, (const char *)call + f[i].k, sizeof(a));
                        continue;
                case BPF_ALU | BPF_AND | BPF_K:
                        a &= f[i].k;
                        continue;
                case BPF_RET | BPF_K:
                        return f[i].k;
                case BPF_JMP | BPF_JA:
                        i += f[i].k;
                        continue;
                case BPF_JMP | BPF_JEQ | BPF_K:
                        taken = a == f[i].k;
                        break;
                case BPF_JMP | BPF_JGT | BPF_K:
                        taken = a > f[i].k;
                        break;
                case BPF_JMP | BPF_JGE | BPF_K:
                        taken = a >= f[i].k;
                        break;
                case BPF_JMP | BPF_JSET | BPF_K:
                        taken = a & f[i].k;
                        break;
                default:
                        return 0;
                }
                i += taken ? f[i].jt : f[i].jf;
        }
        return 0;
}

static bool allows(const Buf *program, long nr, uint64_t first_arg)
{
        struct seccomp_data call = { .nr = (int)nr,
                                     .arch = AUDIT_ARCH_X86_64,
                                     .args = { first_arg } };
        uint32_t verdict = judge(program, &call);

        assert_true(verdict == SECCOMP_RET_ALLOW ||
                    (verdict & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO);
        return verdict == SECCOMP_RET_ALLOW;
}

/* Calls that one capability opens, each by itself: refused with the default set and with none. */
static void test_rules_by_capability(void **state)
{
        static const struct {
                unsigned int cap;
                long nr;
                uint64_t first_arg;
        } cases[] = {
                { CAP_DAC_READ_SEARCH, SYS_open_by_handle_at, 0 },
                { CAP_SYS_ADMIN, SYS_bpf, 0 },
                { CAP_SYS_ADMIN, SYS_perf_event_open, 0 },
                { CAP_SYS_ADMIN, SYS_clone, CLONE_NEWUSER },
                { CAP_SYS_ADMIN, SYS_clone, CLONE_NEWNS | CLONE_NEWPID },
                { CAP_SYS_ADMIN, SYS_clone3, 0 },
                { CAP_SYS_ADMIN, SYS_unshare, 0 },
                { CAP_SYS_ADMIN, SYS_setns, 0 },
                { CAP_SYS_ADMIN, SYS_mount, 0 },
                { CAP_SYS_ADMIN, SYS_umount2, 0 },
                { CAP_SYS_ADMIN, SYS_fsopen, 0 },
                { CAP_SYS_ADMIN, SYS_open_tree, 0 },
                { CAP_SYS_ADMIN, SYS_sethostname, 0 },
                { CAP_SYS_ADMIN, SYS_quotactl, 0 },
                { CAP_SYS_ADMIN, SYS_fanotify_init, 0 },
                { CAP_SYS_ADMIN, SYS_syslog, 0 },
                { CAP_SYS_BOOT, SYS_reboot, 0 },
                { CAP_SYS_MODULE, SYS_init_module, 0 },
                { CAP_SYS_MODULE, SYS_finit_module, 0 },
                { CAP_SYS_PACCT, SYS_acct, 0 },
                { CAP_SYS_PTRACE, SYS_kcmp, 0 },
                { CAP_SYS_PTRACE, SYS_pidfd_getfd, 0 },
                { CAP_SYS_RAWIO, SYS_iopl, 0 },
                { CAP_SYS_TIME, SYS_settimeofday, 0 },
                { CAP_SYS_TIME, SYS_clock_settime, 0 },
                { CAP_SYS_TTY_CONFIG, SYS_vhangup, 0 },
                { CAP_SYS_NICE, SYS_mbind, 0 },
                { CAP_SYSLOG, SYS_syslog, 0 },
                { CAP_BPF, SYS_bpf, 0 },
                { CAP_PERFMON, SYS_perf_event_open, 0 },
        };
        KL_AUTOBUF none = BUF_INIT;
        KL_AUTOBUF defaults = BUF_INIT;

        compile_default(0, &none);
        compile_default(caps_default(), &defaults);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOBUF one = BUF_INIT;

                compile_default(CAP_BIT(cases[i].cap), &one);
                assert_false(allows(&none, cases[i].nr, cases[i].first_arg));
                assert_false(allows(&defaults, cases[i].nr, cases[i].first_arg));
                assert_true(allows(&one, cases[i].nr, cases[i].first_arg));
        }
}

/* Whatever the capabilities. */
static void test_rules_for_all(void **state)
{
        static const long refused[] = { SYS_io_uring_setup,    SYS_io_uring_enter, SYS_keyctl,
                                        SYS_io_uring_register, SYS_add_key,        SYS_request_key,
                                        SYS_userfaultfd,       SYS_kexec_load,     SYS_swapon,
                                        SYS_kexec_file_load,   SYS_pivot_root,     SYS_uselib,
                                        SYS_nfsservctl,        SYS_move_pages };
        static const long allowed[] = { SYS_ptrace,
                                        SYS_prctl,
                                        SYS_seccomp,
                                        SYS_openat2,
                                        SYS_name_to_handle_at,
                                        SYS_memfd_create,
                                        SYS_pidfd_open,
                                        SYS_close_range,
                                        SYS_rseq,
                                        SYS_execveat,
                                        SYS_splice };
        KL_AUTOBUF none = BUF_INIT;
        KL_AUTOBUF all = BUF_INIT;

        compile_default(0, &none);
        compile_default(UINT64_MAX, &all);
        for (size_t i = 0; i < ELEMENTS(refused); i++)
                assert_false(allows(&all, refused[i], 0));
        for (size_t i = 0; i < ELEMENTS(allowed); i++)
                assert_true(allows(&none, allowed[i], 0));
        assert_true(allows(&none, SYS_clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND));
        assert_false(allows(&all, SYS_socket, AF_VSOCK));
        assert_false(allows(&all, SYS_socket, AF_ALG));
        assert_true(allows(&none, SYS_socket, AF_NETLINK));
        assert_true(allows(&none, SYS_socket, AF_PACKET));
        assert_true(allows(&none, SYS_personality, 0x20008));
        assert_false(allows(&all, SYS_personality, 0x0040000));
}

static void test_profiles(void **state)
{
        KL_AUTOBUF program = BUF_INIT;

        assert_int_equal(
                compile_json(
                        "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":"
                        "[\"mkdir\",\"fchmodat2\",\"no_such_call\"],\"action\":\"SCMP_ACT_ERRNO\","
                        "\"errnoRet\":13},{\"names\":[\"kill\"],\"action\":\"SCMP_ACT_ERRNO\","
                        "\"args\":[{\"index\":1,\"value\":10,\"op\":\"SCMP_CMP_EQ\"},"
                        "{\"index\":1,\"value\":12,\"op\":\"SCMP_CMP_EQ\"}]}]}",
                        0, &program, NULL),
                0);
        assert_int_equal(run_under(&program, &(Call){ SYS_mkdir, { (long)"/tmp", 0 } }), EACCES);
        assert_int_equal(run_under(&program, &(Call){ 452, { AT_FDCWD, (long)"/x", 0, 0 } }),
                         EACCES);
        assert_int_equal(run_under(&program, &(Call){ SYS_kill, { 0, 10 } }), EPERM);
        assert_int_equal(run_under(&program, &(Call){ SYS_kill, { 0, 12 } }), EPERM);
        assert_int_equal(run_under(&program, &(Call){ SYS_kill, { 0, 0 } }), 0);
        buf_clear(&program);
        /* docker's form, with conditions. */
        assert_int_equal(
                compile_json(
                        "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"archMap\":[{\"architecture\":"
                        "\"SCMP_ARCH_X86_64\",\"subArchitectures\":[\"SCMP_ARCH_X86\"]}],"
                        "\"syscalls\":[{\"names\":[\"exit_group\",\"getpid\"],\"action\":"
                        "\"SCMP_ACT_ALLOW\"},{\"name\":\"chroot\",\"action\":\"SCMP_ACT_ALLOW\","
                        "\"includes\":{\"caps\":[\"CAP_SYS_CHROOT\"]}}]}",
                        0, &program, NULL),
                0);
        assert_int_equal(run_under(&program, &(Call){ SYS_getpid, { 0 } }), 0);
        assert_int_equal(run_under(&program, &(Call){ SYS_chroot, { (long)"/x" } }), EPERM);
        assert_int_equal(run_under(&program, &(Call){ SYS_openat2, { 0 } }), ENOSYS);
}

static void test_bad_profiles(void **state)
{
        static const struct {
                const char *json, *message;
        } cases[] = {
                { "", "line 1" },
                { "[]", "expected an object" },
                { "{}", "defaultAction: unknown action" },
                { "{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", "unknown action" },
                { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"action\":\"SCMP_ACT_"
                  "ALLOW\"}]}",
                  "syscalls[0]: names is empty" },
                { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"VAX\"]}",
                  "architectures[0]: unknown value" },
                { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"kill\"],"
                  "\"action\":"
                  "\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":9,\"op\":\"SCMP_CMP_EQ\"}]}]}",
                  "syscalls[0].args[0].index" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTOERR err = NULL;
                KL_AUTOBUF program = BUF_INIT;

                assert_true(compile_json(cases[i].json, 0, &program, &err) < 0);
                if (!strstr(kl_error_msg(err), cases[i].message))
                        fail_msg("'%s' is not in '%s'", cases[i].message, kl_error_msg(err));
        }
}

typedef struct Answer {
        Loop *loop;
        int n;
        bool failed;
        size_t len;
} Answer;

static void on_answer(const SeccompProgram *program, const KlError *error, void *data)
{
        Answer *a = data;

        a->n++;
        a->failed = !program;
        a->len = program ? program->len : 0;
        loop_stop(a->loop);
}

static void test_cache(void **state)
{
        KL_AUTO(loop_free) Loop *loop = NULL;
        KL_AUTO(seccomp_cache_free) SeccompCache *cache = NULL;
        char dir[] = "/tmp/test-seccomp.XXXXXX";
        SeccompRequest *first = NULL, *second = NULL, *third = NULL;
        SeccompProgram program;
        Answer answer = { 0 };

        assert_non_null(mkdtemp(dir));
        assert_int_equal(loop_new(&loop, NULL), 0);
        answer.loop = loop;
        assert_int_equal(seccomp_cache_new(loop, dir, &cache, NULL), 0);
        assert_int_equal(
                seccomp_cache_get(cache, NULL, 0, 7, on_answer, &answer, &program, &first, NULL),
                0);
        assert_int_equal(
                seccomp_cache_get(cache, NULL, 0, 7, on_answer, &answer, &program, &second, NULL),
                0);
        assert_int_equal(
                seccomp_cache_get(cache, NULL, 0, 7, on_answer, &answer, &program, &third, NULL),
                0);
        third = seccomp_request_free(third);
        loop_run(loop);
        assert_int_equal(answer.n, 2);
        assert_false(answer.failed);
        seccomp_request_free(first);
        seccomp_request_free(second);
        assert_int_equal(
                seccomp_cache_get(cache, NULL, 0, 7, on_answer, &answer, &program, &first, NULL),
                1);
        assert_int_equal(program.len, answer.len);
        /* A new daemon finds it on disk. */
        cache = seccomp_cache_free(cache);
        assert_int_equal(seccomp_cache_new(loop, dir, &cache, NULL), 0);
        assert_int_equal(
                seccomp_cache_get(cache, NULL, 0, 7, on_answer, &answer, &program, &first, NULL),
                1);
        assert_int_equal(program.len, answer.len);
        assert_int_equal(
                seccomp_cache_get(cache, "{", 1, 7, on_answer, &answer, &program, &first, NULL),
                -EINVAL);
        cache = seccomp_cache_free(cache);
        tree_remove(dir);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_default),       cmocka_unit_test(test_newer_calls),
                cmocka_unit_test(test_capabilities),  cmocka_unit_test(test_rules_by_capability),
                cmocka_unit_test(test_rules_for_all), cmocka_unit_test(test_profiles),
                cmocka_unit_test(test_bad_profiles),  cmocka_unit_test(test_cache),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
