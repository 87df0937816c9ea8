/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_API_OBJECTS_H
#define KUBELITE_API_OBJECTS_H

#include "api/client.h"

/*
 * ConfigMaps and Secrets that pods of this node name, each followed by a watch of that single
 * object (the node authorizer allows no more). Equal references share one watch. What was once read
 * stays readable when the server is away or answers 403 or 404 later; only the state tells.
 */
typedef struct ObjectCache ObjectCache;
typedef struct ObjectRef ObjectRef;

typedef enum ObjectKind {
        OBJECT_CONFIG_MAP,
        OBJECT_SECRET,
} ObjectKind;

typedef enum ObjectState {
        OBJECT_UNKNOWN, /* not answered yet */
        OBJECT_PRESENT,
        OBJECT_MISSING, /* 404 */
        OBJECT_FAILED,  /* refused (403 for longer than OBJECT_GRACE_MS) or out of reach */
} ObjectState;

/* The authorizer's graph lags behind a binding; a 403 is told only after this long. */
#define OBJECT_GRACE_MS 3000

typedef struct ObjectEntry {
        const char *key;
        const char *data; /* bytes, NUL added */
        size_t len;
} ObjectEntry;

/* Called when the state or the data changed; never within object_ref_new. */
typedef void (*ObjectFunc)(ObjectRef *ref, void *data);

/* client may be NULL (standalone node): everything is OBJECT_MISSING. */
int object_cache_new(Loop *loop, ApiClient *client, ObjectCache **ret, KlError **err);
ObjectCache *object_cache_free(ObjectCache *cache);
KL_DEFINE_CLEANUP(ObjectCache *, object_cache_free);

int object_ref_new(ObjectCache *cache, ObjectKind kind, const char *namespace, const char *name,
                   ObjectFunc func, void *data, ObjectRef **ret, KlError **err);
ObjectRef *object_ref_free(ObjectRef *ref);
KL_DEFINE_CLEANUP(ObjectRef *, object_ref_free);

ObjectState object_ref_state(const ObjectRef *ref);
/* `configmap "x" not found`, as upstream words it. */
const char *object_ref_message(const ObjectRef *ref);
/* Entries by key order, data and binaryData together; borrowed until the next change. */
size_t object_ref_entries(const ObjectRef *ref, const ObjectEntry **ret);
const ObjectEntry *object_ref_entry(const ObjectRef *ref, const char *key);
/* type of a Secret, or "". */
const char *object_ref_type(const ObjectRef *ref);

#endif
