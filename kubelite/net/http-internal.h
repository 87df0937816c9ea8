/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NET_HTTP_INTERNAL_H
#define KUBELITE_NET_HTTP_INTERNAL_H

#include "base/list.h"
#include "net/http.h"

typedef struct HttpLink HttpLink;

/* What a connection speaks. Calls marked (pump) come from the client's deferred call only, so never
 * from within input(). */
typedef struct HttpProtocol {
        int (*open)(HttpLink *link, KlError **err);
        void (*free)(HttpLink *link);
        /* How many more requests it takes, and of how many in all. */
        size_t (*room)(const HttpLink *link, size_t *ret_all);
        int (*start)(HttpLink *link, HttpRequest *request, KlError **err); /* (pump) */
        /* The request is about to go; its answer is of no interest any more. */
        void (*cancel)(HttpLink *link, HttpRequest *request);
        int (*input)(HttpLink *link, const char *bytes, size_t len, KlError **err);
        int (*eof)(HttpLink *link, KlError **err);
        /* Hands what is to be sent to the connection, as far as its queue takes it. (pump) */
        int (*flush)(HttpLink *link, KlError **err);
        /* Asks for a sign of life; NULL: cannot. (pump) */
        void (*ping)(HttpLink *link);
} HttpProtocol;

extern const HttpProtocol http_protocol_1;
extern const HttpProtocol http_protocol_2;

struct HttpLink {
        List list;
        HttpClient *client; /* NULL once the client is gone */
        Loop *loop;
        Conn *conn;
        bool critical, general; /* general: streams of it are kept free for normal requests */
        const HttpProtocol *protocol;
        void *state; /* the protocol's */
        List requests;
        bool open, draining, expired, dead, used;
        bool settled;      /* the protocol knows how many requests fit */
        unsigned int busy; /* calls into us that are on the stack */
        uint64_t last_input_ms, ping_ms, idle_since_ms;
        Timer *timer;
};

struct HttpRequest {
        List list; /* of the client's queue or the link's requests */
        HttpClient *client;
        HttpLink *link;
        void *stream; /* the protocol's */
        HttpClass class;
        char *method, *path;
        HttpHeader *headers; /* strings within `strings` */
        size_t n_headers;
        char *strings;
        char *body;
        size_t body_len, body_sent;
        bool got_head;
        unsigned int n_tries;
        uint64_t timeout_ms;
        Timer *timer;
        const HttpFuncs *funcs;
        void *data;
};

/* What a link stops taking output at. */
#define HTTP_QUEUE_HIGH (256U << 10)

/* For the protocols. */
const char *http_link_authority(const HttpLink *link);
void http_link_schedule(HttpLink *link);
void http_link_drain(HttpLink *link);
/* Detaches the request and tells its owner. */
void http_request_finish(HttpRequest *request, const KlError *err);
/* Puts it back into the queue, or finishes it with err when that was done too often. */
void http_request_retry(HttpRequest *request, const KlError *err);

/* Links, for the client. */
int http_link_new(HttpClient *client, bool critical, HttpLink **ret, KlError **err);
/* Detaches from the client; freed when nothing of it is on the stack any more. */
void http_link_release(HttpLink *link);
/* Ends the connection, and its requests with err. */
void http_link_fail(HttpLink *link, const KlError *err);
void http_link_flush(HttpLink *link);
/* Drains at the next flush; safe anywhere. */
void http_link_expire(HttpLink *link);
/* Calls into a link are counted, so that it outlives them. */
void http_link_enter(HttpLink *link);
void http_link_leave(HttpLink *link);

/* The client, for its links. */
Loop *http_client_loop(const HttpClient *client);
void http_client_conn_spec(const HttpClient *client, ConnSpec *ret);
bool http_client_prior_knowledge(const HttpClient *client);
void http_client_schedule(HttpClient *client);
void http_client_link_opened(HttpClient *client, bool h2);
/* No connection could be made: fails what waits for one. */
void http_client_unreachable(HttpClient *client, bool critical, const KlError *err);
void http_client_requeue(HttpClient *client, HttpRequest *request);
const char *http_client_authority(const HttpClient *client);

#endif
