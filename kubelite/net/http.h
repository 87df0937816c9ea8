/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NET_HTTP_H
#define KUBELITE_NET_HTTP_H

#include "codec/http1.h"
#include "loop/loop.h"
#include "net/conn.h"

/*
 * A client of one server: requests over HTTP/2 where TLS agrees on it (or where it is told so),
 * over HTTP/1.1 else. Connections are opened as they are needed and closed when they idle.
 *
 * Classes: critical requests have a connection of their own. Watches (responses without an end)
 * share one with normal requests as long as HTTP_RESERVED_STREAMS of it (or half, if that is less)
 * stay free, and open further ones after that.
 *
 * A request that the server surely did not process (GOAWAY, REFUSED_STREAM), or a GET whose
 * kept-alive connection turned out dead, is sent again without the owner noticing.
 */
#define HTTP_HEADER_BLOCK_MAX HTTP1_HEAD_MAX
#define HTTP_STREAMS_MAX 250 /* of one connection, whatever the server allows */
#define HTTP_RESERVED_STREAMS 32
#define HTTP_LINKS_MAX 256
#define HTTP_RETRIES_MAX 5
#define HTTP_STREAM_WINDOW (256U << 10)
#define HTTP_CONNECTION_WINDOW (1U << 20)
#define HTTP_PING_AFTER_MS 30000 /* of silence, while something is asked */
#define HTTP_PING_TIMEOUT_MS 15000
#define HTTP_IDLE_CLOSE_MS 90000

typedef struct HttpClient HttpClient;
typedef struct HttpRequest HttpRequest;

typedef struct HttpClientSpec {
        const char *host; /* strings are copied */
        uint16_t port;
        const char *unix_path; /* instead of host and port */
        const char *authority; /* Host header; NULL: host:port */
        TlsContext *tls;       /* NULL: plain */
        const char *tls_name;
        const ConnProxy *proxy;  /* outlives the client */
        bool h2_prior_knowledge; /* HTTP/2 without TLS (gRPC over Unix sockets) */
} HttpClientSpec;

int http_client_new(Loop *loop, const HttpClientSpec *spec, HttpClient **ret, KlError **err);
/* All requests must have been freed. */
HttpClient *http_client_free(HttpClient *client);
KL_DEFINE_CLEANUP(HttpClient *, http_client_free);
/* For connections from now on; present ones drain. */
void http_client_set_tls(HttpClient *client, TlsContext *tls);
/* Connections there are, for tests and metrics. */
size_t http_client_links(const HttpClient *client);
/* Whether any of them is open, not still on its way. */
bool http_client_is_connected(const HttpClient *client);

typedef enum HttpClass { HTTP_CRITICAL, HTTP_NORMAL, HTTP_WATCH, HTTP_CLASSES } HttpClass;

/* Never called from within http_request_new() or http_request_free(); any may free the request. */
typedef struct HttpFuncs {
        void (*head)(HttpRequest *request, int status, const HttpHeader *headers, size_t n,
                     void *data);
        void (*body)(HttpRequest *request, const char *bytes, size_t len, void *data);
        /* May be NULL. */
        void (*trailers)(HttpRequest *request, const HttpHeader *headers, size_t n, void *data);
        /* May be NULL: the server wants this connection closed; this response goes on for now. */
        void (*draining)(HttpRequest *request, void *data);
        /* Once: whole (err is NULL) or failed. Nothing comes after it. */
        void (*done)(HttpRequest *request, const KlError *err, void *data);
} HttpFuncs;

typedef struct HttpCall {
        HttpClass class;
        const char *method, *path;
        const HttpHeader *headers; /* without Host and Content-Length */
        size_t n_headers;
        const void *body;
        size_t body_len;
        uint64_t timeout_ms; /* until done; 0: none. A critical one that passes closes its
                                connection */
        const HttpFuncs *funcs;
        void *data;
} HttpCall;

/* Copies everything but funcs and data. */
int http_request_new(HttpClient *client, const HttpCall *call, HttpRequest **ret, KlError **err);
/* Cancels, if it is not done. */
HttpRequest *http_request_free(HttpRequest *request);
KL_DEFINE_CLEANUP(HttpRequest *, http_request_free);

#endif
