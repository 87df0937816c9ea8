/* SPDX-License-Identifier: Apache-2.0 */

/* Rules and texts are upstream's (pkg/kubelet/kubelet_server_journal.go). */

#include "server/node-log-query.h"

#include "base/clock.h"
#include "base/str.h"

#define NOT_ACCEPTABLE(err, ...) kl_error(err, -EDOM, "Invalid", __VA_ARGS__)

static bool is_blank(const char *text)
{
        return text[strspn(text, " \t\r\n")] == '\0';
}

/* Only what can form no option and no path: a service's name becomes both. */
static bool is_safe_service(const char *name)
{
        return name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789-_@")] == '\0';
}

static int check_service(const char *name, KlError **err)
{
        if (strlen(name) > NODE_LOG_SERVICE_MAX)
                return NOT_ACCEPTABLE(err,
                                      "query: Invalid value: \"%.32s...\": length must be "
                                      "less than 100",
                                      name);
        if (!is_safe_service(name))
                return NOT_ACCEPTABLE(err,
                                      "query: Invalid value: \"%s\": input contains unsupported "
                                      "characters",
                                      name);
        return 0;
}

/* Upstream's hint that a file is meant: a slash of either kind. */
static int take_query(NodeLogQuery *q, const char *text, KlError **err)
{
        if (strpbrk(text, "/\\")) {
                if (q->file)
                        return NOT_ACCEPTABLE(err,
                                              "query: Invalid value: \"%s\": cannot specify "
                                              "more than one file",
                                              text);
                q->file = text;
                return 0;
        }
        if (is_blank(text))
                return 0;
        KL_TRY(check_service(text, err));
        if (q->n_services == NODE_LOG_SERVICES_MAX)
                return NOT_ACCEPTABLE(err, "query: Too many: must have at most %d items",
                                      NODE_LOG_SERVICES_MAX);
        q->services[q->n_services++] = text;
        return 0;
}

static int parse_time(const Target *target, const char *name, int64_t *ret, KlError **err)
{
        const char *text = target_get(target, name);

        if (str_empty(text) || time_parse_rfc3339(text, ret) == 0)
                return 0;
        return kl_error(err, -EINVAL, NULL, "%s: Invalid value: \"%s\": invalid time format", name,
                        text);
}

static int parse_number(const Target *target, const char *name, int64_t *ret, KlError **err)
{
        if (str_empty(target_get(target, name)) || target_int(target, name, ret) == 0)
                return 0;
        return kl_error(err, -EINVAL, NULL, "%s: Invalid value: \"%s\": invalid syntax", name,
                        target_get(target, name));
}

static int parse_options(const Target *target, NodeLogQuery *q, KlError **err)
{
        const char *pattern = target_get(target, "pattern");

        KL_TRY(parse_time(target, "sinceTime", &q->since_us, err));
        KL_TRY(parse_time(target, "untilTime", &q->until_us, err));
        KL_TRY(parse_number(target, "boot", &q->boot, err));
        KL_TRY(parse_number(target, "tailLines", &q->tail_lines, err));
        if (!str_empty(target_get(target, "boot")) && q->boot > 0)
                return NOT_ACCEPTABLE(err, "boot: Invalid value: %lld: must be less than 1",
                                      (long long)q->boot);
        if (!str_empty(target_get(target, "tailLines")) &&
            (q->tail_lines < 0 || q->tail_lines > NODE_LOG_TAIL_MAX))
                return NOT_ACCEPTABLE(err,
                                      "tailLines: Invalid value: %lld: must be between 0 and %d, "
                                      "inclusive",
                                      (long long)q->tail_lines, NODE_LOG_TAIL_MAX);
        if (!str_empty(pattern) && strlen(pattern) > NODE_LOG_PATTERN_MAX)
                return NOT_ACCEPTABLE(err, "pattern: Too long: may not be more than %d bytes",
                                      NODE_LOG_PATTERN_MAX);
        q->pattern = str_empty(pattern) ? NULL : pattern;
        return 0;
}

bool node_log_query_has_options(const NodeLogQuery *q)
{
        return q->since_us != INT64_MIN || q->until_us != INT64_MIN || q->tail_lines >= 0 ||
               q->boot < 1 || q->pattern;
}

static int check(const NodeLogQuery *q, KlError **err)
{
        if (!q->file && q->n_services == 0)
                return NOT_ACCEPTABLE(err, "query: Required value: cannot be empty with options");
        if (q->file && q->n_services > 0)
                return NOT_ACCEPTABLE(err,
                                      "query: Invalid value: \"%s\": cannot specify a file and "
                                      "service",
                                      q->file);
        if (q->file && node_log_query_has_options(q))
                return NOT_ACCEPTABLE(err,
                                      "query: Invalid value: \"%s\": cannot specify file with "
                                      "options",
                                      q->file);
        if (q->since_us != INT64_MIN && q->until_us != INT64_MIN && q->since_us > q->until_us)
                return NOT_ACCEPTABLE(err, "untilTime: Invalid value: must be after `sinceTime`");
        return 1;
}

int node_log_query_parse(const Target *target, NodeLogQuery *ret, KlError **err)
{
        bool asked = false;

        *ret = (NodeLogQuery){
                .since_us = INT64_MIN, .until_us = INT64_MIN, .tail_lines = -1, .boot = 1
        };
        for (size_t i = 0; i < target->n_parameters; i++) {
                if (!str_eq(target->parameters[i].name, "query"))
                        continue;
                asked = true;
                KL_TRY(take_query(ret, target->parameters[i].value, err));
        }
        if (asked && !ret->file && ret->n_services == 0)
                return kl_error(err, -EINVAL, NULL, "query: Invalid value: query cannot be empty");
        KL_TRY(parse_options(target, ret, err));
        return asked || node_log_query_has_options(ret) ? check(ret, err) : 0;
}

/* Each value is part of its option's word, so that none can be taken for an option. */
static int add(char ***to, const char *option, const char *value)
{
        KL_AUTOFREE char *word = str_format("%s%s", option, value);

        return word ? strv_add(to, word) : -ENOMEM;
}

static int add_number(char ***to, const char *option, int64_t value)
{
        char text[32];

        snprintf(text, sizeof(text), "%lld", (long long)value);
        return add(to, option, text);
}

char **node_log_query_journalctl(const NodeLogQuery *q, const bool *services)
{
        KL_AUTOSTRV args = NULL;
        int r = add(&args, "journalctl", "");

        r |= add(&args, "--utc", "");
        r |= add(&args, "--no-pager", "");
        r |= add(&args, "--output=short-precise", "");
        if (q->since_us != INT64_MIN)
                r |= add_number(&args, "--since=@", q->since_us / 1000000);
        if (q->until_us != INT64_MIN)
                r |= add_number(&args, "--until=@", q->until_us / 1000000);
        if (q->tail_lines >= 0) {
                r |= add(&args, "--pager-end", "");
                r |= add_number(&args, "--lines=", q->tail_lines);
        }
        for (size_t i = 0; i < q->n_services; i++)
                if (services[i])
                        r |= add(&args, "--unit=", q->services[i]);
        if (q->pattern)
                r |= add(&args, "--grep=", q->pattern);
        if (q->boot < 1)
                r |= add_number(&args, "--boot=", q->boot);
        return r < 0 ? NULL : KL_STEAL(args);
}
