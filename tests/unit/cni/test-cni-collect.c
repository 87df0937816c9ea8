/* SPDX-License-Identifier: Apache-2.0 */

/* What a killed daemon leaves: plugins that still run, half-made attachments; GC and STATUS. */

#include "fixture.h"

#include "cni/cni-settle.h"

#define CHAIN(version)                                                                             \
        "{\"cniVersion\":\"" version "\",\"name\":\"net\",\"plugins\":["                           \
        "{\"type\":\"one\"},{\"type\":\"two\"}]}"

static char *no_ids[] = { NULL };
static char *one_id[] = { (char *)ID, NULL };

static bool logged(Fixture *f, const char *what)
{
        KL_AUTOFREE char *log = read_log(f);

        return strstr(log, what) != NULL;
}

/* Another daemon, killed while the plugins of an ADD run. */
static void crash_mid_add(Fixture *f, const char *until)
{
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                CniAttachment a = attachment(ID);
                Loop *loop;
                CniCall *call;

                if (loop_new(&loop, NULL) < 0)
                        _exit(1);
                f->loop = loop;
                fixture_open(f);
                if (cni_add(f->cni, &a, on_done, f, &call, NULL) < 0)
                        _exit(1);
                loop_run(loop);
                _exit(0);
        }
        WAIT_FOR(f, logged(f, until));
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void collect(Fixture *f, char **live)
{
        KL_AUTOERR err = NULL;

        if (cni_collect(f->cni, live, &err) < 0)
                fail_msg("%s", kl_error_msg(err));
}

static void open_crashed(Fixture *f, const char *one)
{
        put_conf(f, "10.conflist", CHAIN("1.0.0"));
        put_plugin(f, "one", one);
        put_plugin(f, "two", GOOD_PLUGIN);
        crash_mid_add(f, "ADD one");
        assert_int_equal(n_records(f), 1);
        fixture_open(f);
}

/* A plugin that is half through is waited for; then everything is taken down. */
static void test_waits(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *script = str_format("[ $CNI_COMMAND = ADD ] && sleep 1 && echo END "
                                              "one >>%s; exit 0",
                                              f->log);

        open_crashed(f, script);
        collect(f, no_ids);
        WAIT_FOR(f, n_records(f) == 0);
        assert_verbs(f, "ADD one,END one,DEL two,DEL one,");
}

/* One that hangs is killed when its time is up, helpers in sessions of their own too. */
static void test_kills(void **state)
{
        Fixture *f = *state;

        f->timeout_ms = 1500;
        open_crashed(f, "[ $CNI_COMMAND = DEL ] && exit 0; setsid sleep 1000 & sleep 1000");
        collect(f, no_ids);
        WAIT_FOR(f, n_records(f) == 0);
        assert_verbs(f, "ADD one,DEL two,DEL one,");
        {
                KL_AUTO(cni_record_free) CniRecord *record = calloc(1, sizeof(*record));

                /* Nothing with this id is left: the environment says so. */
                record->id = strdup(ID);
                record->boot_id = strdup("");
                record->owner = strdup("");
                assert_int_equal(cni_settle(record, 0), 0);
        }
}

/* The dead daemon's process id may be anybody's by now. */
static void test_recycled_pid(void **state)
{
        KL_AUTO(cni_record_free) CniRecord *record = calloc(1, sizeof(*record));
        KL_AUTOPID pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                pause();
                _exit(0);
        }
        record->id = strdup(ID);
        record->boot_id = strdup("another");
        record->owner = strdup("x");
        record->pid = pid;
        record->pid_start = cni_process_start(pid) - 1;
        assert_int_equal(cni_settle(record, 0), 0);
        assert_int_equal(kill(pid, 0), 0);
        record->pid_start++;
        assert_int_equal(cni_settle(record, 0), 1);
}

/* A live sandbox's half-made attachment is left to its owner, whose DEL waits as well. */
static void test_live_is_kept(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *script = str_format("[ $CNI_COMMAND = ADD ] && sleep 0.5 && echo END "
                                              "one >>%s; exit 0",
                                              f->log);

        open_crashed(f, script);
        collect(f, one_id);
        for (int i = 0; i < 20; i++)
                loop_turn(f->loop, false);
        assert_int_equal(n_records(f), 1);
        assert_int_equal(cni_cached_result(f->cni, ID, "eth0", &(CniResult *){ NULL }), -ENOENT);
        del(f, ID);
        assert_null(f->error);
        assert_verbs(f, "ADD one,END one,DEL two,DEL one,");
}

/* A new ADD for it does the same. */
static void test_add_after_crash(void **state)
{
        Fixture *f = *state;

        f->timeout_ms = 1000;
        open_crashed(
                f,
                "[ $CNI_COMMAND = ADD ] && [ ! -e $(dirname $0)/ok ] && sleep 1000;" GOOD_PLUGIN);
        put_file(f->bin, "ok", "", 0644);
        add(f, ID);
        assert_null(f->error);
        assert_string_equal(f->ip, "10.9.0.2");
        assert_verbs(f, "ADD one,DEL two,DEL one,ADD one,ADD two,");
}

static void reopen(Fixture *f)
{
        f->cni = cni_free(f->cni);
        fixture_open(f);
}

static void test_collect_retries(void **state)
{
        Fixture *f = *state;

        put_conf(f, "10.conflist", CHAIN("1.0.0"));
        put_plugin(f, "one", GOOD_PLUGIN);
        put_plugin(f, "two", GOOD_PLUGIN);
        fixture_open(f);
        add(f, ID);
        add(f, "b");
        reopen(f);
        put_plugin(f, "one", "exit 1");
        collect(f, one_id);
        WAIT_FOR(f, logged(f, "DEL one"));
        WAIT_FOR(f, !cni_has_call(f->cni, "b"));
        assert_int_equal(n_records(f), 2);
        put_plugin(f, "one", GOOD_PLUGIN);
        collect(f, one_id);
        WAIT_FOR(f, n_records(f) == 1);
        add(f, "c");
        collect(f, one_id);
        for (int i = 0; i < 20; i++)
                loop_turn(f->loop, false);
        /* Our own attachments are nobody's leftovers. */
        assert_int_equal(n_records(f), 2);
}

#define GC_PLUGIN "[ $CNI_COMMAND = GC ] && sleep 0.3;" GOOD_PLUGIN

static void test_gc(void **state)
{
        Fixture *f = *state;
        CniAttachment a = attachment("late");
        CniCall *call;

        put_conf(f, "10.conflist", CHAIN("1.1.0"));
        put_plugin(f, "one", GC_PLUGIN);
        put_plugin(f, "two", GC_PLUGIN);
        fixture_open(f);
        add(f, ID);
        add(f, "b");
        reopen(f);
        collect(f, one_id);
        WAIT_FOR(f, logged(f, "GC one"));
        f->n_done = 0;
        assert_int_equal(cni_add(f->cni, &a, on_done, f, &call, NULL), 0);
        WAIT_FOR(f, f->n_done);
        assert_null(f->error);
        assert_true(logged(f, "GC two {\"cniVersion\":\"1.1.0\",\"name\":\"net\",\"type\":\"two\","
                              "\"cni.dev/valid-attachments\":[{\"containerID\":\"" ID
                              "\",\"ifname\":\"eth0\"}]"));
        {
                KL_AUTOFREE char *verbs = log_verbs(f);
                KL_AUTOBUF without = BUF_INIT;
                KL_AUTOSTRV parts = strv_split(verbs, ',');

                for (size_t i = 0; parts[i]; i++)
                        if (!str_starts(parts[i], "STATUS"))
                                buf_addf(&without, "%s,", parts[i]);
                assert_string_equal(buf_str(&without),
                                    "ADD one,ADD two,ADD one,ADD two,DEL two,DEL one,GC one,GC two,"
                                    "ADD one,ADD two,");
        }
}

/* GC waits for a network that knows it. */
static void test_late_gc(void **state)
{
        Fixture *f = *state;

        put_plugin(f, "one", GOOD_PLUGIN);
        put_plugin(f, "two", GOOD_PLUGIN);
        fixture_open(f);
        collect(f, one_id);
        put_conf(f, "10.conflist", CHAIN("1.1.0"));
        WAIT_FOR(f, logged(f, "GC two"));
}

static void test_status(void **state)
{
        Fixture *f = *state;

        put_conf(f, "10.conflist", CHAIN("1.1.0"));
        put_plugin(f, "one", GOOD_PLUGIN);
        put_plugin(f, "two",
                   "[ -e $(dirname $0)/ok ] && exit 0; echo '{\"code\":50,\"msg\":"
                   "\"not yet\"}'; exit 1");
        fixture_open(f);
        assert_string_equal(cni_not_ready_message(f->cni), "cni plugin not initialized");
        WAIT_FOR(f, str_eq(cni_not_ready_message(f->cni),
                           "plugin type=\"two\" failed (status): not yet"));
        assert_true(f->n_changed > 0);
        put_file(f->bin, "ok", "", 0644);
        WAIT_FOR(f, !cni_not_ready_message(f->cni));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_waits),        TEST(test_kills),           TEST(test_recycled_pid),
                TEST(test_live_is_kept), TEST(test_add_after_crash), TEST(test_collect_retries),
                TEST(test_gc),           TEST(test_late_gc),         TEST(test_status),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
