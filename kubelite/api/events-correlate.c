/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Aggregation and spam filter as client-go's EventCorrelator does them. Keys join their parts with
 * a unit separator, which no part may contain.
 */

#include "api/events-internal.h"

#include "base/map.h"
#include "base/str.h"

/* Events of one object, type and reason whose messages differ. */
typedef struct Similar {
        uint64_t last_ms;
        unsigned int n;
        uint64_t messages[EVENTS_SIMILAR_MAX]; /* hashes */
} Similar;

typedef struct Bucket {
        uint64_t refilled_ms;
        unsigned int tokens;
} Bucket;

struct Correlator {
        Map *similar, *buckets;
};

Correlator *correlator_new(void)
{
        KL_AUTO(correlator_free) Correlator *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->similar = map_new(free);
        c->buckets = map_new(free);
        return c->similar && c->buckets ? KL_STEAL(c) : NULL;
}

Correlator *correlator_free(Correlator *c)
{
        if (c) {
                map_free(c->similar);
                map_free(c->buckets);
                free(c);
        }
        return NULL;
}

static const char *text(const char *s)
{
        return s ? s : "";
}

static char *object_key(const EventObject *o)
{
        return str_format("%s\x1f%s\x1f%s\x1f%s\x1f%s", text(o->kind), text(o->namespace),
                          text(o->name), text(o->uid), text(o->api_version));
}

/* One entry more than the map may hold is never made: then the event simply stands alone. */
static void *entry_of(Map *map, const char *key, size_t size)
{
        void *entry = map_get(map, key);

        if (entry || map_len(map) >= EVENTS_KNOWN_MAX)
                return entry;
        entry = calloc(1, size);
        if (entry && map_set(map, key, entry) < 0) {
                free(entry);
                return NULL;
        }
        return entry;
}

static bool is_aggregated(Similar *similar, uint64_t message, uint64_t now_ms)
{
        if (now_ms - similar->last_ms > EVENTS_WINDOW_MS)
                similar->n = 0;
        similar->last_ms = now_ms;
        for (unsigned int i = 0; i < similar->n; i++)
                if (similar->messages[i] == message)
                        return similar->n >= EVENTS_SIMILAR_MAX;
        if (similar->n < EVENTS_SIMILAR_MAX)
                similar->messages[similar->n++] = message;
        return similar->n >= EVENTS_SIMILAR_MAX;
}

bool correlator_aggregate(Correlator *c, const EventObject *object, const char *type,
                          const char *reason, const char *message, uint64_t now_ms, char **ret_key)
{
        KL_AUTOFREE char *of = object_key(object);
        KL_AUTOFREE char *group = of ? str_format("%s\x1f%s\x1f%s", of, type, reason) : NULL;
        Similar *similar = group ? entry_of(c->similar, group, sizeof(*similar)) : NULL;
        bool aggregated =
                similar && is_aggregated(similar, hash_fnv64(message, strlen(message)), now_ms);

        if (!group)
                *ret_key = NULL;
        else if (aggregated)
                *ret_key = KL_STEAL(group);
        else
                *ret_key = str_format("%s\x1f%s\x1f%s", group, text(object->field_path), message);
        return aggregated;
}

bool correlator_admit(Correlator *c, const EventObject *object, uint64_t now_ms)
{
        KL_AUTOFREE char *key = object_key(object);
        bool known = key && map_get(c->buckets, key);
        Bucket *bucket = key ? entry_of(c->buckets, key, sizeof(*bucket)) : NULL;
        uint64_t n;

        if (!bucket)
                return true;
        if (!known)
                *bucket = (Bucket){ now_ms, EVENTS_BURST };
        n = (now_ms - bucket->refilled_ms) / EVENTS_REFILL_MS;
        bucket->refilled_ms += n * EVENTS_REFILL_MS;
        bucket->tokens =
                n > EVENTS_BURST - bucket->tokens ? EVENTS_BURST : bucket->tokens + (unsigned int)n;
        if (bucket->tokens == 0)
                return false;
        bucket->tokens--;
        return true;
}

void correlator_sweep(Correlator *c, uint64_t now_ms)
{
        const char *key;
        Similar *similar;
        Bucket *bucket;

        for (size_t i = 0; map_next(c->similar, &i, &key, &similar);)
                if (now_ms - similar->last_ms > EVENTS_WINDOW_MS)
                        map_remove(c->similar, key);
        for (size_t i = 0; map_next(c->buckets, &i, &key, &bucket);)
                if ((now_ms - bucket->refilled_ms) / EVENTS_REFILL_MS >=
                    EVENTS_BURST - bucket->tokens)
                        map_remove(c->buckets, key);
}

size_t correlator_size(const Correlator *c)
{
        return map_len(c->similar) + map_len(c->buckets);
}
