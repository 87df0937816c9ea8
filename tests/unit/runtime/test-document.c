/* SPDX-License-Identifier: Apache-2.0 */

/* Container specifications with literals in, documents out. */

#include "runtime/document-internal.h"

#include "base/str.h"
#include "codec/json.h"
#include "runtime/caps-internal.h"

#include <linux/capability.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>

#include <cmocka.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char *const args[] = { (char *)"/bin/sh", (char *)"-c", (char *)"true", NULL };
static char *const env[] = { (char *)"PATH=/bin", NULL };
static char *const layers[] = { (char *)"aa", (char *)"bb", NULL };

static const DocumentContext context = {
        .pod_uid = "u-1",
        .pod_namespace = "ns",
        .pod_name = "pod",
        .sandbox_id = ID,
        .hostname = "host",
        .netns_path = "/run/netns/x",
        .cgroup_path = "kubepods/podu-1/c",
        .caps_available = (1ULL << 41) - 1,
        .nofile_hard = 524288,
};

static ContainerSpec base_spec(void)
{
        return (ContainerSpec){
                .id = ID,
                .name = "c",
                .image = "busybox",
                .layers = layers,
                .args = args,
                .env = env,
                .cwd = "",
                .run_as_user = -1,
                .run_as_group = -1,
                .allow_privilege_escalation = true,
                .seccomp = SECCOMP_RUNTIME_DEFAULT,
        };
}

static Document *build(const ContainerSpec *spec)
{
        Document *d = NULL;
        KL_AUTOERR err = NULL;

        if (document_new(spec, &context, &d, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        return d;
}

static void refuse(const ContainerSpec *spec, const char *reason, const char *message)
{
        KL_AUTO(document_free) Document *d = NULL;
        KL_AUTOERR err = NULL;

        assert_true(document_new(spec, &context, &d, &err) < 0);
        assert_string_equal(kl_error_reason(err, ""), reason);
        if (!strstr(kl_error_msg(err), message))
                fail_msg("'%s' is not in '%s'", message, kl_error_msg(err));
}

static Value *render(const ContainerSpec *spec)
{
        KL_AUTO(document_free) Document *d = build(spec);
        KL_AUTOBUF buf = BUF_INIT;
        Value *v = NULL;

        assert_int_equal(document_render(d, &context, NULL, &buf), 0);
        assert_int_equal(json_parse(buf.data, buf.len, &v, NULL), 0);
        return v;
}

static void expect_json(const Value *v, const char *path, const char *json)
{
        KL_AUTOBUF buf = BUF_INIT;

        assert_int_equal(json_print(value_path(v, path), &buf), 0);
        assert_string_equal(buf_str(&buf), json);
}

static void test_defaults(void **state)
{
        ContainerSpec spec = base_spec();
        KL_AUTO(value_free) Value *v = render(&spec);
        const Value *mounts = value_get(v, "mounts");

        expect_json(v, "process.args", "[\"/bin/sh\",\"-c\",\"true\"]");
        expect_json(v, "process.cwd", "\"/\"");
        expect_json(
                v, "process.capabilities.bounding",
                "[\"CAP_CHOWN\",\"CAP_DAC_OVERRIDE\",\"CAP_FOWNER\",\"CAP_FSETID\",\"CAP_KILL\","
                "\"CAP_SETGID\",\"CAP_SETUID\",\"CAP_SETPCAP\",\"CAP_NET_BIND_SERVICE\","
                "\"CAP_NET_RAW\",\"CAP_SYS_CHROOT\",\"CAP_MKNOD\",\"CAP_AUDIT_WRITE\","
                "\"CAP_SETFCAP\"]");
        assert_null(value_path(v, "process.capabilities.inheritable"));
        assert_null(value_path(v, "process.capabilities.ambient"));
        expect_json(v, "process.rlimits",
                    "[{\"type\":\"RLIMIT_NOFILE\",\"soft\":1024,\"hard\":524288}]");
        expect_json(v, "process.noNewPrivileges", "false");
        expect_json(v, "linux.namespaces",
                    "[{\"type\":\"mount\"},{\"type\":\"cgroup\"},{\"type\":\"pid\"},{\"type\":"
                    "\"network\","
                    "\"path\":\"/run/netns/x\"},{\"type\":\"uts\"},{\"type\":\"ipc\"}]");
        expect_json(
                v, "linux.readonlyPaths",
                "[\"/proc/bus\",\"/proc/fs\",\"/proc/irq\",\"/proc/sys\",\"/proc/sysrq-trigger\"]");
        expect_json(v, "linux.rootfsPropagation", "\"rslave\"");
        expect_json(v, "linux.cgroupsPath", "\"/kubepods/podu-1/c\"");
        assert_int_equal(value_len(value_path(v, "linux.maskedPaths")), 12);
        assert_int_equal(value_len(mounts), 7);
        expect_json(value_at(mounts, 5), "destination", "\"/sys\"");
        expect_json(value_at(mounts, 5), "options", "[\"nosuid\",\"nodev\",\"noexec\",\"ro\"]");
        expect_json(value_at(mounts, 6), "destination", "\"/sys/fs/cgroup\"");
        assert_int_equal(value_len(value_path(v, "linux.resources.devices")), 12);
}

static void test_options(void **state)
{
        RlimitSpec rlimit = { RLIMIT_NOFILE, 5, 6 };
        uint32_t groups[] = { 7, 8 };
        ContainerSpec spec = base_spec();
        KL_AUTO(value_free) Value *v = NULL;

        spec.run_as_user = 1000;
        spec.run_as_group = 2000;
        spec.supplementary_groups = groups;
        spec.n_supplementary_groups = 2;
        spec.rlimits = &rlimit;
        spec.n_rlimits = 1;
        spec.allow_privilege_escalation = false;
        spec.read_only_root = true;
        spec.tty = true;
        spec.cwd = "/work";
        spec.resources = (Resources){
                .cpu_shares = 512, .cpu_quota_us = 50000, .memory_bytes = 1 << 20, .pids = 9
        };
        v = render(&spec);
        expect_json(v, "process.user", "{\"uid\":1000,\"gid\":2000,\"additionalGids\":[7,8]}");
        expect_json(v, "process.rlimits", "[{\"type\":\"RLIMIT_NOFILE\",\"soft\":5,\"hard\":6}]");
        expect_json(v, "process.noNewPrivileges", "true");
        expect_json(v, "process.terminal", "true");
        expect_json(v, "process.cwd", "\"/work\"");
        expect_json(v, "root.readonly", "true");
        expect_json(v, "linux.resources.cpu", "{\"shares\":512,\"quota\":50000,\"period\":100000}");
        expect_json(v, "linux.resources.memory", "{\"limit\":1048576,\"swap\":1048576}");
        expect_json(v, "linux.resources.pids", "{\"limit\":9}");
}

static void test_privileged(void **state)
{
        ContainerSpec spec = base_spec();
        KL_AUTO(document_free) Document *d = NULL;

        spec.privileged = true;
        d = build(&spec);
        assert_int_equal(d->caps, context.caps_available);
        assert_int_equal(d->seccomp, SECCOMP_UNCONFINED);
        assert_false(d->no_new_privs);
        assert_null(d->masked_paths[0]);
        assert_null(d->read_only_paths[0]);
        assert_int_equal(d->n_device_rules, 1);
        assert_int_equal(d->device_rules[0].type, 'a');
        for (size_t i = 0; i < d->n_mounts; i++)
                assert_false(d->mounts[i].flags & SHIM_MOUNT_RO);
}

static void test_mounts(void **state)
{
        MountSpec mounts[] = {
                { "/a", -1, "/data/inner", false, false, PROPAGATION_NONE },
                { "/b", -1, "/data//./x/../", true, false, PROPAGATION_HOST_TO_CONTAINER },
                { "/c", -1, "/dev/shm", false, false, PROPAGATION_BIDIRECTIONAL },
                { "/d", -1, "/etc/hosts", true, true, PROPAGATION_NONE },
        };
        ContainerSpec spec = base_spec();
        KL_AUTO(document_free) Document *d = NULL;

        spec.mounts = mounts;
        spec.n_mounts = ELEMENTS(mounts);
        d = build(&spec);
        assert_int_equal(d->n_mounts, 10);
        /* Outer ones first; the default /dev/shm gave way. */
        assert_string_equal(d->mounts[6].target, "/data");
        assert_int_equal(d->mounts[6].flags, SHIM_MOUNT_RO);
        assert_int_equal(d->mounts[6].propagation, SHIM_PROPAGATION_SLAVE);
        assert_string_equal(d->mounts[7].target, "/data/inner");
        assert_string_equal(d->mounts[8].target, "/dev/shm");
        assert_int_equal(d->mounts[8].propagation, SHIM_PROPAGATION_SHARED);
        assert_int_equal(d->mounts[9].flags, SHIM_MOUNT_RO | SHIM_MOUNT_RO_RECURSIVE);
        for (size_t i = 0; i < 6; i++)
                assert_int_not_equal(d->mounts[i].kind, SHIM_MOUNT_SHM);
}

static void test_mount_targets(void **state)
{
        static const char *const refused[] = {
                "/",
                "/proc/self",
                "/proc/sys",
                "/proc/../proc/1/attr",
                "//proc/./sysrq-trigger",
                "/proc/sys/kernel/core_pattern",
        };
        static const char *const allowed[] = { "/proc/meminfo", "/proc/net/dev", "/proc",
                                               "/process" };
        MountSpec mount = { "/x", -1, NULL, false, false, PROPAGATION_NONE };
        ContainerSpec spec = base_spec();

        spec.mounts = &mount;
        spec.n_mounts = 1;
        for (size_t i = 0; i < ELEMENTS(refused); i++) {
                mount.target = refused[i];
                refuse(&spec, "CreateContainerError", "mount on");
        }
        for (size_t i = 0; i < ELEMENTS(allowed); i++) {
                KL_AUTO(document_free) Document *d = NULL;

                mount.target = allowed[i];
                d = build(&spec);
        }
        mount.target = "relative";
        refuse(&spec, "CreateContainerError", "is not absolute");
        mount.target = "/x";
        mount.source = "x";
        refuse(&spec, "CreateContainerError", "is not absolute");
}

static void test_users(void **state)
{
        static const char *const bad[] = {
                "4294967296", "2147483648", "-1", "+0", "0:4294967296", "99999999999999999999999",
                "1:-1",
        };
        static const char *const good[] = { "", "0:0", "1000", "app:staff", "2147483647", "1a" };
        ContainerSpec spec = base_spec();

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                spec.image_user = bad[i];
                refuse(&spec, "CreateContainerError", "is not in 0-2147483647");
        }
        for (size_t i = 0; i < ELEMENTS(good); i++) {
                KL_AUTO(document_free) Document *d = NULL;

                spec.image_user = good[i];
                d = build(&spec);
                assert_string_equal(d->user.image_user, good[i]);
        }
        spec.run_as_user = 1LL << 32;
        refuse(&spec, "CreateContainerError", "are not in 0-2147483647");
}

static void test_non_root(void **state)
{
        ContainerSpec spec = base_spec();
        KL_AUTO(document_free) Document *d = NULL;

        spec.run_as_non_root = true;
        refuse(&spec, "CreateContainerConfigError",
               "container has runAsNonRoot and image will run as root (pod: \"pod_ns(u-1)\", "
               "container: c)");
        spec.image_user = "0:100";
        refuse(&spec, "CreateContainerConfigError", "image will run as root");
        spec.image_user = "000";
        refuse(&spec, "CreateContainerConfigError", "image will run as root");
        spec.image_user = "app";
        refuse(&spec, "CreateContainerConfigError",
               "container has runAsNonRoot and image has non-numeric user (app), cannot verify "
               "user "
               "is non-root");
        spec.run_as_user = 0;
        refuse(&spec, "CreateContainerConfigError",
               "container's runAsUser breaks non-root policy (pod: \"pod_ns(u-1)\", container: c)");
        spec.run_as_user = 7;
        d = build(&spec);
        assert_true(d->user.non_root);
}

static void test_refusals(void **state)
{
        static char *const none[] = { NULL };
        static char *const bad_layer[] = { (char *)"../x", NULL };
        static char *const fly[] = { (char *)"FLY", NULL };
        ContainerSpec spec = base_spec();

        spec.id = "../../x";
        refuse(&spec, "CreateContainerError", "64 hexadecimal");
        spec = base_spec();
        spec.args = none;
        refuse(&spec, "CreateContainerError", "no command specified");
        spec = base_spec();
        spec.layers = none;
        refuse(&spec, "CreateContainerError", "0 layers");
        spec.layers = bad_layer;
        refuse(&spec, "CreateContainerError", "is no name of a layer");
        spec = base_spec();
        spec.cap_add = fly;
        refuse(&spec, "CreateContainerError", "unknown capability");
        spec = base_spec();
        spec.stop_signal = "SIGFOO";
        refuse(&spec, "CreateContainerError", "unknown stop signal");
        spec = base_spec();
        spec.seccomp = SECCOMP_LOCALHOST;
        refuse(&spec, "CreateContainerError", "localhostProfile must be set");
        spec = base_spec();
        spec.n_mounts = MOUNTS_MAX + 1;
        refuse(&spec, "CreateContainerError", "more than");
        spec = base_spec();
        spec.cwd = "x";
        refuse(&spec, "CreateContainerError", "is not absolute");
}

static void test_layers_max(void **state)
{
        char *many[LAYERS_MAX + 2];
        ContainerSpec spec = base_spec();
        KL_AUTO(document_free) Document *d = NULL;

        for (size_t i = 0; i <= LAYERS_MAX; i++)
                many[i] = (char *)"l";
        many[LAYERS_MAX + 1] = NULL;
        spec.layers = many;
        refuse(&spec, "CreateContainerError", "128 layers");
        many[LAYERS_MAX] = NULL;
        d = build(&spec);
}

static void test_signals(void **state)
{
        assert_int_equal(signal_from_name(NULL), 0);
        assert_int_equal(signal_from_name(""), 0);
        assert_int_equal(signal_from_name("SIGTERM"), SIGTERM);
        assert_int_equal(signal_from_name("quit"), SIGQUIT);
        assert_int_equal(signal_from_name("15"), 15);
        assert_int_equal(signal_from_name("SIGRTMIN+3"), 37);
        assert_int_equal(signal_from_name("RTMAX-1"), 63);
        assert_int_equal(signal_from_name("0"), -EINVAL);
        assert_int_equal(signal_from_name("65"), -EINVAL);
        assert_int_equal(signal_from_name("SIGRTMIN+40"), -EINVAL);
}

static void test_paths(void **state)
{
        static const char *const cases[][2] = {
                { "/", "/" },           { "//", "/" },
                { "/a/", "/a" },        { "/a//b/./c", "/a/b/c" },
                { "/a/../../b", "/b" }, { "/..", "/" },
                { "/a/b/..", "/a" },    { "/a/...", "/a/..." },
        };
        KL_AUTO(arena_free) Arena *arena = arena_new();

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                assert_string_equal(path_clean(arena, cases[i][0]), cases[i][1]);
        assert_null(path_clean(arena, "a"));
        assert_null(path_clean(arena, ""));
        assert_true(id_is_valid(ID));
        assert_false(id_is_valid("abc"));
        assert_true(uid_is_valid("1b2c-3"));
        assert_false(uid_is_valid(".."));
        assert_false(uid_is_valid("a/b"));
        assert_false(uid_is_valid(""));
}

static void test_devices(void **state)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        ShimDevice *devices;
        size_t n;
        bool kmsg = false;

        assert_int_equal(devices_collect("/dev", arena, &devices, &n, NULL), 0);
        for (size_t i = 0; i < n; i++) {
                kmsg |= str_eq(devices[i].path, "/dev/kmsg");
                assert_false(str_starts(devices[i].path, "/dev/pts"));
                assert_false(str_eq(devices[i].path, "/dev/null"));
                assert_true(devices[i].type == 'b' || devices[i].type == 'c');
        }
        assert_true(kmsg);
        assert_true(devices_collect("/nonexistent", arena, &devices, &n, NULL) < 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults),      cmocka_unit_test(test_options),
                cmocka_unit_test(test_privileged),    cmocka_unit_test(test_mounts),
                cmocka_unit_test(test_mount_targets), cmocka_unit_test(test_users),
                cmocka_unit_test(test_non_root),      cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_layers_max),    cmocka_unit_test(test_signals),
                cmocka_unit_test(test_paths),         cmocka_unit_test(test_devices),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
