/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SHIM_LOG_INTERNAL_H
#define KUBELITE_SHIM_LOG_INTERNAL_H

#include "shim/protocol.h"

/* Between the shim and its log writer, which are always of one build. */

enum {
        LOG_ADD = 1,    /* descriptors: as flags say, in this order */
        LOG_ATTACH,     /* flags: SHIM_ATTACH_, descriptors */
        LOG_REOPEN,     /* one descriptor */
        LOG_END,        /* its processes are gone: drain, close, answer */
        LOG_ENDED,      /* from the log writer */
        LOG_STDIN_DONE, /* from the log writer: the one attachment that stdinOnce allows has ended
                         */
        LOG_ROTATED,    /* from the log writer */
};

enum {
        LOG_HAS_FILE = 1,
        LOG_HAS_OUT = 2,
        LOG_HAS_ERR = 4,
        LOG_HAS_IN = 8,
        LOG_STDIN_ONCE = 16,
        LOG_TTY = 32,     /* the out descriptor is a pty's master, for both directions */
        LOG_HAS_DIR = 64, /* of the file, which is rotated: comes after the file */
        LOG_WAIT = 128,   /* nothing is read before the first client is attached */
};

typedef struct LogMessage {
        uint32_t type, channel, flags, reserved;
        uint64_t max_bytes; /* ADD with LOG_HAS_DIR */
        char name[SHIM_LOG_NAME_SIZE];
} LogMessage;

#define LOG_MESSAGE_FDS 5

#endif
