/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_REGISTRY_INTERNAL_H
#define KUBELITE_IMAGE_REGISTRY_INTERNAL_H

#include "codec/value.h"
#include "image/worker/auth-internal.h"

/* Requests to the endpoints of a repository: authentication, redirects, retries. In the fetcher. */

#define REGISTRY_ENDPOINTS_MAX 16
#define REGISTRY_REDIRECTS_MAX 5
/* Tries in a row that bring no byte. */
#define REGISTRY_TRIES_MAX 4
#define REGISTRY_BACKOFF_MS 250

typedef struct Endpoint {
        const char *base; /* "https://registry-1.docker.io/v2" */
        const char *repository;
        const char *host_argument; /* "ns" of a mirror's query, or NULL */
        AuthCredentials credentials;
        HttpTls tls;
        bool fallback;       /* only after one that did not answer at all */
        char *authorization; /* owned; the header that was accepted last */
} Endpoint;

typedef struct Registry {
        Http *http;
        Endpoint endpoints[REGISTRY_ENDPOINTS_MAX];
        size_t n_endpoints;
        size_t preferred; /* the one that answered last */
        unsigned int stall_s;
        char *name; /* of the image, for messages */
} Registry;

/* From the JSON that the main process sends; strings stay in the arena. */
int registry_init(Registry *registry, const Value *document, Arena *arena, KlError **err);
void registry_deinit(Registry *registry);

typedef struct RegistryGet {
        const char *path; /* "manifests/latest", "blobs/sha256:…" */
        const char *accept;
        bool head;
        uint64_t offset;
        Buf *body;
        HttpSink sink;
        void *user_data;
} RegistryGet;

/* One endpoint, once. The response is to be deinitialised in any case. */
int registry_get(Registry *registry, Endpoint *endpoint, const RegistryGet *get, HttpResponse *ret,
                 KlError **err);

/* A small body from the first endpoint that has it, with retries; -ENOENT when all say so. */
int registry_get_body(Registry *registry, const RegistryGet *get, HttpResponse *ret, KlError **err);

/* A blob to a sink, resumed after cuts; *done counts what the sink took and where to begin. */
typedef struct RegistryBlob {
        const char *digest;
        uint64_t size;
        uint64_t done;
        HttpSink sink;
        void *user_data;
} RegistryBlob;

int registry_get_blob(Registry *registry, RegistryBlob *blob, KlError **err);

#endif
