/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_BASE_MAP_H
#define KUBELITE_BASE_MAP_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * A hash map from strings (copied) to pointers (not owned unless a free function is given).
 * Iteration follows insertion order until something is removed.
 */
typedef struct Map Map;

typedef void (*MapFreeFunc)(void *value);

/* NULL when out of memory. */
Map *map_new(MapFreeFunc free_value);
Map *map_free(Map *map);
KL_DEFINE_CLEANUP(Map *, map_free);

void *map_get(const Map *map, const char *key);

/* Replaces (and frees) an older value. value must not be NULL. 0 or -ENOMEM. */
int map_set(Map *map, const char *key, void *value);

/* Takes the value out without freeing it; NULL if there was none. */
void *map_take(Map *map, const char *key);

/* Removes and frees; false if there was none. */
bool map_remove(Map *map, const char *key);

size_t map_len(const Map *map);

/*
 * Visits all entries: `for (size_t i = 0; map_next(map, &i, &key, &value);)`. The body may remove
 * the entry at hand, and may not add any. key and value may be NULL.
 */
bool map_next(const Map *map, size_t *i, const char **ret_key, void *ret_value);

#endif
