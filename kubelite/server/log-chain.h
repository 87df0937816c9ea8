/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_LOG_CHAIN_H
#define KUBELITE_SERVER_LOG_CHAIN_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * One container's log over all of its files: the rotated ones (base/rotated.h), compressed or not,
 * then the current one. Where upstream reads only the current file, here a log has the lines that
 * are kept, and what follows misses none however often the file is rotated meanwhile.
 *
 * Only regular files are opened, beneath root_fd and through no link.
 */
#define LOG_CHAIN_BLOCK (32U << 10)

typedef struct LogChain LogChain;

enum {
        LOG_CHAIN_NOWAIT = 1, /* what is not in the page cache is -EAGAIN */
        LOG_CHAIN_FOLLOW = 2, /* the current file's end is not the end */
};

/* Opens the current file (-ENOENT when there is none yet, -EINVAL for what is no file); reading
 * begins with it. root_fd is borrowed. */
int log_chain_open(int root_fd, const char *path, unsigned int flags, LogChain **ret);
LogChain *log_chain_free(LogChain *chain);
KL_DEFINE_CLEANUP(LogChain *, log_chain_free);

/* One of these at most, before anything is read. Files that were last written before since_us may
 * be passed over. */
int log_chain_seek_oldest(LogChain *chain, int64_t since_us);
/* Where the last `lines` lines begin; partial records count as lines, as upstream counts them. In
 * steps: 1: go on, 0: found, or a negative errno. */
int log_chain_seek_tail(LogChain *chain, int64_t lines);

/* 0: the end of the current file, for now. -EAGAIN: see below. *ret_new: these bytes begin another
 * file, and what was left of a line ends. */
ssize_t log_chain_read(LogChain *chain, char *buf, size_t size, bool *ret_new);

/* After -EAGAIN: what has to be read into the page cache first. */
int log_chain_fd(const LogChain *chain);
int64_t log_chain_position(const LogChain *chain);

#endif
