/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_ROLE_INTERNAL_H
#define KUBELITE_IMAGE_ROLE_INTERNAL_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * The roles of kubelite-image. The main process starts others of the same program (by exec, so that
 * they inherit no memory) and reads what they report: lines of at most ROLE_LINE_MAX bytes on their
 * standard output.
 *
 *     p <bytes>                 so many bytes of the blob were read
 *     o <hex of a path>         unpacker: this directory is opaque
 *     b <length>                fetcher: a body of so many bytes follows the line
 *     r <JSON>                  the result; the last line
 *     e <JSON>                  {"code", "message"}; the last line
 */
#define ROLE_LINE_MAX (64U << 10)

#define ROLE_UNPACK "unpack"
#define ROLE_FETCH "fetch"
#define ROLE_SCAN "scan"

typedef struct RoleSpec {
        const char *role;
        char *const *args; /* after the role; NULL-terminated, may be NULL */
        int in_fd;         /* standard input; -1: /dev/null */
        int out_fd;        /* standard output */
        int fds[2];        /* become 3 and 4; -1: none */
} RoleSpec;

/* Its pid. It dies with this process. */
int role_spawn(const RoleSpec *spec, pid_t *ret, KlError **err);

/* --- in a role --- */

int role_unpack(int argc, char **argv);
int role_fetch(int argc, char **argv);
int role_scan(int argc, char **argv);

/* Reports to standard output and gives the exit status. */
int role_fail(const KlError *err);
void role_error_line(const KlError *err, Buf *to);
void role_progress(uint64_t bytes);
void role_send(const Buf *text);

/* --- in the main process --- */

/* Fills *err from the JSON of an "e" line; hostile: bounded and cleaned. */
int role_decode_error(const char *json, KlError **err);

#endif
