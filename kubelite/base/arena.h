/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_BASE_ARENA_H
#define KUBELITE_BASE_ARENA_H

#include "base/cleanup.h"

#include <stddef.h>

/*
 * Memory that is freed as a whole: a decoded pod, a configuration. Zeroed. All calls return NULL
 * when out of memory, and a NULL input string gives NULL without being an error.
 */
typedef struct Arena Arena;

Arena *arena_new(void);
Arena *arena_free(Arena *arena);
KL_DEFINE_CLEANUP(Arena *, arena_free);

void *arena_alloc(Arena *arena, size_t size);
void *arena_calloc(Arena *arena, size_t n, size_t size);
char *arena_strdup(Arena *arena, const char *s);
char *arena_strndup(Arena *arena, const char *s, size_t n);
char *arena_format(Arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Bytes taken from the system. */
size_t arena_size(const Arena *arena);

#define ARENA_NEW(arena, type) ((type *)arena_alloc(arena, sizeof(type)))
#define ARENA_ARRAY(arena, n, type) ((type *)arena_calloc(arena, n, sizeof(type)))

#endif
