/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Requests and the connections they go over. A request waits in its class's queue until the pump,
 * which runs deferred, finds a link with room or opens one. Links are the client's, requests their
 * owners'.
 */

#include "net/http-internal.h"

#include "base/clock.h"
#include "base/str.h"

#include <assert.h>

struct HttpClient {
        Loop *loop;
        char *host, *unix_path, *authority, *tls_name;
        uint16_t port;
        TlsContext *tls;
        const ConnProxy *proxy;
        bool prior_knowledge;
        bool speaks_h1; /* what the last connection agreed on */
        List links;
        size_t n_links;
        List queues[HTTP_CLASSES];
        Deferred *pump;
        unsigned int busy; /* a client that is freed in a callback goes when this is 0 again */
        bool doomed;
};

/* --- what links ask --- */

Loop *http_client_loop(const HttpClient *client)
{
        return client->loop;
}

void http_client_conn_spec(const HttpClient *client, ConnSpec *ret)
{
        ret->host = client->host;
        ret->port = client->port;
        ret->unix_path = client->unix_path;
        ret->tls = client->tls;
        ret->tls_name = client->tls_name;
        ret->proxy = client->proxy;
}

bool http_client_prior_knowledge(const HttpClient *client)
{
        return client->prior_knowledge;
}

const char *http_client_authority(const HttpClient *client)
{
        return client->authority;
}

void http_client_schedule(HttpClient *client)
{
        if (!client->doomed)
                deferred_schedule(client->pump);
}

void http_client_link_opened(HttpClient *client, bool h2)
{
        client->speaks_h1 = !h2;
}

void http_client_requeue(HttpClient *client, HttpRequest *request)
{
        list_prepend(&client->queues[request->class], &request->list);
        http_client_schedule(client);
}

static void client_destroy(HttpClient *client)
{
        free(client->host);
        free(client->unix_path);
        free(client->authority);
        free(client->tls_name);
        tls_context_unref(client->tls);
        free(client);
}

static void fail_queue(HttpClient *client, HttpClass class, const KlError *err)
{
        List todo = LIST_INIT(todo);

        while (!list_empty(&client->queues[class])) {
                HttpRequest *r = list_first(&client->queues[class], HttpRequest, list);

                list_unlink(&r->list);
                list_append(&todo, &r->list);
        }
        /* Owners may free any request, or the client: `todo` is all that is touched. */
        while (!list_empty(&todo))
                http_request_finish(list_first(&todo, HttpRequest, list), err);
}

static void client_enter(HttpClient *client)
{
        client->busy++;
}

static void client_leave(HttpClient *client)
{
        client->busy--;
        if (client->busy == 0 && client->doomed)
                client_destroy(client);
}

void http_client_unreachable(HttpClient *client, bool critical, const KlError *err)
{
        client_enter(client);
        if (critical) {
                fail_queue(client, HTTP_CRITICAL, err);
        } else {
                fail_queue(client, HTTP_NORMAL, err);
                fail_queue(client, HTTP_WATCH, err);
        }
        client_leave(client);
}

/* --- the pump --- */

/* One link at a time keeps streams free for normal requests. */
static void choose_general(HttpClient *client)
{
        HttpLink *candidate = NULL;

        list_for_each (link, &client->links, HttpLink, list) {
                if (link->critical || link->dead || link->draining || link->expired)
                        continue;
                if (link->general)
                        return;
                if (!candidate)
                        candidate = link;
        }
        if (candidate)
                candidate->general = true;
}

static size_t link_room(const HttpLink *link, HttpClass class)
{
        size_t all, room, reserve;

        if (!link->open || link->dead || link->draining || link->expired ||
            link->critical != (class == HTTP_CRITICAL))
                return 0;
        room = link->protocol->room(link, &all);
        if (class != HTTP_WATCH || !link->general || all <= 1)
                return room;
        reserve = all / 2 < HTTP_RESERVED_STREAMS ? all / 2 : HTTP_RESERVED_STREAMS;
        return room > reserve ? room - reserve : 0;
}

static HttpLink *find_link(HttpClient *client, HttpClass class)
{
        list_for_each (link, &client->links, HttpLink, list)
                if (link_room(link, class) > 0)
                        return link;
        return NULL;
}

static size_t list_count(const List *list)
{
        size_t n = 0;

        for (const List *l = list->next; l != list; l = l->next)
                n++;
        return n;
}

/* A connection that is still to say how many requests it takes, or takes none at the moment:
 * another one would hardly fare better. */
static bool link_is_unsettled(const HttpLink *link)
{
        size_t all;

        if (!link->settled)
                return true;
        link->protocol->room(link, &all);
        return all == 0;
}

/* HTTP/2: one after the other. HTTP/1.1: one for each request that waits. */
static bool may_open(HttpClient *client, bool critical, size_t n_waiting)
{
        size_t n_unsettled = 0;

        if (client->n_links >= HTTP_LINKS_MAX)
                return false;
        list_for_each (link, &client->links, HttpLink, list)
                if (link->critical == critical && !link->dead && !link->draining)
                        n_unsettled += link_is_unsettled(link);
        return client->speaks_h1 ? n_unsettled < n_waiting : n_unsettled == 0;
}

static int open_link(HttpClient *client, bool critical, KlError **err)
{
        HttpLink *link;
        int r = http_link_new(client, critical, &link, err);

        if (r < 0)
                return r;
        list_append(&client->links, &link->list);
        client->n_links++;
        return 0;
}

static void start_on(HttpLink *link, HttpRequest *request)
{
        KL_AUTOERR err = NULL;

        list_unlink(&request->list);
        list_append(&link->requests, &request->list);
        request->link = link;
        request->n_tries++;
        if (link->protocol->start(link, request, &err) < 0)
                http_request_finish(request, err);
}

static void pump_class(HttpClient *client, HttpClass class)
{
        List *queue = &client->queues[class];
        bool critical = class == HTTP_CRITICAL;
        KL_AUTOERR err = NULL;

        while (!list_empty(queue)) {
                HttpLink *link = find_link(client, class);

                if (!link)
                        break;
                start_on(link, list_first(queue, HttpRequest, list));
        }
        while (!list_empty(queue) && may_open(client, critical, list_count(queue)))
                if (open_link(client, critical, &err) < 0) {
                        http_client_unreachable(client, critical, err);
                        break;
                }
}

static void reap_links(HttpClient *client)
{
        list_for_each (link, &client->links, HttpLink, list)
                if (link->dead) {
                        client->n_links--;
                        http_link_release(link);
                }
}

static void pump_flush(HttpClient *client)
{
        List todo = LIST_INIT(todo);

        while (!list_empty(&client->links)) {
                HttpLink *link = list_first(&client->links, HttpLink, list);

                list_unlink(&link->list);
                list_append(&todo, &link->list);
        }
        while (!list_empty(&todo)) {
                HttpLink *link = list_first(&todo, HttpLink, list);

                list_unlink(&link->list);
                if (client->doomed) {
                        http_link_release(link);
                        continue;
                }
                list_append(&client->links, &link->list);
                http_link_flush(link);
        }
}

static void on_pump(Deferred *deferred, void *data)
{
        HttpClient *client = data;

        client_enter(client);
        reap_links(client);
        choose_general(client);
        for (int i = 0; i < HTTP_CLASSES; i++)
                pump_class(client, (HttpClass)i);
        pump_flush(client);
        client_leave(client);
}

/* --- the client --- */

static int copy_text(char **to, const char *from)
{
        *to = from ? strdup(from) : NULL;
        return from && !*to ? -ENOMEM : 0;
}

int http_client_new(Loop *loop, const HttpClientSpec *spec, HttpClient **ret, KlError **err)
{
        KL_AUTO(http_client_free) HttpClient *client = calloc(1, sizeof(*client));
        const char *host = spec->host ? spec->host : "localhost";
        KL_AUTOFREE char *authority = NULL;
        bool v6 = strchr(host, ':') != NULL;

        if (!client)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        client->loop = loop;
        client->port = spec->port;
        client->tls = tls_context_ref(spec->tls);
        client->proxy = spec->proxy;
        client->prior_knowledge = spec->h2_prior_knowledge;
        list_init(&client->links);
        for (size_t i = 0; i < HTTP_CLASSES; i++)
                list_init(&client->queues[i]);
        if (!spec->authority && spec->unix_path)
                authority = strdup("localhost");
        else if (!spec->authority)
                authority = str_format(v6 ? "[%s]:%u" : "%s:%u", host, spec->port);
        client->pump = deferred_new(loop, on_pump, client);
        if (!client->pump || copy_text(&client->host, host) < 0 ||
            copy_text(&client->unix_path, spec->unix_path) < 0 ||
            copy_text(&client->tls_name, spec->tls_name) < 0 ||
            copy_text(&client->authority, spec->authority ? spec->authority : authority) < 0 ||
            !client->authority)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *ret = KL_STEAL(client);
        return 0;
}

HttpClient *http_client_free(HttpClient *client)
{
        if (!client)
                return NULL;
        for (size_t i = 0; i < HTTP_CLASSES; i++)
                assert(list_empty(&client->queues[i]));
        while (!list_empty(&client->links))
                http_link_release(list_first(&client->links, HttpLink, list));
        client->pump = deferred_free(client->pump);
        client->doomed = true;
        if (client->busy == 0)
                client_destroy(client);
        return NULL;
}

void http_client_set_tls(HttpClient *client, TlsContext *tls)
{
        tls_context_unref(client->tls);
        client->tls = tls_context_ref(tls);
        list_for_each (link, &client->links, HttpLink, list)
                http_link_expire(link);
        http_client_schedule(client);
}

size_t http_client_links(const HttpClient *client)
{
        return client->n_links;
}

bool http_client_is_connected(const HttpClient *client)
{
        list_for_each (link, &client->links, HttpLink, list)
                if (link->open && !link->dead)
                        return true;
        return false;
}

/* --- requests --- */

static const char *put_text(char **at, const char *text)
{
        size_t size = strlen(text) + 1;
        char *to = memcpy(*at, text, size);

        *at += size;
        return to;
}

/* Headers are few and long-lived with their request: one allocation for all their text. */
static int copy_headers(HttpRequest *r, const HttpCall *call)
{
        size_t size = 1;
        char *at;

        for (size_t i = 0; i < call->n_headers; i++)
                size += strlen(call->headers[i].name) + strlen(call->headers[i].value) + 2;
        r->headers = calloc(call->n_headers + 1, sizeof(*r->headers));
        r->strings = at = malloc(size);
        if (!r->headers || !r->strings)
                return -ENOMEM;
        for (size_t i = 0; i < call->n_headers; i++) {
                const HttpHeader *from = &call->headers[i];

                r->headers[i].name = put_text(&at, from->name);
                r->headers[i].value = put_text(&at, from->value);
        }
        r->n_headers = call->n_headers;
        return 0;
}

static void on_timeout(Timer *timer, void *data)
{
        HttpRequest *r = data;
        HttpLink *link = r->link;
        bool critical = r->class == HTTP_CRITICAL;
        KL_AUTOERR err = NULL;

        kl_error(&err, -ETIMEDOUT, NULL, "no answer within %llu ms%s",
                 (unsigned long long)r->timeout_ms, critical ? ", closing the connection" : "");
        if (link && link->protocol)
                link->protocol->cancel(link, r);
        if (link && critical) {
                /* The request leaves first, so that failing the link does not repeat it. */
                list_unlink(&r->list);
                r->link = NULL;
                http_link_enter(link);
                http_request_finish(r, err);
                http_link_fail(link, err);
                http_link_leave(link);
                return;
        }
        http_request_finish(r, err);
}

int http_request_new(HttpClient *client, const HttpCall *call, HttpRequest **ret, KlError **err)
{
        KL_AUTO(http_request_free) HttpRequest *r = calloc(1, sizeof(*r));

        if (!r)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        list_init(&r->list);
        if (!http_target_is_valid(call->path) ||
            !http_headers_are_valid(call->headers, call->n_headers))
                return kl_error(err, -EINVAL, NULL, "a request with control characters");
        r->client = client;
        r->class = call->class;
        r->funcs = call->funcs;
        r->data = call->data;
        r->timeout_ms = call->timeout_ms;
        r->body_len = call->body_len;
        r->body = call->body_len ? malloc(call->body_len) : NULL;
        if (copy_text(&r->method, call->method) < 0 || copy_text(&r->path, call->path) < 0 ||
            copy_headers(r, call) < 0 || (call->body_len && !r->body))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (call->body_len)
                memcpy(r->body, call->body, call->body_len);
        if (call->timeout_ms) {
                r->timer = timer_new(client->loop, on_timeout, r);
                if (!r->timer)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                timer_start(r->timer, call->timeout_ms);
        }
        list_append(&client->queues[call->class], &r->list);
        http_client_schedule(client);
        *ret = KL_STEAL(r);
        return 0;
}

static void request_leave_link(HttpRequest *r)
{
        list_unlink(&r->list);
        if (r->link) {
                r->link->idle_since_ms = time_monotonic_ms();
                http_link_schedule(r->link);
        }
        r->link = NULL;
}

HttpRequest *http_request_free(HttpRequest *r)
{
        if (!r)
                return NULL;
        if (r->link && r->link->protocol)
                r->link->protocol->cancel(r->link, r);
        request_leave_link(r);
        timer_free(r->timer);
        free(r->method);
        free(r->path);
        free(r->headers);
        free(r->strings);
        free(r->body);
        free(r);
        return NULL;
}

void http_request_finish(HttpRequest *r, const KlError *err)
{
        request_leave_link(r);
        if (r->timer)
                timer_stop(r->timer);
        r->funcs->done(r, err, r->data);
}

void http_request_retry(HttpRequest *r, const KlError *err)
{
        if (r->n_tries >= HTTP_RETRIES_MAX || r->got_head) {
                http_request_finish(r, err);
                return;
        }
        request_leave_link(r);
        http_client_requeue(r->client, r);
}
