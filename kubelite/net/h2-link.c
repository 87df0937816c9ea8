/* SPDX-License-Identifier: Apache-2.0 */

/*
 * HTTP/2 on a link, by nghttp2. nghttp2 must not be re-entered from its own callbacks, and these
 * call the owners of requests, who may start, cancel and free. So starts come from the client's
 * deferred call, and a cancelled stream is only marked: h2_flush() resets it.
 *
 * A stream outlives its request where that is cancelled: its `request` is NULL then.
 */

#include "net/http-internal.h"

#include "base/str.h"

#include <assert.h>
#include <ctype.h>
#include <nghttp2/nghttp2.h>

/* Until the server has told its limit. */
#define STREAMS_BEFORE_SETTINGS 1

typedef struct H2 {
        nghttp2_session *session;
        List streams;
        size_t n_streams;
        bool resets_wanted;
        uint32_t complaint; /* what we told the server in a GOAWAY of ours */
} H2;

typedef struct H2Stream {
        List list;
        int32_t id;
        HttpLink *link;
        HttpRequest *request;
        bool reset_wanted;
        bool too_large;
        /* The header block that is being received. */
        Buf block; /* name NUL value NUL … */
        size_t n_headers, block_size;
} H2Stream;

static void stream_free(H2 *h2, H2Stream *s)
{
        list_unlink(&s->list);
        h2->n_streams--;
        buf_deinit(&s->block);
        free(s);
}

static void stream_reset(HttpLink *link, H2Stream *s)
{
        H2 *h2 = link->state;

        s->reset_wanted = h2->resets_wanted = true;
        http_link_schedule(link);
}

/* Detaches the request and returns it. */
static HttpRequest *stream_steal_request(H2Stream *s)
{
        HttpRequest *r = KL_STEAL(s->request);

        if (r)
                r->stream = NULL;
        return r;
}

/* --- nghttp2's callbacks --- */

static H2Stream *stream_of(nghttp2_session *session, int32_t id)
{
        return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
        H2Stream *s = stream_of(session, frame->hd.stream_id);

        if (s) {
                buf_clear(&s->block);
                s->n_headers = s->block_size = 0;
        }
        return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *data)
{
        H2Stream *s = stream_of(session, frame->hd.stream_id);

        if (!s || !s->request)
                return 0;
        s->block_size += name_len + value_len + 32;
        if (s->block_size > HTTP_HEADER_BLOCK_MAX || s->n_headers == HTTP1_HEADERS_MAX) {
                s->too_large = true;
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
        buf_add(&s->block, name, name_len);
        buf_add_char(&s->block, '\0');
        buf_add(&s->block, value, value_len);
        buf_add_char(&s->block, '\0');
        s->n_headers++;
        return buf_error(&s->block) ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
}

/* Cuts the block into headers; pseudo headers give the status and are left out. */
static size_t block_headers(const H2Stream *s, HttpHeader *headers, int *ret_status)
{
        const char *at = s->block.data;
        size_t n = 0;

        *ret_status = 0;
        for (size_t i = 0; i < s->n_headers; i++) {
                const char *name = at, *value = name + strlen(name) + 1;
                uint64_t status;

                at = value + strlen(value) + 1;
                if (*name != ':')
                        headers[n++] = (HttpHeader){ name, value };
                else if (str_eq(name, ":status") && str_to_u64(value, 999, &status) == 0)
                        *ret_status = (int)status;
        }
        return n;
}

static int stream_headers(H2Stream *s)
{
        HttpRequest *r = s->request;
        KL_AUTOBUF block = BUF_INIT;
        KL_AUTOFREE HttpHeader *headers = calloc(s->n_headers + 1, sizeof(*headers));
        size_t n;
        int status;

        if (!headers)
                return NGHTTP2_ERR_CALLBACK_FAILURE;
        n = block_headers(s, headers, &status);
        /* The owner may end the stream while it reads the headers. */
        block = s->block;
        s->block = (Buf)BUF_INIT;
        s->n_headers = 0;
        if (status >= 200) {
                r->got_head = true;
                r->funcs->head(r, status, headers, n, r->data);
        } else if (status == 0 && r->funcs->trailers) {
                r->funcs->trailers(r, headers, n, r->data);
        }
        return 0;
}

/* The response is whole. */
static void stream_ended(nghttp2_session *session, H2Stream *s)
{
        HttpRequest *r = stream_steal_request(s);

        if (!r)
                return;
        s->link->used = true;
        if (!nghttp2_session_get_stream_local_close(session, s->id))
                stream_reset(s->link, s);
        http_request_finish(r, NULL);
}

static void goaway_received(HttpLink *link, int32_t last)
{
        H2 *h2 = link->state;

        /* Streams above `last` were not processed; nghttp2 closes them next, as refused. */
        list_for_each (s, &h2->streams, H2Stream, list)
                if (s->id > last && s->request)
                        s->request->got_head = false;
        http_link_drain(link);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
        HttpLink *link = data;
        H2Stream *s = frame->hd.stream_id ? stream_of(session, frame->hd.stream_id) : NULL;
        int r = 0;

        if (frame->hd.type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK)) {
                link->settled = true;
                http_link_schedule(link);
        }
        if (frame->hd.type == NGHTTP2_GOAWAY)
                goaway_received(link, frame->goaway.last_stream_id);
        if (s && s->request && frame->hd.type == NGHTTP2_HEADERS)
                r = stream_headers(s);
        if (s && r == 0 && frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
            (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA))
                stream_ended(session, s);
        return r;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
        HttpLink *link = data;
        H2 *h2 = link->state;

        if (frame->hd.type == NGHTTP2_GOAWAY)
                h2->complaint = frame->goaway.error_code;
        return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                   size_t len, void *data)
{
        H2Stream *s = stream_of(session, id);

        if (s && s->request)
                s->request->funcs->body(s->request, (const char *)bytes, len, s->request->data);
        return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *data)
{
        HttpLink *link = data;
        H2 *h2 = link->state;
        H2Stream *s = stream_of(session, id);
        KL_AUTOERR err = NULL;
        HttpRequest *r;
        bool too_large;

        if (!s)
                return 0;
        r = stream_steal_request(s);
        too_large = s->too_large;
        nghttp2_session_set_stream_user_data(session, id, NULL);
        stream_free(h2, s);
        http_link_schedule(link);
        if (!r)
                return 0;
        if (too_large)
                kl_error(&err, -EMSGSIZE, NULL, "the server's headers are larger than %u bytes",
                         HTTP_HEADER_BLOCK_MAX);
        else if (code == NGHTTP2_NO_ERROR)
                kl_error(&err, -EPROTO, NULL, "the server ended the stream without an answer");
        else
                kl_error(&err, -ECONNRESET, NULL, "the server reset the stream: %s",
                         nghttp2_http2_strerror(code));
        if (code == NGHTTP2_REFUSED_STREAM && !r->got_head)
                http_request_retry(r, err);
        else
                http_request_finish(r, err);
        return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t size,
                         uint32_t *flags, nghttp2_data_source *source, void *data)
{
        H2Stream *s = source->ptr;
        HttpRequest *r = s->request;
        size_t n;

        if (!r)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        n = r->body_len - r->body_sent;
        n = n < size ? n : size;
        memcpy(buf, r->body + r->body_sent, n);
        r->body_sent += n;
        if (r->body_sent == r->body_len)
                *flags |= NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)n;
}

/* --- the protocol --- */

static int session_new(HttpLink *link, nghttp2_session **ret)
{
        nghttp2_session_callbacks *callbacks = NULL;
        nghttp2_option *option = NULL;
        int r = -1;

        if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0) {
                nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks,
                                                                        on_begin_headers);
                nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
                nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
                nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
                nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
                nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
                nghttp2_option_set_no_closed_streams(option, 1);
                r = nghttp2_session_client_new2(ret, callbacks, link, option);
        }
        nghttp2_option_del(option);
        nghttp2_session_callbacks_del(callbacks);
        return r;
}

static int h2_open(HttpLink *link, KlError **err)
{
        const nghttp2_settings_entry settings[] = {
                { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
                { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP_STREAM_WINDOW },
                { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEADER_BLOCK_MAX },
        };
        H2 *h2 = calloc(1, sizeof(*h2));

        if (!h2)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        list_init(&h2->streams);
        if (session_new(link, &h2->session) != 0) {
                free(h2);
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        link->state = h2;
        if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings, ELEMENTS(settings)) !=
                    0 ||
            nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                                  HTTP_CONNECTION_WINDOW) != 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        return 0;
}

static void h2_free(HttpLink *link)
{
        H2 *h2 = link->state;

        nghttp2_session_del(h2->session);
        while (!list_empty(&h2->streams))
                stream_free(h2, list_first(&h2->streams, H2Stream, list));
        free(h2);
}

static size_t h2_room(const HttpLink *link, size_t *ret_all)
{
        const H2 *h2 = link->state;
        uint32_t limit = STREAMS_BEFORE_SETTINGS;

        if (link->settled)
                limit = nghttp2_session_get_remote_settings(
                        h2->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
        *ret_all = limit < HTTP_STREAMS_MAX ? limit : HTTP_STREAMS_MAX;
        if (link->draining || !nghttp2_session_check_request_allowed(h2->session))
                return 0;
        return h2->n_streams < *ret_all ? *ret_all - h2->n_streams : 0;
}

static void lower(char *text)
{
        for (; *text; text++)
                *text = (char)tolower((unsigned char)*text);
}

static nghttp2_nv pair(const char *name, const char *value)
{
        return (nghttp2_nv){ (uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                             strlen(value), NGHTTP2_NV_FLAG_NONE };
}

/* Bearer tokens do not belong into the compression table. */
static nghttp2_nv header_pair(const HttpHeader *header)
{
        nghttp2_nv nv = pair(header->name, header->value);

        if (str_eq(header->name, "authorization"))
                nv.flags = NGHTTP2_NV_FLAG_NO_INDEX;
        return nv;
}

static int h2_submit(HttpLink *link, HttpRequest *r, H2Stream *s)
{
        H2 *h2 = link->state;
        KL_AUTOFREE nghttp2_nv *nv = calloc(r->n_headers + 5, sizeof(*nv));
        nghttp2_data_provider body = { .source.ptr = s, .read_callback = read_body };
        bool tls = *conn_alpn(link->conn) != '\0';
        char length[24];
        size_t n = 0;

        if (!nv)
                return NGHTTP2_ERR_NOMEM;
        nv[n++] = pair(":method", r->method);
        nv[n++] = pair(":scheme", tls ? "https" : "http");
        nv[n++] = pair(":authority", http_link_authority(link));
        nv[n++] = pair(":path", r->path);
        for (size_t i = 0; i < r->n_headers; i++) {
                lower((char *)(uintptr_t)r->headers[i].name);
                nv[n++] = header_pair(&r->headers[i]);
        }
        snprintf(length, sizeof(length), "%zu", r->body_len);
        if (r->body_len > 0)
                nv[n++] = pair("content-length", length);
        return nghttp2_submit_request(h2->session, NULL, nv, n, r->body_len > 0 ? &body : NULL, s);
}

static int h2_start(HttpLink *link, HttpRequest *r, KlError **err)
{
        H2 *h2 = link->state;
        H2Stream *s = calloc(1, sizeof(*s));
        int32_t id;

        if (!s)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r->body_sent = 0;
        s->link = link;
        id = h2_submit(link, r, s);
        if (id < 0) {
                free(s);
                return kl_error(err, -EPROTO, NULL, "start a stream: %s", nghttp2_strerror(id));
        }
        s->id = id;
        s->request = r;
        r->stream = s;
        list_append(&h2->streams, &s->list);
        h2->n_streams++;
        return 0;
}

static void h2_cancel(HttpLink *link, HttpRequest *r)
{
        H2Stream *s = r->stream;

        if (s) {
                stream_steal_request(s);
                stream_reset(link, s);
        }
}

static int h2_input(HttpLink *link, const char *bytes, size_t len, KlError **err)
{
        H2 *h2 = link->state;
        ssize_t n = nghttp2_session_mem_recv(h2->session, (const uint8_t *)bytes, len);

        if (n < 0)
                return kl_error(err, -EPROTO, NULL, "the server's HTTP/2: %s",
                                nghttp2_strerror((int)n));
        return 0;
}

static int h2_eof(HttpLink *link, KlError **err)
{
        return 0;
}

static void submit_resets(H2 *h2)
{
        if (!h2->resets_wanted)
                return;
        h2->resets_wanted = false;
        list_for_each (s, &h2->streams, H2Stream, list) {
                if (s->reset_wanted)
                        nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, s->id,
                                                  NGHTTP2_CANCEL);
                s->reset_wanted = false;
        }
}

/* Ends the link when it has no more to do. */
static void end_if_finished(HttpLink *link)
{
        H2 *h2 = link->state;
        bool finished =
                !nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session);
        KL_AUTOERR err = NULL;

        if (!finished && (!link->draining || !list_empty(&link->requests)))
                return;
        conn_push(link->conn);
        if (h2->complaint != NGHTTP2_NO_ERROR)
                kl_error(&err, -EPROTO, NULL, "the server's HTTP/2 is wrong: %s",
                         nghttp2_http2_strerror(h2->complaint));
        else
                kl_error(&err, -ECONNRESET, NULL, "the server closed the connection");
        http_link_fail(link, err);
}

static int h2_flush(HttpLink *link, KlError **err)
{
        H2 *h2 = link->state;

        submit_resets(h2);
        while (conn_queued(link->conn) < HTTP_QUEUE_HIGH && !link->dead) {
                const uint8_t *data;
                ssize_t n = nghttp2_session_mem_send(h2->session, &data);

                if (n < 0)
                        return kl_error(err, -EPROTO, NULL, "send HTTP/2: %s",
                                        nghttp2_strerror((int)n));
                if (n == 0 || conn_write(link->conn, data, (size_t)n) < 0)
                        break;
        }
        if (!link->dead)
                end_if_finished(link);
        return 0;
}

static void h2_ping(HttpLink *link)
{
        H2 *h2 = link->state;

        nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL);
}

const HttpProtocol http_protocol_2 = {
        .open = h2_open,
        .free = h2_free,
        .room = h2_room,
        .start = h2_start,
        .cancel = h2_cancel,
        .input = h2_input,
        .eof = h2_eof,
        .flush = h2_flush,
        .ping = h2_ping,
};
