/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_API_CLIENT_H
#define KUBELITE_API_CLIENT_H

#include "base/error.h"
#include "codec/value.h"
#include "loop/loop.h"

#include <stddef.h>

/*
 * The API server: requests, and watches of collections or single objects. Everything is
 * asynchronous; a request's callback comes exactly once, unless the request is freed before.
 *
 * Connections: HTTP/2 where the server speaks it (HTTP/1.1 else). Requests marked `critical`
 * (lease, node status, tokens) have a connection of their own, so that no amount of watches or
 * large bodies delays them. Watches open further connections as the server's stream limit fills. At
 * most API_REQUESTS_MAX other requests are in flight; the rest waits by priority.
 */
#define API_REQUESTS_MAX 32
#define API_BODY_MAX (16U << 20)      /* response bodies of plain requests */
#define API_WATCH_LINE_MAX (8U << 20) /* one watch event */

typedef struct ApiClient ApiClient;

/* Where and as whom; strings are copied. From a kubeconfig (config/kubeconfig.h). */
typedef struct ApiEndpoint {
        const char *server;               /* https://host:port[/prefix] */
        const char *tls_server_name;      /* or NULL: the host */
        const char *ca_pem;               /* or NULL: the system's */
        const char *cert_pem, *key_pem;   /* client certificate, or NULL */
        const char *cert_file, *key_file; /* alternatively files, read again when they change */
        const char *token;                /* bearer token, or NULL */
        const char *token_file;           /* read again every minute, and on 401 */
        const char *proxy_url; /* kubeconfig's proxy-url, or NULL: HTTPS_PROXY/NO_PROXY */
        bool insecure_skip_verify;
        const char *user_agent;
} ApiEndpoint;

int api_client_new(Loop *loop, const ApiEndpoint *endpoint, ApiClient **ret, KlError **err);
/* All requests and watches must have been freed, so never from within a callback of one. */
ApiClient *api_client_free(ApiClient *client);
KL_DEFINE_CLEANUP(ApiClient *, api_client_free);

/* --- requests --- */

typedef struct ApiRequest ApiRequest;

typedef struct ApiResponse {
        int status;       /* HTTP status; 0 when no answer came (see error) */
        const char *body; /* NUL-terminated */
        size_t body_len;
        const Value
                *object; /* the JSON body, parsed; NULL if there is none. Freed after the call. */
        const char *reason;      /* reason of a v1.Status ("NotFound", "Conflict", …), or "" */
        const char *message;     /* its message, or the transport's error */
        uint64_t retry_after_ms; /* of a 429 or 503; 0: none */
} ApiResponse;

typedef void (*ApiFunc)(ApiRequest *request, const ApiResponse *response, void *data);

typedef enum ApiPatchType {
        API_PATCH_STRATEGIC, /* application/strategic-merge-patch+json */
        API_PATCH_MERGE,     /* application/merge-patch+json */
} ApiPatchType;

/* What waits is sent in this order. */
typedef enum ApiPriority {
        API_PRIORITY_NORMAL,
        API_PRIORITY_LOW, /* events */
        API_PRIORITIES
} ApiPriority;

typedef struct ApiCall {
        const char *method; /* "GET", "POST", "PUT", "PATCH", "DELETE" */
        const char *path;   /* "/api/v1/nodes/x?…", already percent-encoded */
        const char *body;   /* JSON, copied */
        size_t body_len;
        const char *content_type; /* NULL: application/json */
        const char *accept;       /* NULL: application/json */
        bool critical;            /* never waits */
        ApiPriority priority;     /* of what is not critical */
        uint64_t
                timeout_ms; /* 0: 30 s. A critical call unanswered in time closes its connection. */
        ApiFunc done;
        void *data;
} ApiCall;

/* May complete only from the loop, never within this call. */
int api_call(ApiClient *client, const ApiCall *call, ApiRequest **ret, KlError **err);
/* Cancels and frees; no callback comes. Within the callback it does nothing: the client frees a
 * request after its callback has returned, so the owner forgets it there. */
ApiRequest *api_request_cancel(ApiRequest *request);
KL_DEFINE_CLEANUP(ApiRequest *, api_request_cancel);

/* Percent-encodes one path segment or query value into buf. */
void api_escape(char *buf, size_t size, const char *text);

/* --- watches: list, then watch, for ever --- */

typedef struct ApiWatch ApiWatch;

typedef enum ApiEventType {
        API_EVENT_SET,     /* ADDED or MODIFIED, or an item of a list */
        API_EVENT_DELETED, /* object may be its last state, or just name and namespace */
        API_EVENT_SYNCED,  /* object is NULL: a list was delivered whole. What was not in it and was
                              not set since is gone: the watch tells that by API_EVENT_DELETED first.
                            */
        API_EVENT_ERROR,   /* object is NULL; told once per outage, message says why */
} ApiEventType;

typedef struct ApiEvent {
        ApiEventType type;
        const Value *object;
        const char *namespace, *name, *uid;
        int status; /* of an error: HTTP status or 0 */
        const char *message;
} ApiEvent;

typedef void (*ApiWatchFunc)(ApiWatch *watch, const ApiEvent *event, void *data);

typedef struct ApiWatchSpec {
        const char *path;           /* "/api/v1/pods", "/api/v1/namespaces/ns/secrets" */
        const char *field_selector; /* "spec.nodeName=x", "metadata.name=y", or NULL */
        ApiWatchFunc func;
        void *data;
        uint64_t error_grace_ms; /* API_EVENT_ERROR only after failing this long; 0: at once */
} ApiWatchSpec;

/*
 * Lists (in pages of 500), then watches with bookmarks from the list's version; on 410 Gone lists
 * again; on anything else reconnects from the last version with back-off (800 ms doubling to 30 s,
 * with jitter). A list that a server answers with an older resourceVersion than seen is not taken
 * as a deletion.
 */
int api_watch(ApiClient *client, const ApiWatchSpec *spec, ApiWatch **ret, KlError **err);
ApiWatch *api_watch_free(ApiWatch *watch);
KL_DEFINE_CLEANUP(ApiWatch *, api_watch_free);
/* Retries now instead of when the back-off ends. */
void api_watch_poke(ApiWatch *watch);

/* Whether the last exchange with the server succeeded, and since when (monotonic ms). */
bool api_client_reachable(const ApiClient *client);
uint64_t api_client_reachable_since(const ApiClient *client);

/* For metrics and tests: connections open or being opened. */
size_t api_client_connections(const ApiClient *client);

#endif
