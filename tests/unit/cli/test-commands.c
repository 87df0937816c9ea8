/* SPDX-License-Identifier: Apache-2.0 */

/* The subcommands against the real control server with answers of the test's own. */

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "cli/cli.h"
#include "codec/json.h"
#include "server/control.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct Node {
        char dir[64];
        pid_t pid;
        char *out, *errors;
} Node;

/* --- the daemon's side --- */

static void answer(ControlReply *reply, const char *json)
{
        control_reply_result(reply, json, strlen(json));
}

static void on_pods(ControlReply *reply, const Value *request, int fd, void *data)
{
        KL_AUTOERR err = NULL;

        if (str_eq(value_get_str(request, "namespace"), "broken")) {
                kl_error(&err, -EIO, "Failed", "it is \033[31mbroken");
                control_reply_error(reply, err);
                return;
        }
        answer(reply, "[{\"id\":\"0123456789abcdef0123\",\"uid\":\"u\",\"name\":\"web\","
                      "\"namespace\":\"default\",\"phase\":\"Running\",\"ready\":true,"
                      "\"containers_ready\":1,\"containers\":2,\"restarts\":3,"
                      "\"created\":\"2026-01-02T03:04:05Z\",\"source\":\"api\"}]");
}

static void on_ps(ControlReply *reply, const Value *request, int fd, void *data)
{
        KL_AUTOFREE char *json = NULL;

        if (str_eq(value_get_str(request, "pod"), "none")) {
                answer(reply, "[]");
                return;
        }
        json = str_format(
                "[{\"id\":\"c1\",\"name\":\"app\",\"pod\":\"web\",\"namespace\":\"default\","
                "\"image\":\"nginx:1\",\"state\":\"running\",\"attempt\":1,\"started_at\":"
                "\"2026-01-02T03:04:05Z\",\"pid\":7,\"log_path\":\"%s/1.log\"},"
                "{\"id\":\"c0\",\"name\":\"app\",\"pod\":\"web\",\"namespace\":\"default\","
                "\"image\":\"nginx:1\",\"state\":\"exited\",\"attempt\":0,\"exit_code\":137,"
                "\"reason\":\"OOMKilled\",\"log_path\":\"%s/0.log\"}%s]",
                (char *)data, (char *)data,
                str_eq(value_get_str(request, "pod"), "two")
                        ? ",{\"id\":\"d\",\"name\":\"side\",\"pod\":\"web\",\"namespace\":"
                          "\"default\",\"state\":\"running\",\"attempt\":0}"
                        : "");
        answer(reply, json);
}

static void on_images(ControlReply *reply, const Value *request, int fd, void *data)
{
        answer(reply, "[{\"id\":\"sha256:0123456789abcdef\",\"tags\":[\"localhost:5000/app:v1\"],"
                      "\"digests\":[],\"size_bytes\":1500000,\"pinned\":true},"
                      "{\"id\":\"sha256:ff\",\"tags\":[],\"digests\":[\"docker.io/library/a@sha256:"
                      "1\"],\"size_bytes\":10,\"pinned\":false}]");
}

static void on_pull(ControlReply *reply, const Value *request, int fd, void *data)
{
        static const char *const lines[] = {
                "{\"phase\":\"resolving\"}",
                "{\"layer\":\"sha256:0123456789abcdef\",\"phase\":\"fetching\",\"bytes\":1,"
                "\"total\":2000}",
                "{\"layer\":\"sha256:0123456789abcdef\",\"phase\":\"fetching\",\"bytes\":900,"
                "\"total\":2000}",
                "{\"layer\":\"sha256:0123456789abcdef\",\"phase\":\"unpacking\",\"bytes\":2000,"
                "\"total\":2000}",
        };

        for (size_t i = 0; i < ELEMENTS(lines); i++)
                control_reply_progress(reply, lines[i], strlen(lines[i]));
        answer(reply, "{\"id\":\"sha256:0123\",\"image\":\"a\"}");
}

static void on_import(ControlReply *reply, const Value *request, int fd, void *data)
{
        char text[16] = "";
        KL_AUTOFREE char *json = NULL;

        if (fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) < 0)
                text[0] = '\0';
        json = str_format("{\"images\":[\"%s\"]}", text);
        answer(reply, json);
}

static void on_rmi(ControlReply *reply, const Value *request, int fd, void *data)
{
        KL_AUTOERR err = NULL;

        if (!str_eq(value_get_str(request, "image"), "missing")) {
                answer(reply, "{\"id\":\"x\",\"deleted\":[\"a:1\"]}");
                return;
        }
        kl_error(&err, -ENOENT, "NotFound", "no such image");
        control_reply_error(reply, err);
}

static void on_inspect(ControlReply *reply, const Value *request, int fd, void *data)
{
        answer(reply, "{\"kind\":\"Pod\",\"list\":[{\"a\":1}]}");
}

static void on_version(ControlReply *reply, const Value *request, int fd, void *data)
{
        answer(reply, "{\"version\":\"9.9\",\"kubernetes_version\":\"v1.36.0\",\"pid\":1}");
}

/* The first reading has no rate. */
static void on_stats(ControlReply *reply, const Value *request, int fd, void *data)
{
        static int n_asked;

        if (value_get_str(request, "name") && strcmp(value_get_str(request, "name"), "web") != 0)
                answer(reply, "[]");
        else if (n_asked++ == 0)
                answer(reply, "[{\"name\":\"web\",\"containers\":[]}]");
        else
                answer(reply,
                       "[{\"name\":\"web\",\"namespace\":\"default\",\"cpu_nano_cores\":9,"
                       "\"containers\":[{\"name\":\"c\",\"cpu_nano_cores\":249600000,"
                       "\"memory_working_set_bytes\":31457280,\"memory_limit_bytes\":67108864,"
                       "\"rootfs_bytes\":3145728},{\"name\":\"idle\",\"cpu_nano_cores\":0}]}]");
}

static void serve(const char *dir, int ready)
{
        static const ControlHandler handlers[] = {
                { "pods", on_pods },       { "ps", on_ps },
                { "images", on_images },   { "pull", on_pull },
                { "import", on_import },   { "rmi", on_rmi },
                { "inspect", on_inspect }, { "version", on_version },
                { "stats", on_stats },     { NULL, NULL },
        };
        KL_AUTOFREE char *path = str_format("%s/kubelite.sock", dir);
        Loop *loop;
        Control *control;

        if (loop_new(&loop, NULL) < 0 ||
            control_new(loop, path, handlers, (void *)dir, &control, NULL) < 0 ||
            write(ready, "", 1) != 1)
                _exit(1);
        loop_run(loop);
}

static int setup(void **state)
{
        Node *n = calloc(1, sizeof(*n));
        int ready[2];
        char byte;

        snprintf(n->dir, sizeof(n->dir), "/tmp/kubelite-cli-XXXXXX");
        assert_non_null(mkdtemp(n->dir));
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        n->pid = fork();
        if (n->pid == 0) {
                serve(n->dir, ready[1]);
                _exit(0);
        }
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        close(ready[1]);
        *state = n;
        return 0;
}

static int teardown(void **state)
{
        Node *n = *state;

        kill(n->pid, SIGKILL);
        waitpid(n->pid, NULL, 0);
        assert_int_equal(tree_remove(n->dir), 0);
        free(n->out);
        free(n->errors);
        free(n);
        return 0;
}

/* --- the tool's side --- */

static char *slurp(const char *path)
{
        char *text = NULL;
        size_t len;

        assert_int_equal(file_read(path, 1 << 24, &text, &len), 0);
        return text;
}

/* In a child, as main() would: words are split at blanks; --state-dir is added. */
static int run(Node *n, const char *words)
{
        KL_AUTOFREE char *out = str_format("%s/out", n->dir);
        KL_AUTOFREE char *errors = str_format("%s/errors", n->dir);
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                KL_AUTOSTRV argv = NULL;
                KL_AUTOFREE char *line = str_format("kubelite %s", words);
                int r;

                argv = strv_split(line, ' ');
                strv_addf(&argv, "--state-dir=%s", n->dir);
                if (!freopen(out, "we", stdout) || !freopen(errors, "we", stderr))
                        _exit(99);
                r = cli_main((int)strv_len(argv), argv);
                fflush(NULL);
                strv_free(KL_STEAL(argv));
                free(KL_STEAL(line));
                _exit(r);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        free(n->out);
        free(n->errors);
        n->out = slurp(out);
        n->errors = slurp(errors);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void assert_has(const char *text, const char *part)
{
        if (!strstr(text, part))
                fail_msg("'%s' is not in:\n%s", part, text);
}

static void test_pods(void **state)
{
        Node *n = *state;

        assert_int_equal(run(n, "pods"), 0);
        assert_has(n->out, "POD ID          CREATED");
        assert_has(n->out, "0123456789abc   ");
        assert_has(n->out, "Running   1/2     web    default     3          -\n");
        assert_int_equal(run(n, "pods -q"), 0);
        assert_string_equal(n->out, "0123456789abcdef0123\n");
        assert_int_equal(run(n, "pods -o json"), 0);
        assert_has(n->out, "[{\"id\":\"0123456789abcdef0123\"");
        assert_int_equal(run(n, "pods -o yaml"), 0);
        assert_has(n->out, "- id: \"0123456789abcdef0123\"\n  uid: u\n");
        assert_int_equal(run(n, "pods -n broken"), 1);
        assert_string_equal(n->errors, "kubelite: it is ?[31mbroken\n");
}

static void test_ps(void **state)
{
        Node *n = *state;

        assert_int_equal(run(n, "ps -a"), 0);
        assert_has(n->out, "running");
        assert_has(n->out, "exited (137, OOMKilled)");
}

static void test_images(void **state)
{
        Node *n = *state;

        assert_int_equal(run(n, "images"), 0);
        assert_has(n->out, "localhost:5000/app    v1    0123456789abc   1.5MB   yes\n");
        assert_has(n->out, "docker.io/library/a   -     ff              10B     no\n");
        assert_int_equal(run(n, "rmi a"), 0);
        assert_string_equal(n->out, "Deleted: a:1\n");
        assert_int_equal(run(n, "rmi missing a"), 1);
        assert_string_equal(n->out, "Deleted: a:1\n");
        assert_string_equal(n->errors, "kubelite: missing: no such image\n");
}

static void test_pull(void **state)
{
        Node *n = *state;

        assert_int_equal(run(n, "pull a"), 0);
        assert_string_equal(n->out, "image        resolving\n"
                                    "0123456789ab fetching 2.0kB\n"
                                    "0123456789ab unpacking 2.0kB\n"
                                    "Image is up to date for sha256:0123\n");
        assert_int_equal(run(n, "pull a -o json"), 0);
        assert_string_equal(n->out, "{\"id\":\"sha256:0123\",\"image\":\"a\"}\n");
}

static void test_import(void **state)
{
        Node *n = *state;
        KL_AUTOFREE char *path = str_format("%s/archive", n->dir);
        KL_AUTOFREE char *words = str_format("import %s", path);

        assert_int_equal(run(n, words), 1);
        assert_has(n->errors, "No such file or directory");
        assert_int_equal(file_replace(path, "bytes", 5, 0600, false), 0);
        assert_int_equal(run(n, words), 0);
        assert_string_equal(n->out, "Imported bytes\n");
        assert_int_equal(run(n, "import /dev/null"), 1);
        assert_has(n->errors, "Invalid argument");
}

static void put_log(Node *n, const char *name, const char *text)
{
        KL_AUTOFREE char *path = str_format("%s/%s", n->dir, name);

        assert_int_equal(file_replace(path, text, strlen(text), 0600, false), 0);
}

static void test_logs(void **state)
{
        Node *n = *state;

        put_log(n, "1.log",
                "2026-01-02T03:04:05Z stdout F now\n2026-01-02T03:04:05Z stderr F "
                "oops\n2026-01-02T03:04:06Z stdout F later\n");
        put_log(n, "0.log", "2026-01-02T03:04:05Z stdout F before\n");
        assert_int_equal(run(n, "logs web"), 0);
        assert_string_equal(n->out, "now\nlater\n");
        assert_string_equal(n->errors, "oops\n");
        assert_int_equal(run(n, "logs -p -n default web app"), 0);
        assert_string_equal(n->out, "before\n");
        assert_int_equal(run(n, "logs web --tail 1 -t"), 0);
        assert_string_equal(n->out, "2026-01-02T03:04:06Z later\n");
        assert_int_equal(run(n, "logs two"), 1);
        assert_string_equal(n->errors, "kubelite: name one of the containers of pod 'two': app, "
                                       "side\n");
        assert_int_equal(run(n, "logs none"), 1);
        assert_string_equal(n->errors, "kubelite: no pod 'none' with containers\n");
        assert_int_equal(run(n, "logs none c"), 1);
        assert_string_equal(n->errors, "kubelite: no container 'c' in pod 'none'\n");
        assert_int_equal(run(n, "logs web --tail x"), 2);
        assert_int_equal(run(n, "logs web --since yesterday"), 2);
}

static void test_inspect_and_version(void **state)
{
        Node *n = *state;

        assert_int_equal(run(n, "inspect web -o json"), 0);
        assert_string_equal(n->out, "{\"kind\":\"Pod\",\"list\":[{\"a\":1}]}\n");
        assert_int_equal(run(n, "inspect web"), 0);
        assert_string_equal(n->out, "kind: Pod\nlist:\n- a: 1\n");
        assert_int_equal(run(n, "version"), 0);
        assert_has(n->out, "Client version      " KUBELITE_VERSION "\n");
        assert_has(n->out, "Kubernetes version  v1.36.0\n");
        assert_int_equal(run(n, "version -o json"), 0);
        assert_has(n->out, "\"server\":{\"version\":\"9.9\"");
}

static void test_no_daemon(void **state)
{
        Node *n = *state;
        KL_AUTOFREE char *path = str_format("%s/kubelite.sock", n->dir);

        assert_int_equal(unlink(path), 0);
        assert_int_equal(run(n, "pods"), 1);
        assert_has(n->errors, "no daemon answers at ");
        assert_int_equal(run(n, "version"), 0);
        assert_has(n->out, "Client version");
        assert_has(n->errors, "no daemon answers at ");
}

/* A daemon that is stopped, or hangs, does not take the tool with it. */
static void test_frozen_daemon(void **state)
{
        Node *n = *state;

        kill(n->pid, SIGSTOP);
        assert_int_equal(run(n, "version"), 0);
        assert_has(n->errors, "the daemon does not answer within 5 s");
}

static void test_usage(void **state)
{
        Node *n = *state;

        assert_int_equal(run(n, "podz"), 2);
        assert_string_equal(n->errors, "kubelite: unknown subcommand 'podz', did you mean "
                                       "'pods'?\n");
        assert_int_equal(run(n, "frobnicate"), 2);
        assert_has(n->errors, "see 'kubelite help'");
        assert_int_equal(run(n, "pods extra"), 2);
        assert_int_equal(run(n, "pull"), 2);
        assert_int_equal(run(n, "pods --frob"), 2);
        assert_int_equal(run(n, "pods -o xml"), 2);
        assert_int_equal(run(n, "help"), 0);
}

static void test_stats(void **state)
{
        Node *n = *state;

        assert_int_equal(run(n, "stats web"), 0);
        assert_has(n->out, "NAMESPACE");
        assert_has(n->out, "250m");
        assert_has(n->out, "31.5MB");
        assert_has(n->out, "67.1MB");
        assert_has(n->out, "3.1MB");
        assert_has(n->out, "0m");
        assert_int_equal(run(n, "stats web -o json"), 0);
        assert_has(n->out, "\"cpu_nano_cores\":249600000");
        assert_int_equal(run(n, "stats a b"), 2);
}

/* Every subcommand has a help that names its options. */
static void test_help(void **state)
{
        static const char *const names[] = { "pods",   "ps",      "images", "pull",
                                             "import", "rmi",     "logs",   "inspect",
                                             "stats",  "version", "check" };
        Node *n = *state;

        assert_int_equal(run(n, "help"), 0);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                KL_AUTOFREE char *words = str_format("%s --help", names[i]);
                KL_AUTOFREE char *line = str_format("\n  %-8s ", names[i]);

                assert_int_equal(run(n, "help"), 0);
                assert_has(n->out, line);
                assert_int_equal(run(n, words), 0);
                assert_has(n->out, "--state-dir DIR");
        }
}

static void test_check(void **state)
{
        Node *n = *state;
        KL_AUTO(value_free) Value *list = NULL;
        bool missing = false, kernel = false;
        int status;

        status = run(n, "check -o json --cni-conf-dir /nonexistent");
        assert_int_equal(json_parse(n->out, strlen(n->out), &list, NULL), 0);
        assert_true(value_len(list) > 20);
        for (size_t i = 0; i < value_len(list); i++) {
                const Value *item = value_at(list, i);
                const char *item_state = value_get_str(item, "state");

                kernel |= str_eq(value_get_str(item, "name"), "kernel");
                missing |= str_eq(item_state, "missing");
                assert_non_null(value_get_str(item, "detail"));
                if (!str_eq(item_state, "ok"))
                        assert_non_null(value_get_str(item, "advice"));
        }
        assert_true(kernel);
        assert_int_equal(status, missing ? 1 : 0);
        assert_int_equal(run(n, "check"), status);
        assert_has(n->out, "CNI configuration");
}

static void test_check_sees_another_kubelet(void **state)
{
        Node *n = *state;
        int ready[2];
        pid_t pid;
        char c;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_NAME, "kubelet");
                if (write(ready[1], "", 1) == 1)
                        pause();
                _exit(0);
        }
        assert_int_equal(read(ready[0], &c, 1), 1);
        run(n, "check");
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(ready[0]);
        close(ready[1]);
        assert_has(n->out, "warning  other node agent     kubelet\n");
        assert_has(n->out, "stop and disable it");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_pods),
                TEST(test_ps),
                TEST(test_images),
                TEST(test_pull),
                TEST(test_import),
                TEST(test_logs),
                TEST(test_inspect_and_version),
                TEST(test_no_daemon),
                TEST(test_frozen_daemon),
                TEST(test_usage),
                TEST(test_stats),
                TEST(test_help),
                TEST(test_check),
                TEST(test_check_sees_another_kubelet),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
