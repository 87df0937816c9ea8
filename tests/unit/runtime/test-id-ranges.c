/* SPDX-License-Identifier: Apache-2.0 */

/* Ids of user namespaces: where pods' ranges come from, and that no two pods share one. */

#include "runtime/runtime-internal.h"

#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define UNIT 65536U

static void expect_pool(const char *subuid, const char *subgid, uint32_t first, uint32_t count)
{
        KL_AUTOERR err = NULL;
        IdRange pool;

        if (ids_pool(subuid, subgid, UNIT, 110, &pool, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        assert_int_equal(pool.first, first);
        assert_int_equal(pool.count, count);
}

static void test_pool(void **state)
{
        static const char line[] = "root:0:1\nkubelet:65536:7208960\nkubelet2:1:1\n";
        IdRange pool;

        /* Everything above the host's, without the range that ends in (uid_t)-1. */
        expect_pool("", "", UNIT, UINT32_MAX - 2 * UNIT + 1);
        expect_pool("root:0:1\n", "app:100000:65536\n", UNIT, UINT32_MAX - 2 * UNIT + 1);
        expect_pool(line, line, UNIT, 7208960);
        assert_int_equal(ids_pool("", "", 4 * UNIT, 110, &pool, NULL), 0);
        assert_int_equal(pool.first, 4 * UNIT);
        assert_int_equal(pool.count % (4 * UNIT), 0);
}

static void test_bad_pool(void **state)
{
        static const struct {
                const char *subuid, *subgid, *message;
        } bad[] = {
                { "kubelet:65536:7208960\n", "", "mismatched subuids and subgids" },
                { "kubelet:65536:7208960\n", "kubelet:131072:7208960\n", "mismatched" },
                { "kubelet:65537:7208960\n", "kubelet:65537:7208960\n", "not a multiple" },
                { "kubelet:65536:7208961\n", "kubelet:65536:7208961\n", "length 7208961" },
                { "kubelet:0:7208960\n", "kubelet:0:7208960\n", "must be greater" },
                { "kubelet:65536:65536\n", "kubelet:65536:65536\n", "support 110 pods" },
                { "kubelet:65536:4294901760\n", "kubelet:65536:4294901760\n", "too many" },
                { "kubelet:65536:7208960\nkubelet:1:2\n", "", "more than one range" },
                { "kubelet:x:7208960\n", "", "invalid line" },
                { "kubelet:65536\n", "", "invalid line" },
                { "kubelet:65536:99999999999\n", "", "invalid line" },
        };

        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                KL_AUTOERR err = NULL;
                IdRange pool;

                assert_int_equal(ids_pool(bad[i].subuid, bad[i].subgid, UNIT, 110, &pool, &err),
                                 -EINVAL);
                if (!strstr(kl_error_msg(err), bad[i].message))
                        fail_msg("%zu: %s", i, kl_error_msg(err));
        }
}

static void test_pick(void **state)
{
        const IdRange pool = { UNIT, 3 * UNIT };
        IdRange taken[] = { { UNIT, UNIT }, { 0, 0 }, { 3 * UNIT, UNIT } }, got;

        assert_int_equal(ids_pick(&pool, UNIT, NULL, 0, &got), 0);
        assert_int_equal(got.first, UNIT);
        assert_int_equal(got.count, UNIT);
        assert_int_equal(ids_pick(&pool, UNIT, taken, 3, &got), 0);
        assert_int_equal(got.first, 2 * UNIT);
        taken[1] = got;
        assert_int_equal(ids_pick(&pool, UNIT, taken, 3, &got), -ENOSPC);
        assert_int_equal(got.count, 0);
        /* Another idsPerPod than that of the pods that run. */
        taken[1] = (IdRange){ UNIT + 1, 1 };
        taken[0] = taken[2] = (IdRange){ 0, 0 };
        assert_int_equal(ids_pick(&pool, UNIT, taken, 3, &got), 0);
        assert_int_equal(got.first, 2 * UNIT);
        assert_int_equal(ids_pick(&pool, 2 * UNIT, taken, 3, &got), -ENOSPC);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_pool),
                cmocka_unit_test(test_bad_pool),
                cmocka_unit_test(test_pick),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
