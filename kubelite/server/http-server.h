/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_HTTP_SERVER_H
#define KUBELITE_SERVER_HTTP_SERVER_H

#include "base/buf.h"
#include "codec/http1.h"
#include "net/listener.h"

/*
 * HTTP/1.1 over the TLS listener. One exchange (a request and its response) at a time on a
 * connection; what a client sends ahead waits. An exchange is handed to the owner when its head has
 * come; it ends with the response's last byte handed to the connection, with an upgrade, or when
 * the client vanishes, and must not be touched after that.
 */
#define HTTP_SERVER_HEAD_MS 10000
#define HTTP_SERVER_IDLE_MS 90000 /* between requests */
#define HTTP_SERVER_BODY_MS 30000
#define HTTP_SERVER_BODY_MAX (1U << 20)   /* whatever a handler asks for */
#define HTTP_SERVER_AHEAD_MAX (32U << 10) /* sent ahead of a response's end, or of an upgrade */
#define HTTP_SERVER_CHUNK_MAX (32U << 10)
#define HTTP_SERVER_QUEUE_MAX (96U << 10) /* of a response, waiting for the socket */
#define HTTP_SERVER_HEADERS_MAX 8         /* of a response, besides framing */

typedef struct HttpServer HttpServer;
typedef struct Exchange Exchange;
typedef struct HttpStream HttpStream;

typedef struct HttpServerSpec {
        const char *address;
        uint16_t port;
        const ServerTls *tls;
        /* A client that takes nothing of a response for this long is cut off. */
        uint64_t stall_ms;
        void (*request)(Exchange *exchange, void *data);
        void *data;
} HttpServerSpec;

int http_server_new(Loop *loop, const HttpServerSpec *spec, HttpServer **ret, KlError **err);
HttpServer *http_server_free(HttpServer *server);
KL_DEFINE_CLEANUP(HttpServer *, http_server_free);
Listener *http_server_listener(HttpServer *server);

/* --- the request --- */

/* Borrowed until the exchange ends. */
const Http1Head *exchange_head(const Exchange *exchange);
const char *exchange_header(const Exchange *exchange, const char *name);
ListenerConn *exchange_conn(const Exchange *exchange);

/* The owner's own data with the exchange. */
void exchange_set_data(Exchange *exchange, void *data);
void *exchange_data(const Exchange *exchange);
/* The last callback, when the exchange ends in whatever way; within it the exchange is gone. */
void exchange_on_end(Exchange *exchange, void (*func)(void *exchange_data));

/* Waits for the whole body, at most HTTP_SERVER_BODY_MAX bytes (413 above, without a call); may
 * call at once. body is the exchange's. */
typedef void (*ExchangeBodyFunc)(Exchange *exchange, const char *body, size_t len);
void exchange_collect(Exchange *exchange, ExchangeBodyFunc func);

/* --- the response: one of these --- */

/* Whole; body is copied. */
void exchange_respond(Exchange *exchange, int status, const char *content_type, const void *body,
                      size_t len);
/* The buffer's bytes are taken over. */
void exchange_respond_buf(Exchange *exchange, int status, const char *content_type, Buf *body);
/* Text with a newline, as Go's http.Error. */
void exchange_respond_text(Exchange *exchange, int status, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* Adds a header to the response to come. 0, -EINVAL, -ENOBUFS or -ENOMEM. */
int exchange_add_header(Exchange *exchange, const char *name, const char *value);

/* Without a known length: begin, write, end. writable is called when there is room again after
 * -ENOBUFS (nothing was taken). A chunk is at most HTTP_SERVER_CHUNK_MAX. */
typedef void (*ExchangeWritableFunc)(Exchange *exchange);
void exchange_begin(Exchange *exchange, int status, const char *content_type,
                    ExchangeWritableFunc writable);
int exchange_write(Exchange *exchange, const void *data, size_t len);
void exchange_end(Exchange *exchange);
/* Breaks the response off: the client must not take it for whole. */
void exchange_abort(Exchange *exchange);

/* --- upgrade: from here on raw bytes --- */

typedef struct HttpStreamFuncs {
        void (*input)(HttpStream *stream, char *bytes, size_t len,
                      void *data);                        /* may change them */
        void (*writable)(HttpStream *stream, void *data); /* after -ENOBUFS, or the queue is low */
        void (*closed)(HttpStream *stream, void *data);   /* the last; not after stream_close */
} HttpStreamFuncs;

/* Answers 101 with Connection: Upgrade and these headers; ends the exchange. NULL when the request
 * asked for no upgrade (400 was answered). Input that is there already comes at the turn's end. */
HttpStream *exchange_upgrade(Exchange *exchange, const HttpHeader *headers, size_t n_headers,
                             const HttpStreamFuncs *funcs, void *data);
/* -ENOBUFS above LISTENER_QUEUE_MAX queued (nothing taken), -ENOTCONN. */
int http_stream_write(HttpStream *stream, const void *data, size_t len);
size_t http_stream_queued(const HttpStream *stream);
void http_stream_pause(HttpStream *stream, bool paused);
/* Sends what is queued and closes, or drops it. */
void http_stream_close(HttpStream *stream);
void http_stream_abort(HttpStream *stream);

const char *http_status_text(int status);

#endif
