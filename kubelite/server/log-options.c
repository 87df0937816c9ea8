/* SPDX-License-Identifier: Apache-2.0 */

/* What a query may ask of a log; rules as in ValidatePodLogOptions. */

#include "server/log-options.h"

#include "base/clock.h"
#include "base/str.h"

#define INVALID(err, ...) kl_error(err, -EDOM, "Invalid", __VA_ARGS__)

static int parse_number(const Target *target, const char *name, int64_t min, int64_t *ret,
                        KlError **err)
{
        if (!target_get(target, name))
                return 0;
        if (target_int(target, name, ret) < 0)
                return kl_error(err, -EINVAL, NULL, "%s is no number", name);
        if (*ret < min)
                return INVALID(err, "%s: must be greater than or equal to %lld", name,
                               (long long)min);
        return 0;
}

static int parse_since(const Target *target, LogOptions *o, KlError **err)
{
        const char *time = target_get(target, "sinceTime");
        int64_t seconds = 0;

        KL_TRY(parse_number(target, "sinceSeconds", 1, &seconds, err));
        if (str_empty(time)) {
                if (seconds > 0 && seconds < INT64_MAX / 4000000)
                        o->since_us = time_realtime_us() - seconds * 1000000;
                return 0;
        }
        if (time_parse_rfc3339(time, &o->since_us) < 0)
                return kl_error(err, -EINVAL, NULL, "sinceTime is no time of RFC 3339");
        if (seconds > 0)
                return INVALID(err, "at most one of sinceTime or sinceSeconds may be specified");
        return 0;
}

static int parse_stream(const Target *target, LogOptions *o, KlError **err)
{
        const char *stream = target_get(target, "stream");

        if (!stream || str_eq(stream, "All"))
                return 0;
        o->out = str_eq(stream, "Stdout");
        o->err = str_eq(stream, "Stderr");
        if (!o->out && !o->err)
                return INVALID(err, "stream: must be one of All, Stdout, Stderr");
        if (o->tail_lines >= 0)
                return INVALID(err, "`tailLines` and specific `stream` are mutually exclusive "
                                    "for now");
        return 0;
}

int log_options_parse(const Target *target, LogOptions *ret, KlError **err)
{
        *ret = (LogOptions){
                .follow = target_bool(target, "follow"),
                .previous = target_bool(target, "previous"),
                .timestamps = target_bool(target, "timestamps"),
                .since_us = INT64_MIN,
                .tail_lines = -1,
                .limit_bytes = -1,
                .out = true,
                .err = true,
        };
        KL_TRY(parse_number(target, "tailLines", 0, &ret->tail_lines, err));
        KL_TRY(parse_number(target, "limitBytes", 1, &ret->limit_bytes, err));
        KL_TRY(parse_since(target, ret, err));
        return parse_stream(target, ret, err);
}
