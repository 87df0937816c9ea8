/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Open addressing over an index of 32-bit slots into a dense array of entries: small, cache
 * friendly, and iteration is a walk over the array. Removal leaves a hole with key NULL; holes go
 * when the table is rebuilt. Rebuilding never happens in map_remove, so iteration survives it.
 */

#include "base/map.h"

#include "base/str.h"

#include <stdint.h>

#define MAP_FREE UINT32_MAX

typedef struct MapEntry {
        char *key;
        void *value;
        uint32_t hash;
} MapEntry;

struct Map {
        MapEntry *entries;
        uint32_t *slots;
        size_t n_slots;   /* power of two or 0 */
        size_t n_entries; /* holes included */
        size_t n_live;
        MapFreeFunc free_value;
};

Map *map_new(MapFreeFunc free_value)
{
        Map *map = calloc(1, sizeof(*map));

        if (map)
                map->free_value = free_value;
        return map;
}

static void entry_clear(Map *map, MapEntry *entry)
{
        if (entry->key && map->free_value)
                map->free_value(entry->value);
        free(entry->key);
        entry->key = NULL;
        entry->value = NULL;
}

Map *map_free(Map *map)
{
        if (!map)
                return NULL;
        for (size_t i = 0; i < map->n_entries; i++)
                entry_clear(map, &map->entries[i]);
        free(map->entries);
        free(map->slots);
        free(map);
        return NULL;
}

static void slot_insert(uint32_t *slots, size_t n_slots, uint32_t hash, uint32_t index)
{
        size_t at = hash & (n_slots - 1);

        while (slots[at] != MAP_FREE)
                at = (at + 1) & (n_slots - 1);
        slots[at] = index;
}

/* Room for one more entry; drops holes. */
static int map_rebuild(Map *map)
{
        size_t n_slots = 8, n = 0;
        MapEntry *entries;
        uint32_t *slots;

        while (n_slots < (map->n_live + 1) * 2)
                n_slots *= 2;
        entries = calloc(n_slots / 2 + 1, sizeof(*entries));
        slots = malloc(n_slots * sizeof(*slots));
        if (!entries || !slots) {
                free(entries);
                free(slots);
                return -ENOMEM;
        }
        memset(slots, 0xff, n_slots * sizeof(*slots));
        for (size_t i = 0; i < map->n_entries; i++) {
                if (!map->entries[i].key)
                        continue;
                entries[n] = map->entries[i];
                slot_insert(slots, n_slots, entries[n].hash, (uint32_t)n);
                n++;
        }
        free(map->entries);
        free(map->slots);
        map->entries = entries;
        map->slots = slots;
        map->n_slots = n_slots;
        map->n_entries = n;
        return 0;
}

static MapEntry *map_find(const Map *map, const char *key, uint32_t hash)
{
        if (!map->n_slots)
                return NULL;
        for (size_t at = hash & (map->n_slots - 1); map->slots[at] != MAP_FREE;
             at = (at + 1) & (map->n_slots - 1)) {
                MapEntry *entry = &map->entries[map->slots[at]];

                if (entry->key && entry->hash == hash && strcmp(entry->key, key) == 0)
                        return entry;
        }
        return NULL;
}

static uint32_t key_hash(const char *key)
{
        return hash_fnv32(key, strlen(key));
}

void *map_get(const Map *map, const char *key)
{
        MapEntry *entry = map_find(map, key, key_hash(key));

        return entry ? entry->value : NULL;
}

int map_set(Map *map, const char *key, void *value)
{
        uint32_t hash = key_hash(key);
        MapEntry *entry = map_find(map, key, hash);
        char *copy;
        int r;

        if (entry) {
                if (map->free_value && entry->value != value)
                        map->free_value(entry->value);
                entry->value = value;
                return 0;
        }
        if (map->n_entries + 1 > map->n_slots / 2) {
                r = map_rebuild(map);
                if (r < 0)
                        return r;
        }
        copy = strdup(key);
        if (!copy)
                return -ENOMEM;
        map->entries[map->n_entries] = (MapEntry){ copy, value, hash };
        slot_insert(map->slots, map->n_slots, hash, (uint32_t)map->n_entries);
        map->n_entries++;
        map->n_live++;
        return 0;
}

void *map_take(Map *map, const char *key)
{
        MapEntry *entry = map_find(map, key, key_hash(key));
        void *value;

        if (!entry)
                return NULL;
        value = entry->value;
        free(entry->key);
        entry->key = NULL;
        entry->value = NULL;
        map->n_live--;
        return value;
}

bool map_remove(Map *map, const char *key)
{
        void *value = map_take(map, key);

        if (value && map->free_value)
                map->free_value(value);
        return value;
}

size_t map_len(const Map *map)
{
        return map->n_live;
}

bool map_next(const Map *map, size_t *i, const char **ret_key, void *ret_value)
{
        while (*i < map->n_entries) {
                MapEntry *entry = &map->entries[(*i)++];

                if (!entry->key)
                        continue;
                if (ret_key)
                        *ret_key = entry->key;
                if (ret_value)
                        *(void **)ret_value = entry->value;
                return true;
        }
        return false;
}
