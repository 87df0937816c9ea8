/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_AHEAD_INTERNAL_H
#define KUBELITE_IMAGE_AHEAD_INTERNAL_H

#include "image/worker/source-internal.h"

/* A source read, inflated and hashed by a thread of its own, some blocks ahead of who writes them:
 * one layer uses two processors. */
typedef struct Ahead Ahead;

/* Starts the thread, which waits. So it can be there before a filter of system calls that knows of
 * no thread being made, and is put on all threads. The source belongs to the thread from now on. */
int ahead_new(Source *source, Ahead **ret, KlError **err);
void ahead_go(Ahead *ahead);

/* As source_read; *ret_done gets the bytes of the blob that this is made of. */
ssize_t ahead_read(Ahead *ahead, const void **ret, uint64_t *ret_done, KlError **err);

/* Reads what is left and ends the thread: the source is the caller's again. After an error of
 * anybody's there is no way but to end the process. */
int ahead_finish(Ahead *ahead, KlError **err);

#endif
