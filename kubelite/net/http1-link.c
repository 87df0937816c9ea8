/* SPDX-License-Identifier: Apache-2.0 */

/*
 * HTTP/1.1 on a link: one request at a time, no pipelining. A request that is cancelled takes its
 * connection with it, since its answer would still come.
 */

#include "net/http-internal.h"

#include "base/str.h"

typedef struct Http1 {
        Http1Parser parser;
        HttpRequest *current;
        bool finished; /* the link can take no further request */
} Http1;

static int h1_open(HttpLink *link, KlError **err)
{
        Http1 *h1 = calloc(1, sizeof(*h1));

        if (!h1)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        http1_parser_init(&h1->parser, HTTP1_RESPONSE);
        link->state = h1;
        link->settled = true;
        return 0;
}

static void h1_free(HttpLink *link)
{
        Http1 *h1 = link->state;

        http1_parser_deinit(&h1->parser);
        free(h1);
}

static size_t h1_room(const HttpLink *link, size_t *ret_all)
{
        const Http1 *h1 = link->state;

        *ret_all = 1;
        return !h1->current && !h1->finished && !link->draining;
}

static bool method_has_body(const char *method)
{
        return str_eq(method, "POST") || str_eq(method, "PUT") || str_eq(method, "PATCH");
}

static int h1_flush(HttpLink *link, KlError **err)
{
        Http1 *h1 = link->state;
        HttpRequest *r = h1->current;
        static const KlError closing = { .code = -ECONNRESET, .msg = (char *)"finished" };

        if (!r && (h1->finished || link->draining)) {
                http_link_fail(link, &closing);
                return 0;
        }
        while (r && r->body_sent < r->body_len && conn_queued(link->conn) < HTTP_QUEUE_HIGH) {
                size_t n = r->body_len - r->body_sent;

                n = n < HTTP_QUEUE_HIGH ? n : HTTP_QUEUE_HIGH;
                if (conn_write(link->conn, r->body + r->body_sent, n) < 0)
                        break;
                r->body_sent += n;
        }
        return 0;
}

static int h1_start(HttpLink *link, HttpRequest *r, KlError **err)
{
        Http1 *h1 = link->state;
        KL_AUTOBUF head = BUF_INIT;
        KL_AUTOFREE HttpHeader *headers = calloc(r->n_headers + 2, sizeof(*headers));
        char length[24];
        size_t n = 0;

        if (!headers)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        headers[n++] = (HttpHeader){ "Host", http_link_authority(link) };
        for (size_t i = 0; i < r->n_headers; i++)
                headers[n++] = r->headers[i];
        snprintf(length, sizeof(length), "%zu", r->body_len);
        if (r->body_len > 0 || method_has_body(r->method))
                headers[n++] = (HttpHeader){ "Content-Length", length };
        if (http1_write_request(&head, r->method, r->path, headers, n) < 0)
                return kl_error(err, -EINVAL, NULL, "a request that cannot be sent");
        if (conn_write(link->conn, head.data, head.len) < 0)
                return kl_error(err, -ENOTCONN, NULL, "the connection is closed");
        http1_parser_expect(&h1->parser, r->method);
        h1->current = r;
        r->body_sent = 0;
        return h1_flush(link, err);
}

static void h1_cancel(HttpLink *link, HttpRequest *request)
{
        Http1 *h1 = link->state;

        if (h1->current != request)
                return;
        h1->current = NULL;
        h1->finished = true;
        http_link_schedule(link);
}

static int h1_head(HttpLink *link, Http1 *h1, KlError **err)
{
        Http1Head *head = &h1->parser.head;
        HttpRequest *r = h1->current;

        if (!r)
                return h1->finished ? 0
                                    : kl_error(err, -EPROTO, NULL, "an answer without a request");
        if (head->status == 101)
                return kl_error(err, -EPROTO, NULL, "an upgrade that was not asked for");
        if (head->status < 200)
                return 0;
        h1->finished |= !head->keep_alive;
        r->got_head = true;
        r->funcs->head(r, head->status, head->headers, head->n_headers, r->data);
        return 0;
}

static void h1_end(HttpLink *link, Http1 *h1)
{
        HttpRequest *r = h1->current;

        if (!r)
                return;
        h1->current = NULL;
        h1->finished |= r->body_sent < r->body_len;
        link->used = true;
        http_request_finish(r, NULL);
}

static int h1_input(HttpLink *link, const char *bytes, size_t len, KlError **err)
{
        Http1 *h1 = link->state;
        Http1Part part = { .type = HTTP1_MORE };
        size_t used;
        int r = 0;

        do {
                r = http1_parse(&h1->parser, bytes, len, &used, &part, err);
                if (r < 0)
                        return kl_error_wrap(err, r, "the server's answer");
                bytes += used;
                len -= used;
                if (part.type == HTTP1_HEAD)
                        r = h1_head(link, h1, err);
                else if (part.type == HTTP1_BODY && h1->current)
                        h1->current->funcs->body(h1->current, part.data, part.len,
                                                 h1->current->data);
                else if (part.type == HTTP1_END)
                        h1_end(link, h1);
        } while (r == 0 && part.type != HTTP1_MORE && part.type != HTTP1_SWITCHED && !link->dead);
        return r;
}

static int h1_eof(HttpLink *link, KlError **err)
{
        Http1 *h1 = link->state;
        HttpRequest *r = h1->current;
        int code;

        if (!r || (http1_parser_idle(&h1->parser) && !r->got_head))
                return 0;
        code = http1_parse_eof(&h1->parser, err);
        if (code < 0)
                return code;
        h1->finished = true;
        h1_end(link, h1);
        return 0;
}

const HttpProtocol http_protocol_1 = {
        .open = h1_open,
        .free = h1_free,
        .room = h1_room,
        .start = h1_start,
        .cancel = h1_cancel,
        .input = h1_input,
        .eof = h1_eof,
        .flush = h1_flush,
};
