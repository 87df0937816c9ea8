/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_NODE_LOG_FILES_H
#define KUBELITE_SERVER_NODE_LOG_FILES_H

#include "server/node-log-query.h"

/*
 * What a worker answers to /logs/: it may wait for the disk, and for the client to take what it
 * writes. The answer is one line, "<status> <content type, place, or text>\n", then a body.
 */
#define NODE_LOG_DIR "/var/log"
#define NODE_LOG_LINE_MAX 1024
#define NODE_LOG_ENTRIES_MAX 10000

/* A file, or a directory's list; path is relative to NODE_LOG_DIR and from the client. Returns the
 * worker's exit status. */
int node_log_send_path(int fd, const char *path, bool ends_in_slash);
int node_log_send_query(int fd, const NodeLogQuery *query);

#endif
