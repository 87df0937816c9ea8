/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One watch per object and one subscriber list per watch. Callbacks may free any reference, so
 * subscribers are told from a deferred call that restarts when the list changed.
 */

#include "api/objects.h"

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "base/str.h"

typedef struct Object {
        ObjectCache *cache;
        char *key; /* "s/ns/name" */
        ObjectKind kind;
        char *namespace, *name, *type;
        ObjectState state;
        char *message;
        ObjectEntry *entries;
        size_t n_entries;
        ApiWatch *watch;
        List refs;
        Deferred *notify;
        bool telling, orphaned; /* its references are being told; the last one went meanwhile */
} Object;

struct ObjectRef {
        List link;
        Object *object;
        ObjectFunc func;
        void *data;
        bool told;
};

struct ObjectCache {
        Loop *loop;
        ApiClient *client;
        Map *objects;
};

static const char *kind_name(ObjectKind kind)
{
        return kind == OBJECT_SECRET ? "secret" : "configmap";
}

static void entries_free(ObjectEntry *entries, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                free((char *)(uintptr_t)entries[i].key);
                free((char *)(uintptr_t)entries[i].data);
        }
        free(entries);
}

static void object_free(Object *o)
{
        api_watch_free(o->watch);
        deferred_free(o->notify);
        entries_free(o->entries, o->n_entries);
        free(o->key);
        free(o->namespace);
        free(o->name);
        free(o->type);
        free(o->message);
        free(o);
}

/* --- decoding --- */

static int base64_digit(char c)
{
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 with padding; NULL for anything else. */
static char *base64_decode(const char *text, size_t *ret_len)
{
        char *out = malloc(strlen(text) / 4 * 3 + 4);
        uint32_t bits = 0;
        size_t n = 0, digits = 0;

        for (; out && *text && *text != '='; text++) {
                int digit = base64_digit(*text);

                if (*text == '\n' || *text == '\r')
                        continue;
                if (digit < 0) {
                        free(out);
                        return NULL;
                }
                bits = bits << 6 | (uint32_t)digit;
                if (++digits % 4 == 0) {
                        out[n++] = (char)(bits >> 16);
                        out[n++] = (char)(bits >> 8);
                        out[n++] = (char)bits;
                        bits = 0;
                }
        }
        if (!out)
                return NULL;
        if (digits % 4 == 2)
                out[n++] = (char)(bits >> 4);
        if (digits % 4 == 3) {
                out[n++] = (char)(bits >> 10);
                out[n++] = (char)(bits >> 2);
        }
        out[n] = '\0';
        *ret_len = n;
        return out;
}

static int compare_entries(const void *a, const void *b)
{
        return strcmp(((const ObjectEntry *)a)->key, ((const ObjectEntry *)b)->key);
}

static int add_entries(const Value *map, bool base64, ObjectEntry *to, size_t *n)
{
        const Value *child;
        const char *key;
        void *iter = NULL;

        while (map && value_next(map, &iter, &key, &child)) {
                const char *text = value_str(child);
                ObjectEntry *e = &to[*n];

                if (!text)
                        continue;
                e->key = strdup(key);
                e->data = base64 ? base64_decode(text, &e->len) : strdup(text);
                if (!base64)
                        e->len = strlen(text);
                (*n)++;
                if (!e->key || !e->data)
                        return -EINVAL;
        }
        return 0;
}

static int decode_entries(Object *o, const Value *object)
{
        const Value *data = value_get(object, "data"), *binary = value_get(object, "binaryData");
        size_t n = 0;
        ObjectEntry *entries = calloc(value_len(data) + value_len(binary) + 1, sizeof(*entries));
        const char *type = value_get_str(object, "type");
        int r;

        if (!entries)
                return -ENOMEM;
        r = add_entries(data, o->kind == OBJECT_SECRET, entries, &n);
        if (r == 0)
                r = add_entries(binary, true, entries, &n);
        if (r < 0) {
                entries_free(entries, n);
                return r;
        }
        qsort(entries, n, sizeof(*entries), compare_entries);
        entries_free(o->entries, o->n_entries);
        o->entries = entries;
        o->n_entries = n;
        free(o->type);
        o->type = strdup(type ? type : "");
        return 0;
}

/* --- events --- */

static void object_set_state(Object *o, ObjectState state, char *message)
{
        o->state = state;
        free(o->message);
        o->message = message;
        list_for_each (ref, &o->refs, ObjectRef, link)
                ref->told = false;
        deferred_schedule(o->notify);
}

static char *missing_message(const Object *o)
{
        return str_format("%s \"%s\" not found", kind_name(o->kind), o->name);
}

static ObjectRef *first_untold(Object *o)
{
        list_for_each (ref, &o->refs, ObjectRef, link)
                if (!ref->told)
                        return ref;
        return NULL;
}

/* References may come and go under us; the object itself stays until we are through. */
static void on_notify(Deferred *deferred, void *data)
{
        Object *o = data;
        ObjectRef *ref;

        o->telling = true;
        while ((ref = first_untold(o))) {
                ref->told = true;
                ref->func(ref, ref->data);
        }
        o->telling = false;
        if (o->orphaned)
                object_free(o);
}

static void on_event(ApiWatch *watch, const ApiEvent *event, void *data)
{
        Object *o = data;

        switch (event->type) {
        case API_EVENT_SET:
                if (decode_entries(o, event->object) < 0)
                        object_set_state(o, OBJECT_FAILED,
                                         str_format("%s \"%s\" cannot be decoded",
                                                    kind_name(o->kind), o->name));
                else
                        object_set_state(o, OBJECT_PRESENT, NULL);
                break;
        case API_EVENT_DELETED:
                object_set_state(o, OBJECT_MISSING, missing_message(o));
                break;
        case API_EVENT_SYNCED:
                if (o->state == OBJECT_UNKNOWN || o->state == OBJECT_FAILED)
                        object_set_state(o, OBJECT_MISSING, missing_message(o));
                break;
        case API_EVENT_ERROR:
                /* What was once read stays. */
                if (o->state == OBJECT_UNKNOWN)
                        object_set_state(o, OBJECT_FAILED, strdup(event->message));
                break;
        }
}

static int object_follow(Object *o, KlError **err)
{
        KL_AUTOFREE char *path =
                str_format("/api/v1/namespaces/%s/%ss", o->namespace, kind_name(o->kind));
        KL_AUTOFREE char *selector = str_format("metadata.name=%s", o->name);
        ApiWatchSpec spec = { .path = path,
                              .field_selector = selector,
                              .func = on_event,
                              .data = o,
                              .error_grace_ms = OBJECT_GRACE_MS };

        if (!path || !selector)
                return kl_error_oom(err);
        return api_watch(o->cache->client, &spec, &o->watch, err);
}

static int object_new(ObjectCache *cache, const char *key, ObjectKind kind, const char *namespace,
                      const char *name, Object **ret, KlError **err)
{
        Object *o = calloc(1, sizeof(*o));
        int r = 0;

        if (!o)
                return kl_error_oom(err);
        list_init(&o->refs);
        o->cache = cache;
        o->kind = kind;
        o->key = strdup(key);
        o->namespace = strdup(namespace);
        o->name = strdup(name);
        o->notify = deferred_new(cache->loop, on_notify, o);
        if (!o->key || !o->namespace || !o->name || !o->notify ||
            map_set(cache->objects, key, o) < 0)
                r = kl_error_oom(err);
        else if (cache->client)
                r = object_follow(o, err);
        else
                object_set_state(o, OBJECT_MISSING, missing_message(o));
        if (r < 0) {
                map_take(cache->objects, key);
                object_free(o);
                return r;
        }
        *ret = o;
        return 0;
}

int object_cache_new(Loop *loop, ApiClient *client, ObjectCache **ret, KlError **err)
{
        ObjectCache *cache = calloc(1, sizeof(*cache));

        if (!cache || !(cache->objects = map_new(NULL))) {
                free(cache);
                return kl_error_oom(err);
        }
        cache->loop = loop;
        cache->client = client;
        *ret = cache;
        return 0;
}

ObjectCache *object_cache_free(ObjectCache *cache)
{
        if (!cache)
                return NULL;
        map_free(cache->objects);
        free(cache);
        return NULL;
}

int object_ref_new(ObjectCache *cache, ObjectKind kind, const char *namespace, const char *name,
                   ObjectFunc func, void *data, ObjectRef **ret, KlError **err)
{
        KL_AUTOFREE char *key =
                str_format("%c/%s/%s", kind == OBJECT_SECRET ? 's' : 'c', namespace, name);
        Object *o = key ? map_get(cache->objects, key) : NULL;
        ObjectRef *ref;

        if (!key)
                return kl_error_oom(err);
        if (!o)
                KL_TRY(object_new(cache, key, kind, namespace, name, &o, err));
        ref = calloc(1, sizeof(*ref));
        if (!ref)
                return kl_error_oom(err);
        ref->object = o;
        ref->func = func;
        ref->data = data;
        ref->told = true;
        list_append(&o->refs, &ref->link);
        *ret = ref;
        return 0;
}

ObjectRef *object_ref_free(ObjectRef *ref)
{
        Object *o = ref ? ref->object : NULL;

        if (!ref)
                return NULL;
        list_unlink(&ref->link);
        free(ref);
        if (!list_empty(&o->refs))
                return NULL;
        if (o->orphaned)
                return NULL;
        map_take(o->cache->objects, o->key);
        if (o->telling)
                o->orphaned = true;
        else
                object_free(o);
        return NULL;
}

ObjectState object_ref_state(const ObjectRef *ref)
{
        return ref->object->state;
}

const char *object_ref_message(const ObjectRef *ref)
{
        return ref->object->message ? ref->object->message : "";
}

size_t object_ref_entries(const ObjectRef *ref, const ObjectEntry **ret)
{
        *ret = ref->object->entries;
        return ref->object->n_entries;
}

const ObjectEntry *object_ref_entry(const ObjectRef *ref, const char *key)
{
        const Object *o = ref->object;

        for (size_t i = 0; i < o->n_entries; i++)
                if (strcmp(o->entries[i].key, key) == 0)
                        return &o->entries[i];
        return NULL;
}

const char *object_ref_type(const ObjectRef *ref)
{
        return ref->object->type ? ref->object->type : "";
}
