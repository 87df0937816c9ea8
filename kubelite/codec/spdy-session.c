/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The session: streams by id, windows, answers. Streams stand in an array in the order of their
 * ids, which only grow, so that finding one is a binary search and a used id is known by being at
 * most last_id.
 *
 * A callback may end or reset the stream it is called for: after each one the stream is looked up
 * again before it is touched.
 */

#include "codec/spdy-internal.h"

#include "base/str.h"

#define WINDOW_MAX 0x7fffffff

struct SpdyStream {
        SpdySession *session;
        uint32_t id;
        void *user;
        bool in_ended, out_ended;
        int64_t send_window; /* may fall below zero by a SETTINGS */
        uint32_t unconfirmed;
};

struct SpdySession {
        const SpdyFuncs *funcs;
        void *data;
        SpdyParser parser;
        SpdyInflate *inflate;
        SpdyDeflate *deflate;
        SpdyStream **streams;
        size_t n_streams, cap_streams;
        uint32_t last_id;
        bool stopped, gone_away, failed;
        bool windows; /* the peer keeps them */
        int64_t send_window, initial_window;
        uint32_t unconfirmed;
};

SpdySession *spdy_session_new(const SpdyFuncs *funcs, void *data)
{
        SpdySession *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        s->funcs = funcs;
        s->data = data;
        s->send_window = s->initial_window = SPDY_WINDOW;
        spdy_parser_init(&s->parser);
        s->inflate = spdy_inflate_new();
        s->deflate = spdy_deflate_new();
        return s->inflate && s->deflate ? s : spdy_session_free(s);
}

SpdySession *spdy_session_free(SpdySession *s)
{
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->n_streams; i++)
                free(s->streams[i]);
        free(s->streams);
        spdy_inflate_free(s->inflate);
        spdy_deflate_free(s->deflate);
        spdy_parser_deinit(&s->parser);
        free(s);
        return NULL;
}

void spdy_session_stop(SpdySession *s)
{
        s->stopped = true;
}

size_t spdy_session_n_streams(const SpdySession *s)
{
        return s->n_streams;
}

/* --- output --- */

static void send_control(SpdySession *s, SpdyType type, uint32_t first, uint32_t second, size_t len)
{
        unsigned char body[8];
        KL_AUTOBUF frame = BUF_INIT;

        spdy_put_u32(body, first);
        spdy_put_u32(body + 4, second);
        spdy_write_control(&frame, type, 0, body, len);
        if (!buf_error(&frame))
                s->funcs->output(frame.data, frame.len, NULL, 0, s->data);
}

static void send_reset(SpdySession *s, uint32_t id, SpdyStatus status)
{
        send_control(s, SPDY_RST_STREAM, id, status, 8);
}

static int send_reply(SpdySession *s, uint32_t id, KlError **err)
{
        KL_AUTOBUF body = BUF_INIT;
        KL_AUTOBUF frame = BUF_INIT;
        unsigned char stream[4];

        spdy_put_u32(stream, id);
        buf_add(&body, stream, sizeof(stream));
        if (spdy_headers_write(s->deflate, NULL, 0, &body) < 0)
                return kl_error_oom(err);
        spdy_write_control(&frame, SPDY_SYN_REPLY, 0, body.data, body.len);
        if (buf_error(&frame))
                return kl_error_oom(err);
        s->funcs->output(frame.data, frame.len, NULL, 0, s->data);
        return 0;
}

void spdy_session_goaway(SpdySession *s, SpdyGoaway status)
{
        if (s->gone_away)
                return;
        s->gone_away = true;
        send_control(s, SPDY_GOAWAY, s->last_id, status, 8);
}

/* --- streams --- */

static size_t stream_place(const SpdySession *s, uint32_t id)
{
        size_t low = 0, high = s->n_streams;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (s->streams[middle]->id < id)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static SpdyStream *stream_find(const SpdySession *s, uint32_t id)
{
        size_t i = stream_place(s, id);

        return i < s->n_streams && s->streams[i]->id == id ? s->streams[i] : NULL;
}

static SpdyStream *stream_new(SpdySession *s, uint32_t id)
{
        SpdyStream *st;

        if (s->n_streams == s->cap_streams) {
                size_t cap = s->cap_streams ? 2 * s->cap_streams : 8;
                SpdyStream **grown = reallocarray(s->streams, cap, sizeof(SpdyStream *));

                if (!grown)
                        return NULL;
                s->streams = grown;
                s->cap_streams = cap;
        }
        st = calloc(1, sizeof(*st));
        if (!st)
                return NULL;
        st->session = s;
        st->id = id;
        st->send_window = s->initial_window;
        s->streams[s->n_streams++] = st;
        return st;
}

static void stream_free(SpdyStream *st)
{
        SpdySession *s = st->session;
        size_t i = stream_place(s, st->id);

        memmove(s->streams + i, s->streams + i + 1, (s->n_streams - i - 1) * sizeof(SpdyStream *));
        s->n_streams--;
        free(st);
}

static void stream_gone(SpdyStream *st, SpdyStatus status)
{
        SpdySession *s = st->session;
        uint32_t id = st->id;

        s->funcs->gone(st, status, s->data);
        st = stream_find(s, id);
        if (st)
                stream_free(st);
}

/* The peer broke a rule on this stream. */
static void stream_fail(SpdyStream *st, SpdyStatus status)
{
        send_reset(st->session, st->id, status);
        stream_gone(st, status);
}

uint32_t spdy_stream_id(const SpdyStream *st)
{
        return st->id;
}

void spdy_stream_set_user(SpdyStream *st, void *user)
{
        st->user = user;
}

void *spdy_stream_user(const SpdyStream *st)
{
        return st->user;
}

size_t spdy_stream_room(const SpdyStream *st)
{
        int64_t room = st->send_window;

        if (st->out_ended)
                return 0;
        if (!st->session->windows)
                return SIZE_MAX;
        if (room > st->session->send_window)
                room = st->session->send_window;
        return room > 0 ? (size_t)room : 0;
}

void spdy_stream_write(SpdyStream *st, const void *bytes, size_t len)
{
        SpdySession *s = st->session;
        unsigned char head[SPDY_HEAD_SIZE];

        if (len == 0 || st->out_ended)
                return;
        st->send_window -= (int64_t)len;
        s->send_window -= (int64_t)len;
        spdy_data_head(head, st->id, 0, len);
        s->funcs->output(head, sizeof(head), bytes, len, s->data);
}

void spdy_stream_end(SpdyStream *st)
{
        unsigned char head[SPDY_HEAD_SIZE];

        if (st->out_ended)
                return;
        st->out_ended = true;
        spdy_data_head(head, st->id, SPDY_FLAG_FIN, 0);
        st->session->funcs->output(head, sizeof(head), NULL, 0, st->session->data);
        if (st->in_ended)
                stream_gone(st, SPDY_OK);
}

void spdy_stream_reset(SpdyStream *st, SpdyStatus status)
{
        send_reset(st->session, st->id, status);
        stream_free(st);
}

/* --- windows --- */

void spdy_session_consumed(SpdySession *s, size_t len)
{
        s->unconfirmed += (uint32_t)len;
        if (s->unconfirmed < SPDY_WINDOW / 2)
                return;
        send_control(s, SPDY_WINDOW_UPDATE, 0, s->unconfirmed, 8);
        s->unconfirmed = 0;
}

void spdy_stream_consumed(SpdyStream *st, size_t len)
{
        st->unconfirmed += (uint32_t)len;
        if (st->unconfirmed >= SPDY_WINDOW / 2 && !st->in_ended) {
                send_control(st->session, SPDY_WINDOW_UPDATE, st->id, st->unconfirmed, 8);
                st->unconfirmed = 0;
        }
        spdy_session_consumed(st->session, len);
}

/* Without windows of its own so far, the peer's count from here: what was sent does not matter. */
static void windows_begin(SpdySession *s)
{
        if (s->windows)
                return;
        s->windows = true;
        s->send_window = SPDY_WINDOW;
        for (size_t i = 0; i < s->n_streams; i++)
                s->streams[i]->send_window = s->initial_window;
}

static void tell_writable(SpdySession *s)
{
        for (size_t i = 0; i < s->n_streams && !s->stopped;) {
                SpdyStream *st = s->streams[i];
                uint32_t id = st->id;

                if (spdy_stream_room(st) > 0)
                        s->funcs->writable(st, s->data);
                i = stream_place(s, id + 1);
        }
}

static int on_window_update(SpdySession *s, const SpdyPart *p, KlError **err)
{
        uint32_t id = p->len == 8 ? spdy_u32(p->data) & SPDY_ID_MAX : 0;
        uint32_t delta = p->len == 8 ? spdy_u32(p->data + 4) : 0;
        SpdyStream *st;

        if (p->len != 8 || delta == 0 || delta > WINDOW_MAX)
                return kl_error(err, -EPROTO, NULL, "malformed SPDY WINDOW_UPDATE");
        windows_begin(s);
        if (id == 0) {
                if (s->send_window + delta > WINDOW_MAX)
                        return kl_error(err, -EPROTO, NULL, "SPDY session window overflows");
                s->send_window += delta;
                tell_writable(s);
                return 0;
        }
        st = stream_find(s, id);
        if (!st)
                return 0;
        if (st->send_window + delta > WINDOW_MAX) {
                stream_fail(st, SPDY_FLOW_CONTROL_ERROR);
                return 0;
        }
        st->send_window += delta;
        if (spdy_stream_room(st) > 0)
                s->funcs->writable(st, s->data);
        return 0;
}

static int set_initial_window(SpdySession *s, uint32_t value, KlError **err)
{
        int64_t delta = (int64_t)value - s->initial_window;

        if (value > WINDOW_MAX)
                return kl_error(err, -EPROTO, NULL, "SPDY initial window overflows");
        windows_begin(s);
        s->initial_window = value;
        for (size_t i = 0; i < s->n_streams; i++) {
                s->streams[i]->send_window += delta;
                if (s->streams[i]->send_window > WINDOW_MAX)
                        return kl_error(err, -EPROTO, NULL, "SPDY stream window overflows");
        }
        tell_writable(s);
        return 0;
}

static int on_settings(SpdySession *s, const SpdyPart *p, KlError **err)
{
        uint32_t n = p->len >= 4 ? spdy_u32(p->data) : 0;

        if (p->len < 4 || n > SPDY_SETTINGS_MAX || p->len != 4 + 8 * (size_t)n)
                return kl_error(err, -EPROTO, NULL, "malformed SPDY SETTINGS");
        for (const char *at = p->data + 4; at < p->data + p->len; at += 8)
                if ((spdy_u32(at) & 0xffffff) == SPDY_SETTINGS_INITIAL_WINDOW_SIZE)
                        KL_TRY(set_initial_window(s, spdy_u32(at + 4), err));
        return 0;
}

/* --- input --- */

static void input_ended(SpdyStream *st)
{
        SpdySession *s = st->session;
        uint32_t id = st->id;

        st->in_ended = true;
        s->funcs->input_end(st, s->data);
        st = stream_find(s, id);
        if (st && st->out_ended)
                stream_gone(st, SPDY_OK);
}

static int on_data(SpdySession *s, const SpdyPart *p, KlError **err)
{
        SpdyStream *st = stream_find(s, p->stream);

        if (p->stream == 0)
                return kl_error(err, -EPROTO, NULL, "SPDY data without a stream");
        if (!st) {
                /* Late bytes of a stream that was reset are no mistake. */
                spdy_session_consumed(s, p->len);
                if (p->stream > s->last_id && s->parser.left == 0)
                        send_reset(s, p->stream, SPDY_INVALID_STREAM);
                return 0;
        }
        if (st->in_ended) {
                spdy_session_consumed(s, p->len);
                stream_fail(st, SPDY_STREAM_ALREADY_CLOSED);
                return 0;
        }
        if (p->len > 0)
                s->funcs->input(st, p->data, p->len, s->data);
        st = stream_find(s, p->stream);
        if (st && p->fin)
                input_ended(st);
        return 0;
}

static SpdyStatus check_new_id(SpdySession *s, uint32_t id)
{
        SpdyStream *st = stream_find(s, id);

        if (st) {
                stream_gone(st, SPDY_PROTOCOL_ERROR);
                return SPDY_PROTOCOL_ERROR;
        }
        if (id <= s->last_id)
                return SPDY_PROTOCOL_ERROR;
        s->last_id = id;
        return s->n_streams >= SPDY_STREAMS_MAX ? SPDY_REFUSED_STREAM : SPDY_OK;
}

static int open_stream(SpdySession *s, uint32_t id, uint8_t flags, const SpdyHeaders *headers,
                       KlError **err)
{
        SpdyStream *st = stream_new(s, id);
        SpdyStatus status;

        if (!st)
                return kl_error_oom(err);
        st->in_ended = flags & SPDY_FLAG_FIN;
        st->out_ended = flags & SPDY_FLAG_UNIDIRECTIONAL;
        status = s->funcs->offered(st, headers->list, headers->n, s->data);
        if (status != SPDY_OK) {
                spdy_stream_reset(st, status);
                return 0;
        }
        KL_TRY(send_reply(s, id, err));
        s->funcs->opened(st, s->data);
        st = stream_find(s, id);
        if (st && st->in_ended)
                input_ended(st);
        return 0;
}

static int on_syn_stream(SpdySession *s, const SpdyPart *p, KlError **err)
{
        KL_AUTOFREE SpdyHeaders *headers = calloc(1, sizeof(*headers));
        uint32_t id = p->len >= 10 ? spdy_u32(p->data) & SPDY_ID_MAX : 0;
        SpdyStatus status;
        int r;

        if (!headers)
                return kl_error_oom(err);
        if (p->len < 10 || !(id & 1))
                return kl_error(err, -EPROTO, NULL, "malformed SPDY SYN_STREAM");
        r = spdy_headers_read(s->inflate, p->data + 10, p->len - 10, headers, err);
        if (r >= 0 && !s->gone_away) {
                status = check_new_id(s, id);
                if (status == SPDY_OK && r == SPDY_HEADERS_INVALID)
                        status = SPDY_PROTOCOL_ERROR;
                if (status != SPDY_OK)
                        send_reset(s, id, status);
                else
                        r = open_stream(s, id, p->flags, headers, err);
        }
        buf_deinit(&headers->text);
        return r < 0 ? r : 0;
}

/* Of a stream that is open, and read for the sake of the compression's memory. */
static int on_headers(SpdySession *s, const SpdyPart *p, KlError **err)
{
        KL_AUTOFREE SpdyHeaders *headers = calloc(1, sizeof(*headers));
        SpdyStream *st;
        int r;

        if (!headers)
                return kl_error_oom(err);
        if (p->len < 4)
                return kl_error(err, -EPROTO, NULL, "malformed SPDY HEADERS");
        r = spdy_headers_read(s->inflate, p->data + 4, p->len - 4, headers, err);
        buf_deinit(&headers->text);
        if (r < 0)
                return r;
        st = stream_find(s, spdy_u32(p->data) & SPDY_ID_MAX);
        if (!st)
                return 0;
        if (r == SPDY_HEADERS_INVALID || p->control == SPDY_SYN_REPLY)
                stream_fail(st, SPDY_PROTOCOL_ERROR);
        else if (st->in_ended)
                stream_fail(st, SPDY_STREAM_ALREADY_CLOSED);
        else if (p->flags & SPDY_FLAG_FIN)
                input_ended(st);
        return 0;
}

static int on_reset(SpdySession *s, const SpdyPart *p, KlError **err)
{
        SpdyStatus status = p->len == 8 ? (SpdyStatus)spdy_u32(p->data + 4) : SPDY_OK;
        SpdyStream *st;

        if (status == SPDY_OK)
                return kl_error(err, -EPROTO, NULL, "malformed SPDY RST_STREAM");
        st = stream_find(s, spdy_u32(p->data) & SPDY_ID_MAX);
        if (st)
                stream_gone(st, status);
        return 0;
}

static int on_ping(SpdySession *s, const SpdyPart *p, KlError **err)
{
        uint32_t id = p->len == 4 ? spdy_u32(p->data) : 0;

        if (id == 0)
                return kl_error(err, -EPROTO, NULL, "malformed SPDY PING");
        /* Even ids are the server's own. */
        if (id & 1)
                send_control(s, SPDY_PING, id, 0, 4);
        return 0;
}

static int on_control(SpdySession *s, const SpdyPart *p, KlError **err)
{
        switch (p->control) {
        case SPDY_SYN_STREAM:
                return on_syn_stream(s, p, err);
        case SPDY_SYN_REPLY:
        case SPDY_HEADERS:
                return on_headers(s, p, err);
        case SPDY_RST_STREAM:
                return on_reset(s, p, err);
        case SPDY_SETTINGS:
                return on_settings(s, p, err);
        case SPDY_PING:
                return on_ping(s, p, err);
        case SPDY_WINDOW_UPDATE:
                return on_window_update(s, p, err);
        case SPDY_GOAWAY:
                s->funcs->goaway(s->data);
                return 0;
        default:
                return 0;
        }
}

int spdy_session_input(SpdySession *s, const char *bytes, size_t len, size_t *ret_used,
                       KlError **err)
{
        SpdyPart part;
        size_t used;
        int r = 0;

        *ret_used = 0;
        if (s->failed)
                return kl_error(err, -EPROTO, NULL, "the SPDY session has failed");
        s->stopped = false;
        do {
                r = spdy_parse(&s->parser, bytes + *ret_used, len - *ret_used, &used, &part, err);
                *ret_used += used;
                if (r == 0 && part.type == SPDY_PART_DATA)
                        r = on_data(s, &part, err);
                else if (r == 0 && part.type == SPDY_PART_CONTROL)
                        r = on_control(s, &part, err);
        } while (r == 0 && !s->stopped && (*ret_used < len || part.type != SPDY_PART_MORE));
        if (r < 0) {
                s->failed = true;
                spdy_session_goaway(s, r == -ENOMEM ? SPDY_GOAWAY_INTERNAL_ERROR
                                                    : SPDY_GOAWAY_PROTOCOL_ERROR);
        }
        return r;
}
