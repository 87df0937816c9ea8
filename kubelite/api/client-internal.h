/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_API_CLIENT_INTERNAL_H
#define KUBELITE_API_CLIENT_INTERNAL_H

#include "api/client.h"
#include "base/list.h"
#include "net/http.h"

typedef struct ApiAuth ApiAuth;

struct ApiClient {
        Loop *loop;
        HttpClient *http;
        ConnProxy *proxy;
        ApiAuth *auth;
        char *server, *prefix, *user_agent;
        List queues[API_PRIORITIES];
        unsigned int n_flying;
        unsigned int n_watches;
        Timer *refresh; /* of files with credentials */
        bool reachable, unreachable_told;
        uint64_t reachable_since_ms;
};

/* --- credentials (client-auth.c) --- */

int api_auth_new(const ApiEndpoint *endpoint, bool tls, ApiAuth **ret, KlError **err);
ApiAuth *api_auth_free(ApiAuth *auth);
KL_DEFINE_CLEANUP(ApiAuth *, api_auth_free);
/* NULL for plain HTTP. */
TlsContext *api_auth_tls(const ApiAuth *auth);
/* Value of Authorization, or NULL. */
const char *api_auth_header(const ApiAuth *auth);
bool api_auth_has_files(const ApiAuth *auth);
/* Reads files again; whether the token or (*ret_tls) the certificate changed. */
bool api_auth_refresh(ApiAuth *auth, bool *ret_tls);
/* What a 401 may come from: "; the client certificate expired 3 days ago", or "". */
void api_auth_explain(const ApiAuth *auth, char *buf, size_t size);

/* --- requests of any kind (client.c) --- */

typedef struct ApiHttpCall {
        HttpClass class;
        const char *method, *path, *body;
        size_t body_len;
        const char *content_type, *accept;
        uint64_t timeout_ms;
        const HttpFuncs *funcs;
        void *data;
} ApiHttpCall;

/* Adds credentials and prefix. */
int api_http_request(ApiClient *client, const ApiHttpCall *call, HttpRequest **ret, KlError **err);
/* Every exchange tells how it went: err is NULL when an answer came, whatever it said. */
void api_client_note(ApiClient *client, const KlError *err);
/* Reads credentials again after a 401; whether there are new ones. */
bool api_client_refresh(ApiClient *client);
/* "reason" and "message" of a v1.Status; "" where there is none. */
const char *api_status_reason(const Value *object);
const char *api_status_message(const Value *object);
uint64_t api_retry_after_ms(const HttpHeader *headers, size_t n);

#endif
