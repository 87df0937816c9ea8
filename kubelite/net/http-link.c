/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One connection of an HTTP client and what it speaks. The client owns its links; a link owns its
 * connection and protocol state, and carries requests that their owners own.
 *
 * Every call that comes from the connection counts itself in `busy`: whatever the owners of
 * requests do in their callbacks, even free the client, the link goes only when none is left.
 */

#include "net/http-internal.h"

#include "base/clock.h"
#include "base/str.h"

#include <assert.h>

static void link_destroy(HttpLink *link)
{
        assert(list_empty(&link->requests));
        if (link->state)
                link->protocol->free(link);
        conn_free(link->conn);
        timer_free(link->timer);
        free(link);
}

void http_link_enter(HttpLink *link)
{
        link->busy++;
}

void http_link_leave(HttpLink *link)
{
        link->busy--;
        if (link->busy == 0 && !link->client)
                link_destroy(link);
}

void http_link_release(HttpLink *link)
{
        list_unlink(&link->list);
        link->client = NULL;
        link->dead = true;
        if (link->busy == 0)
                link_destroy(link);
}

const char *http_link_authority(const HttpLink *link)
{
        return http_client_authority(link->client);
}

void http_link_schedule(HttpLink *link)
{
        if (link->client)
                http_client_schedule(link->client);
}

/* Whether a request that failed may be sent again: a GET on a connection that had worked before,
 * which the server may have closed while it idled. */
static bool request_may_repeat(const HttpLink *link, const HttpRequest *request)
{
        return link->used && !request->got_head && request->n_tries <= 1 &&
               str_eq(request->method, "GET");
}

void http_link_fail(HttpLink *link, const KlError *err)
{
        if (link->dead)
                return;
        link->dead = true;
        http_link_enter(link);
        http_link_schedule(link);
        while (!list_empty(&link->requests)) {
                HttpRequest *request = list_first(&link->requests, HttpRequest, list);

                if (link->protocol)
                        link->protocol->cancel(link, request);
                if (request_may_repeat(link, request))
                        http_request_retry(request, err);
                else
                        http_request_finish(request, err);
        }
        if (!link->open && link->client)
                http_client_unreachable(link->client, link->critical, err);
        http_link_leave(link);
}

void http_link_drain(HttpLink *link)
{
        List todo = LIST_INIT(todo);

        if (link->draining || link->dead)
                return;
        link->draining = true;
        link->general = false;
        http_link_schedule(link);
        http_link_enter(link);
        /* Owners may free requests, this one and others: each goes back before its owner is told.
         */
        while (!list_empty(&link->requests)) {
                HttpRequest *request = list_first(&link->requests, HttpRequest, list);

                list_unlink(&request->list);
                list_append(&todo, &request->list);
        }
        while (!list_empty(&todo)) {
                HttpRequest *request = list_first(&todo, HttpRequest, list);

                list_unlink(&request->list);
                list_append(&link->requests, &request->list);
                if (request->funcs->draining)
                        request->funcs->draining(request, request->data);
        }
        http_link_leave(link);
}

void http_link_flush(HttpLink *link)
{
        KL_AUTOERR err = NULL;

        if (!link->open || link->dead)
                return;
        http_link_enter(link);
        if (link->expired)
                http_link_drain(link);
        if (!link->dead && link->protocol->flush(link, &err) < 0)
                http_link_fail(link, err);
        http_link_leave(link);
}

void http_link_expire(HttpLink *link)
{
        link->expired = true;
        link->general = false;
}

/* Silence while something is asked is looked into after 30 s; a link that nobody uses goes. */
static void link_check(HttpLink *link)
{
        uint64_t now = time_monotonic_ms();
        KL_AUTOERR err = NULL;

        if (link->open && !link->settled) {
                kl_error(&err, -ETIMEDOUT, NULL, "the server sent no HTTP/2 settings");
                http_link_fail(link, err);
                return;
        }
        if (list_empty(&link->requests)) {
                if (link->open && now - link->idle_since_ms >= HTTP_IDLE_CLOSE_MS) {
                        kl_error(&err, -ECONNRESET, NULL, "idle");
                        http_link_fail(link, err);
                        return;
                }
        } else if (link->ping_ms && link->last_input_ms < link->ping_ms) {
                kl_error(&err, -ETIMEDOUT, NULL, "the server did not answer a PING within %d s",
                         HTTP_PING_TIMEOUT_MS / 1000);
                http_link_fail(link, err);
                return;
        } else if (link->open && link->protocol->ping &&
                   now - link->last_input_ms >= HTTP_PING_AFTER_MS) {
                link->ping_ms = now;
                link->protocol->ping(link);
                timer_start(link->timer, HTTP_PING_TIMEOUT_MS);
                http_link_flush(link);
                return;
        }
        link->ping_ms = 0;
        timer_start(link->timer, HTTP_PING_AFTER_MS);
}

static void on_timer(Timer *timer, void *data)
{
        HttpLink *link = data;

        if (link->dead)
                return;
        http_link_enter(link);
        link_check(link);
        http_link_leave(link);
}

static void on_opened(Conn *conn, void *data)
{
        HttpLink *link = data;
        bool h2 = str_eq(conn_alpn(conn), "h2") || http_client_prior_knowledge(link->client);
        KL_AUTOERR err = NULL;

        http_link_enter(link);
        link->protocol = h2 ? &http_protocol_2 : &http_protocol_1;
        link->last_input_ms = link->idle_since_ms = time_monotonic_ms();
        if (link->protocol->open(link, &err) < 0) {
                http_link_fail(link, err);
        } else {
                link->open = true;
                timer_start(link->timer, CONN_CONNECT_TIMEOUT_MS);
                http_client_link_opened(link->client, h2);
                http_link_schedule(link);
        }
        http_link_leave(link);
}

static void on_input(Conn *conn, const char *bytes, size_t len, void *data)
{
        HttpLink *link = data;
        KL_AUTOERR err = NULL;

        if (link->dead)
                return;
        http_link_enter(link);
        link->last_input_ms = time_monotonic_ms();
        if (link->protocol->input(link, bytes, len, &err) < 0)
                http_link_fail(link, err);
        http_link_schedule(link);
        http_link_leave(link);
}

static void on_writable(Conn *conn, void *data)
{
        HttpLink *link = data;

        http_link_flush(link);
}

static void on_closed(Conn *conn, const KlError *err, void *data)
{
        HttpLink *link = data;
        KL_AUTOERR end = NULL;

        if (link->dead)
                return;
        http_link_enter(link);
        if (err)
                http_link_fail(link, err);
        else if (link->open && link->protocol->eof(link, &end) == 0)
                kl_error(&end, -ECONNRESET, NULL, "the server closed the connection");
        else if (!end)
                kl_error(&end, -ECONNRESET, NULL, "the server closed the connection");
        if (!link->dead)
                http_link_fail(link, end);
        http_link_leave(link);
}

int http_link_new(HttpClient *client, bool critical, HttpLink **ret, KlError **err)
{
        static const ConnFuncs funcs = { on_opened, on_input, on_writable, on_closed };
        HttpLink *link = calloc(1, sizeof(*link));
        ConnSpec spec = { .funcs = &funcs, .data = link };
        int r;

        if (!link)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        link->client = client;
        link->loop = http_client_loop(client);
        link->critical = critical;
        list_init(&link->list);
        list_init(&link->requests);
        link->timer = timer_new(link->loop, on_timer, link);
        http_client_conn_spec(client, &spec);
        r = link->timer ? conn_new(link->loop, &spec, &link->conn, err)
                        : kl_error(err, -ENOMEM, NULL, "out of memory");
        if (r < 0) {
                link_destroy(link);
                return r;
        }
        *ret = link;
        return 0;
}
