/* SPDX-License-Identifier: Apache-2.0 */

/* Sandboxes with user namespaces: ids of their own, kept over the daemon's death; commands in them.
 */

#include "tests/unit/runtime/node.h"

#include "base/clock.h"
#include "base/str.h"

typedef struct Ran {
        bool done;
        int exit_code;
        char output[4096];
} Ran;

static void on_exec(Exec *exec, int exit_code, bool late, const char *output, size_t len,
                    const KlError *error, void *data)
{
        Ran *ran = data;

        ran->done = true;
        ran->exit_code = exit_code;
        snprintf(ran->output, sizeof(ran->output), "%s", error ? kl_error_msg(error) : output);
}

static void exec_in(Pod *pod, const char *id, const char *script, Ran *ran)
{
        char *args[] = { (char *)"/bin/sh", (char *)"-c", (char *)script, NULL };
        ExecSpec spec = { .args = args,
                          .stdin_fd = -1,
                          .stdout_fd = -1,
                          .stderr_fd = -1,
                          .out_max = 4000,
                          .done = on_exec,
                          .data = ran };
        KL_AUTOERR err = NULL;
        Exec *exec;

        *ran = (Ran){ .done = false };
        if (sandbox_exec(pod->sandbox, id, &spec, &exec, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
        WAIT_FOR(ran->done);
}

static void up_with_ids(Pod *pod)
{
        SandboxSpec spec = pod_spec(pod);

        spec.user_namespace = true;
        create(pod, &spec);
        WAIT_FOR(pod->ready || pod->failed);
        if (pod->failed)
                fail_msg("%s", pod->error);
}

static void test_exec(void **state)
{
        Pod pod = { .id = "" };
        Box box;
        Seen *s;
        Ran ran;

        up_with_ids(&pod);
        box_init(&box, "sleep 1000");
        box.spec.run_as_user = 7;
        s = start(&pod, &box);
        WAIT_FOR(s->state != CONTAINER_CREATED);
        if (s->state != CONTAINER_RUNNING)
                fail_msg("%s", s->message);
        /* Ids that the API tells are those inside. */
        assert_int_equal(s->uid, 7);
        exec_in(&pod, box.id,
                "id -u; cat /proc/self/uid_map; grep -E 'Cap(Inh|Amb)' /proc/self/status; "
                "echo again > /dev/stdout; readlink /proc/1/ns/user; readlink /proc/self/ns/user",
                &ran);
        assert_int_equal(ran.exit_code, 0);
        assert_true(str_starts(ran.output, "7\n         0      65536      65536\n"
                                           "CapInh:\t0000000000000000\n"
                                           "CapAmb:\t0000000000000000\nagain\nuser:["));
        {
                const char *first = strstr(ran.output, "user:["), *second = strchr(first, '\n') + 1;

                assert_memory_equal(first, second, (size_t)(second - first));
        }
        down(&pod);
}

static void on_found(const AdoptedSandbox *adopted, void *data)
{
        Pod *pods = data;

        for (size_t i = 0; i < 2; i++)
                if (str_eq(pods[i].uid, adopted->spec.pod_uid)) {
                        pods[i].sandbox = adopted->sandbox;
                        sandbox_set_events(adopted->sandbox, &node_events, &pods[i]);
                }
}

static bool adopted;

static void on_adopted(void *data)
{
        adopted = true;
}

static void test_ranges(void **state)
{
        Pod pods[2] = { { .id = "" }, { .id = "" } }, third = { .id = "" }, shared = { .id = "" };

        up(&shared);
        assert_int_equal(shared.sandbox->spec.ids.count, 0);
        up_with_ids(&pods[0]);
        up_with_ids(&pods[1]);
        assert_int_equal(pods[0].sandbox->spec.ids.first, 65536);
        assert_int_equal(pods[1].sandbox->spec.ids.first, 131072);
        down(&shared);
        runtime = runtime_free(runtime);
        runtime_up();
        assert_int_equal(runtime_adopt(runtime, on_found, on_adopted, pods, NULL), 0);
        WAIT_FOR(adopted);
        assert_int_equal(pods[1].sandbox->spec.ids.first, 131072);
        assert_int_equal(pods[1].sandbox->spec.ids.count, 65536);
        down(&pods[0]);
        up_with_ids(&third);
        assert_int_equal(third.sandbox->spec.ids.first, 65536);
        down(&third);
        down(&pods[1]);
}

/* An id that the range has not. */
static void test_unmapped_user(void **state)
{
        Pod pod = { .id = "" };
        Box box;
        Seen *s;

        up_with_ids(&pod);
        box_init(&box, "true");
        box.spec.run_as_user = 65536;
        s = run_to_end(&pod, &box);
        assert_string_equal(s->reason, "StartError");
        assert_non_null(strstr(s->message, "not an id of the pod's user namespace"));
        down(&pod);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(test_exec, after_each),
                cmocka_unit_test_teardown(test_ranges, after_each),
                cmocka_unit_test_teardown(test_unmapped_user, after_each),
        };

        if (!runtime_has_user_namespaces()) {
                print_message("skipped: needs Linux 6.3\n");
                return 77;
        }
        return run_on_node(tests, ELEMENTS(tests));
}
