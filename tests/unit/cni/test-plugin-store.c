/* SPDX-License-Identifier: Apache-2.0 */

/* host-local's reservations on a real directory. */

#include "base/file.h"
#include "base/str.h"
#include "cni/plugins/host-local.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cmocka.h>

typedef struct Fixture {
        char dir[32];
        Arena *arena;
        Store *store;
} Fixture;

static void setup(Fixture *f)
{
        snprintf(f->dir, sizeof(f->dir), "/tmp/store-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        f->arena = arena_new();
        f->store = NULL;
        assert_int_equal(store_open(f->dir, "net", &f->store, NULL), 0);
}

static void teardown(Fixture *f)
{
        store_free(f->store);
        arena_free(f->arena);
        tree_remove(f->dir);
}

#define FIXTURE __attribute__((cleanup(teardown))) Fixture

static IpAddress address(const char *text)
{
        IpAddress ip;

        assert_int_equal(ip_parse(text, &ip), 0);
        return ip;
}

static void put(const Fixture *f, const char *name, const char *text)
{
        KL_AUTOFREE char *path = str_format("%s/net/%s", f->dir, name);

        assert_int_equal(file_replace(path, text, strlen(text), 0600, false), 0);
}

static bool exists(const Fixture *f, const char *name)
{
        KL_AUTOFREE char *path = str_format("%s/net/%s", f->dir, name);

        return access(path, F_OK) == 0;
}

static size_t count(Fixture *f, const char *id, const char *ifname)
{
        IpAddress *ips;
        size_t n;

        assert_int_equal(store_find(f->store, id, ifname, f->arena, &ips, &n, NULL), 0);
        return n;
}

static void test_file_format(void **state)
{
        FIXTURE f;
        IpAddress ip = address("10.0.0.5");
        KL_AUTOFREE char *text = NULL, *path = NULL;
        size_t len;

        setup(&f);
        assert_int_equal(store_reserve(f.store, "c1", "eth0", &ip, NULL), 0);
        assert_int_equal(store_reserve(f.store, "c2", "eth0", &ip, NULL), 1);
        path = str_format("%s/net/10.0.0.5", f.dir);
        assert_int_equal(file_read(path, 100, &text, &len), 0);
        assert_string_equal(text, "c1\r\neth0");
        assert_int_equal(count(&f, "c1", "eth0"), 1);
        assert_int_equal(count(&f, "c1", "eth1"), 0);
        assert_int_equal(count(&f, "c2", "eth0"), 0);
}

static void test_last(void **state)
{
        FIXTURE f;
        IpAddress ip = address("fd00::9"), got;

        setup(&f);
        assert_int_equal(store_last(f.store, 3, &got), -ENOENT);
        assert_int_equal(store_set_last(f.store, 3, &ip, NULL), 0);
        assert_int_equal(store_last(f.store, 3, &got), 0);
        assert_true(ip_equal(&ip, &got));
        put(&f, "last_reserved_ip.3", "nonsense");
        assert_int_equal(store_last(f.store, 3, &got), -EINVAL);
}

static void test_release(void **state)
{
        FIXTURE f;

        setup(&f);
        put(&f, "10.0.0.1", "c1\r\neth0");
        put(&f, "10.0.0.2", "c1\r\neth1");
        put(&f, "10.0.0.3", " c2 \n");
        put(&f, "10.0.0.4", "c1");
        put(&f, "notes", "c1\r\neth0");
        assert_int_equal(store_release(f.store, "c1", "eth0", NULL), 0);
        assert_false(exists(&f, "10.0.0.1"));
        assert_true(exists(&f, "10.0.0.2") && exists(&f, "10.0.0.4") && exists(&f, "notes"));
        assert_int_equal(store_release(f.store, "c1", "eth0", NULL), 0);
        assert_false(exists(&f, "10.0.0.4"));
        assert_int_equal(store_release(f.store, "c2", "eth0", NULL), 0);
        assert_false(exists(&f, "10.0.0.3"));
        assert_true(exists(&f, "10.0.0.2"));
}

static void test_collect(void **state)
{
        static const PluginAttachment live[] = { { "c1", "eth0" }, { "old", "eth0" } };
        FIXTURE f;

        setup(&f);
        put(&f, "10.0.0.1", "c1\r\neth0");
        put(&f, "10.0.0.2", "c1\r\neth1");
        put(&f, "10.0.0.3", "old");
        put(&f, "10.0.0.4", "");
        put(&f, "10.0.0.5", "gone\r\neth0");
        put(&f, "last_reserved_ip.0", "10.0.0.5");
        assert_int_equal(store_collect(f.store, live, 2, NULL), 0);
        assert_true(exists(&f, "10.0.0.1") && exists(&f, "10.0.0.3"));
        assert_true(exists(&f, "last_reserved_ip.0") && exists(&f, "lock"));
        assert_false(exists(&f, "10.0.0.2") || exists(&f, "10.0.0.4") || exists(&f, "10.0.0.5"));
}

static void test_strange_entries(void **state)
{
        FIXTURE f;
        KL_AUTOFREE char *fifo = NULL, *link = NULL;

        setup(&f);
        fifo = str_format("%s/net/10.0.0.1", f.dir);
        link = str_format("%s/net/10.0.0.2", f.dir);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(symlink("/dev/zero", link), 0);
        assert_int_equal(count(&f, "c1", "eth0"), 0);
        assert_int_equal(store_release(f.store, "c1", "eth0", NULL), 0);
        assert_true(exists(&f, "10.0.0.1"));
}

static void test_lock_is_held(void **state)
{
        FIXTURE f;
        KL_AUTOFREE char *path = NULL;
        KL_AUTOFD int fd = -1;

        setup(&f);
        path = str_format("%s/net/lock", f.dir);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
        f.store = store_free(f.store);
        assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_file_format),     cmocka_unit_test(test_last),
                cmocka_unit_test(test_release),         cmocka_unit_test(test_collect),
                cmocka_unit_test(test_strange_entries), cmocka_unit_test(test_lock_is_held),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
