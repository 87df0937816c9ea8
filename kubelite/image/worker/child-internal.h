/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_CHILD_INTERNAL_H
#define KUBELITE_IMAGE_CHILD_INTERNAL_H

#include "image/worker/role-internal.h"

/* A role from the main process' side: its pid, its lines. What it says is hostile and bounded. */

typedef struct RoleChild RoleChild;

/* letter is 'p', 'o', 'b', 'f' …; text is the rest of the line. <0 ends the reading. */
typedef int (*RoleLineFunc)(RoleChild *child, char letter, char *text, void *data);

struct RoleChild {
        pid_t pid;
        int fd; /* its standard output; -1 after its end */
        Buf input;
        char *result; /* JSON of the "r" line; owned */
        KlError *err; /* of the "e" line, or of a breach of the protocol */
        uint64_t progress;
        RoleLineFunc on_line; /* lines other than p, r, e; NULL: a breach */
        void *data;
        Buf body; /* what followed the last "b" line */
        size_t body_left;
};

/* spec.out_fd is made here. */
int role_child_start(RoleChild *child, RoleSpec *spec, KlError **err);

/* Reads what is there (blocking if nothing is): 1 while it lives, 0 at its end, when it is reaped
 * and has a result or an error. */
int role_child_read(RoleChild *child);

/* Reads until a result or an error line has come: 0 with child->result, <0. */
int role_child_wait_result(RoleChild *child, KlError **err);

/* Kills, reaps, frees what it holds. */
void role_child_deinit(RoleChild *child);

#endif
