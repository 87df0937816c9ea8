/* SPDX-License-Identifier: Apache-2.0 */

/* Which log `logs` prints: the daemon tells where the container's file is, log-file.c reads it. */

#include "cli/cli-internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "codec/json.h"

typedef struct Wanted {
        const char *state_dir;
        const char *namespace, *pod, *container;
        char *id; /* of the container whose log is shown */
} Wanted;

static int list_containers(const Wanted *wanted, Value **ret, KlError **err)
{
        KL_AUTOBUF json = BUF_INIT;
        JsonWriter w = JSON_WRITER(&json);
        CliRequest request = { .state_dir = wanted->state_dir,
                               .fd = -1,
                               .timeout_s = CLI_QUERY_TIMEOUT_S };

        jw_object(&w);
        jw_kstr(&w, "command", "ps");
        jw_kbool(&w, "all", true);
        jw_kstr(&w, "pod", wanted->pod);
        jw_kstr_opt(&w, "namespace", wanted->namespace);
        jw_kstr_opt(&w, "name", wanted->container);
        jw_end(&w);
        request.json = buf_error(&json) ? NULL : buf_str(&json);
        return cli_request(&request, ret, err);
}

/* Every name but the first container's one, for the complaint. */
static int complain_of_names(const Value *list, const char *pod)
{
        KL_AUTOSTRV names = NULL;
        KL_AUTOBUF text = BUF_INIT;

        for (size_t i = 0; i < value_len(list); i++) {
                const char *name = value_get_str(value_at(list, i), "name");

                if (name && !strv_contains(names, name) && strv_add(&names, name) == 0)
                        buf_addf(&text, "%s%s", text.len ? ", " : "", name);
        }
        return cli_fail("name one of the containers of pod '%s': %s", pod, buf_str(&text));
}

static bool several(const Value *list, const char *key)
{
        for (size_t i = 1; i < value_len(list); i++)
                if (!str_eq(value_get_str(value_at(list, i), key),
                            value_get_str(value_at(list, 0), key)))
                        return true;
        return false;
}

static int64_t attempt_of(const Value *container)
{
        return value_int(value_get(container, "attempt"), 0);
}

/* The newest attempt, or the newest one below that. */
static const Value *choose_attempt(const Value *list, int64_t below)
{
        const Value *best = NULL;

        for (size_t i = 0; i < value_len(list); i++) {
                const Value *c = value_at(list, i);

                if (attempt_of(c) < below && (!best || attempt_of(c) > attempt_of(best)))
                        best = c;
        }
        return best;
}

/* "…/app/3.log" -> "…/app/2.log", for an attempt whose record is gone and whose log is not. */
static char *previous_path(const Value *latest)
{
        const char *path = value_get_str(latest, "log_path");
        const char *slash = path ? strrchr(path, '/') : NULL;

        if (!slash || attempt_of(latest) <= 0)
                return NULL;
        return str_format("%.*s/%lld.log", (int)(slash - path), path,
                          (long long)attempt_of(latest) - 1);
}

/* 0, or an exit status after a complaint. */
static int choose_log(Wanted *wanted, const Value *list, bool previous, char **ret_path)
{
        const Value *latest, *chosen;
        const char *path;

        if (value_len(list) == 0)
                return cli_fail(wanted->container ? "no container '%2$s' in pod '%1$s'"
                                                  : "no pod '%1$s' with containers",
                                wanted->pod, wanted->container);
        if (several(list, "namespace"))
                return cli_fail("there is a pod '%s' in several namespaces: use --namespace",
                                wanted->pod);
        if (several(list, "name"))
                return complain_of_names(list, wanted->pod);
        latest = choose_attempt(list, INT64_MAX);
        chosen = previous ? choose_attempt(list, attempt_of(latest)) : latest;
        path = value_get_str(chosen, "log_path");
        *ret_path = path ? strdup(path) : previous ? previous_path(latest) : NULL;
        if (!*ret_path)
                return cli_fail(previous ? "container '%s' has not run before"
                                         : "container '%s' has no log yet",
                                value_get_str(latest, "name") ?: "");
        wanted->id = strdup(value_get_str(chosen, "id") ?: "");
        return CLI_OK;
}

/* A daemon that is away does not end what is followed. */
static bool goes_on(void *data)
{
        const Wanted *wanted = data;
        KL_AUTO(value_free) Value *list = NULL;

        if (list_containers(wanted, &list, NULL) < 0)
                return true;
        for (size_t i = 0; i < value_len(list); i++) {
                const Value *c = value_at(list, i);

                if (str_eq(value_get_str(c, "id"), wanted->id))
                        return !str_eq(value_get_str(c, "state"), "exited");
        }
        return false;
}

static int parse_since(const char *text, int64_t *ret)
{
        int64_t us;

        if (time_parse_duration(text, &us) == 0)
                *ret = time_realtime_us() - us;
        else if (time_parse_rfc3339(text, ret) < 0)
                return -EINVAL;
        return 0;
}

static int run_logs(Wanted *wanted, CliLogOptions *log, bool previous)
{
        KL_AUTO(value_free) Value *list = NULL;
        KL_AUTOFREE char *path = NULL;
        KL_AUTOERR err = NULL;
        int r;

        if (list_containers(wanted, &list, &err) < 0)
                return cli_fail("%s", kl_error_msg(err));
        r = choose_log(wanted, list, previous, &path);
        if (r != CLI_OK)
                return r;
        log->path = path;
        log->goes_on = goes_on;
        log->data = wanted;
        r = cli_log_print(log, stdout, stderr, &err);
        return r < 0 ? cli_fail("%s", kl_error_msg(err)) : CLI_OK;
}

int cli_run_logs(const CliCommand *command, int argc, char **argv)
{
        const char *namespace = NULL, *tail = NULL, *since = NULL;
        bool previous = false;
        CliLogOptions log = { .tail = -1, .since_us = INT64_MIN };
        const CliOption options[] = {
                { 'n', "namespace", "NAME", "of the pod", NULL, &namespace },
                { 'f', "follow", NULL, "go on until the container ends", &log.follow, NULL },
                { 't', "timestamps", NULL, "begin each line with its time", &log.timestamps, NULL },
                { 'p', "previous", NULL, "of the attempt before the current one", &previous, NULL },
                { 0, "tail", "LINES", "the last lines only", NULL, &tail },
                { 0, "since", "TIME", "from a time (RFC 3339) or a while ago (5m) on", NULL,
                  &since },
                { 0 },
        };
        Wanted wanted = { 0 };
        CliCommon common;
        char **args;
        int r;

        r = cli_parse(command, options, 1, 2, argc, argv, &common, &args);
        if (r >= 0)
                return r;
        if (tail && str_to_i64(tail, -1, INT64_MAX, &log.tail) < 0) {
                cli_fail("--tail: '%s' is no number of lines", tail);
                return CLI_USAGE;
        }
        if (since && parse_since(since, &log.since_us) < 0) {
                cli_fail("--since: '%s' is neither a time nor a duration", since);
                return CLI_USAGE;
        }
        wanted = (Wanted){ .state_dir = common.state_dir,
                           .namespace = namespace,
                           .pod = args[0],
                           .container = args[1] };
        r = run_logs(&wanted, &log, previous);
        free(wanted.id);
        return r;
}
