/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_HTTP_INTERNAL_H
#define KUBELITE_IMAGE_HTTP_INTERNAL_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* One blocking HTTP request at a time, through libcurl. Redirects are not followed here. */

#define HTTP_STALL_S 30 /* no byte for so long: given up */
#define HTTP_CONNECT_S 30
#define HTTP_INLINE_S 300 /* small bodies altogether */
#define HTTP_ERROR_BODY_MAX 16384
#define HTTP_CHALLENGES_MAX 8

typedef struct HttpTls {
        const char *ca, *cert, *key; /* PEM; NULL */
        bool insecure;
} HttpTls;

typedef struct HttpResponse HttpResponse;
/* Bytes of a 2xx body; status and headers are there. <0 ends the request with that error. */
typedef int (*HttpSink)(const HttpResponse *response, const void *data, size_t len,
                        void *user_data);

typedef struct HttpRequest {
        const char *url;
        const char *authorization;               /* header value or NULL */
        const char *accept;                      /* or NULL */
        const char *form;                        /* POST body, or NULL */
        const char *basic_user, *basic_password; /* or NULL */
        bool head;
        uint64_t offset; /* Range from here */
        HttpTls tls;
        unsigned int stall_s; /* 0: HTTP_STALL_S */
        Buf *body;            /* takes a 2xx body up to its limit … */
        HttpSink sink;        /* … or this does */
        void *user_data;
} HttpRequest;

struct HttpResponse {
        long status;
        char *type, *digest, *location; /* NULL when absent */
        char **challenges;              /* WWW-Authenticate */
        uint64_t range_start;           /* of Content-Range, with 206 */
        Buf error_body;                 /* of a status that is not 2xx */
        int sink_error;                 /* what the sink returned */
};

typedef struct Http Http;

int http_new(Http **ret, KlError **err);
Http *http_free(Http *http);
KL_DEFINE_CLEANUP(Http *, http_free);

/* 0: there is a response, of whatever status; it is to be deinitialised in any case. */
int http_perform(Http *http, const HttpRequest *request, HttpResponse *ret, KlError **err);
void http_response_deinit(HttpResponse *response);

/* "https://host:port" of a URL; to be freed. */
char *http_origin(const char *url);
const char *http_status_text(long status);

#endif
