/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_NODE_LOG_QUERY_H
#define KUBELITE_SERVER_NODE_LOG_QUERY_H

#include "base/error.h"
#include "server/target.h"

/* The query of /logs/ (KEP-2258), what it may ask, and how journalctl is asked for it. Pure. */
#define NODE_LOG_SERVICES_MAX 4
#define NODE_LOG_SERVICE_MAX 256
#define NODE_LOG_TAIL_MAX 100000
#define NODE_LOG_PATTERN_MAX 1024

/* Borrows from the target. */
typedef struct NodeLogQuery {
        const char *services[NODE_LOG_SERVICES_MAX];
        size_t n_services;
        const char *file;           /* what has a slash is one; NULL: none */
        int64_t since_us, until_us; /* INT64_MIN: unset */
        int64_t tail_lines;         /* -1: unset */
        int64_t boot;               /* 1: unset */
        const char *pattern;        /* PCRE2, or NULL */
} NodeLogQuery;

/* 1: a query; 0: the target has none; -EINVAL: it cannot be read (400); -EDOM: it must not be asked
 * (406). */
int node_log_query_parse(const Target *target, NodeLogQuery *ret, KlError **err);
bool node_log_query_has_options(const NodeLogQuery *query);

/* Arguments for the services at these places; ends in NULL, to be freed by strv_free. NULL: out of
 * memory. */
char **node_log_query_journalctl(const NodeLogQuery *query, const bool *services);

#endif
