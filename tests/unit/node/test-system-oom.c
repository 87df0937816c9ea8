/* SPDX-License-Identifier: Apache-2.0 */

/* Records of the kernel's log that tell of a machine out of memory. */

#include "../unit.h"
#include "base/str.h"
#include "node/system-oom.h"

static void check(const char *record, const char *task, pid_t pid)
{
        char got[OOM_TASK_SIZE];
        pid_t got_pid = 0;

        if (!task) {
                assert_false(system_oom_parse(record, got, &got_pid));
                return;
        }
        assert_true(system_oom_parse(record, got, &got_pid));
        assert_string_equal(got, task);
        assert_int_equal(got_pid, pid);
}

#define HEAD                                                                                       \
        "6,1234,5678901,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/"            \
        ",mems_allowed=0"
#define TAIL ",uid=0\n"

static void test_records(void **state)
{
        check(HEAD ",global_oom,task_memcg=/user.slice,task=stress,pid=4242" TAIL, "stress", 4242);
        check(HEAD ",global_oom,task_memcg=/,task=a,pid=1,pid=77" TAIL, "a,pid=1", 77);
        check(HEAD ",global_oom,task_memcg=/,task=,pid=7\n", "", 7);
        /* Of a group with a limit: that is the container's affair. */
        check("6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/"
              ",mems_allowed=0,"
              "oom_memcg=/kubepods/pod1/c,task_memcg=/kubepods/pod1/c,task=x,pid=5,uid=0\n",
              NULL, 0);
        check("6,1,2,-;Out of memory: Killed process 4242 (stress)\n", NULL, 0);
        check("6,1,2,-;user wrote: oom-kill:,global_oom,task=x,pid=5\n", NULL, 0);
        check(HEAD ",global_oom,task_memcg=/,task=x\n", NULL, 0);
        check(HEAD ",global_oom,task_memcg=/,task=x,pid=\n", NULL, 0);
        check(HEAD ",global_oom,task_memcg=/,task=x,pid=99999999999999999999\n", NULL, 0);
        check("", NULL, 0);
        check(";", NULL, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_records) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
