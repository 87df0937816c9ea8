/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_LOG_OPTIONS_H
#define KUBELITE_SERVER_LOG_OPTIONS_H

#include "base/error.h"
#include "server/target.h"

/* v1.PodLogOptions, as a query gives them. */
typedef struct LogOptions {
        bool follow, previous, timestamps;
        int64_t since_us;    /* INT64_MIN: from the beginning */
        int64_t tail_lines;  /* -1: all */
        int64_t limit_bytes; /* -1: none */
        bool out, err;       /* which streams */
} LogOptions;

/* 0; -EINVAL: cannot be decoded (400); -EDOM: contradicts itself or the API's rules (422). */
int log_options_parse(const Target *target, LogOptions *ret, KlError **err);

#endif
