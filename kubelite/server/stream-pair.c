/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The connections of a port-forward session: each is a data channel and an error channel. The data
 * channel stands for both; the error channel carries at most one message.
 */

#include "server/stream-internal.h"

#include "base/clock.h"
#include "base/str.h"

StreamChannel *stream_pair_new(StreamSession *s, uint16_t port, const char *request_id)
{
        KL_AUTOFREE StreamChannel *c = calloc(1, sizeof(*c));
        KL_AUTOFREE StreamChannel *error = calloc(1, sizeof(*error));

        if (!c || !error)
                return NULL;
        *error = (StreamChannel){ .session = s, .lane = LANE_DATA_ERROR, .data = c };
        *c = (StreamChannel){ .session = s, .lane = LANE_DATA, .error = error, .port = port };
        list_init(&error->link);
        strncpy(c->request_id, request_id, STREAM_REQUEST_ID_MAX);
        c->deadline = time_monotonic_ms() + s->spec.creation_timeout_ms;
        list_append(&s->pairs, &c->link);
        s->n_pairs++;
        KL_STEAL(error);
        return KL_STEAL(c);
}

void stream_pair_free(StreamChannel *c)
{
        list_unlink(&c->link);
        buf_deinit(&c->pending);
        free(c->error);
        free(c);
}

void stream_pair_connect(StreamChannel *c)
{
        StreamSession *s = c->session;

        c->live = true;
        c->error->live = true;
        s->spec.funcs->connect(s, c, c->port, s->spec.data);
        if (!c->closed && !stream_is_over(s))
                stream_resume(c);
}

static void end_half(StreamChannel *c)
{
        if (!c->attached || c->out_ended)
                return;
        c->out_ended = true;
        c->session->mux->end(c);
}

void stream_pair_drop(StreamChannel *c, bool tell)
{
        StreamSession *s = c->session;

        if (c->closed)
                return;
        end_half(c->error);
        end_half(c);
        s->mux->detach(c->error);
        s->mux->detach(c);
        if (tell && c->live)
                s->spec.funcs->gone(c, s->spec.data);
        if (c->closed)
                return;
        c->closed = true;
        s->n_pending -= c->pending.len;
        s->n_pairs--;
        s->n_closed++;
}

void stream_forward_close(StreamChannel *c, const char *message)
{
        StreamSession *s = c->session;
        size_t len = message ? strlen(message) : 0;

        if (c->closed || stream_is_over(s))
                return;
        stream_enter(s);
        if (c->error->attached && len > s->mux->window(c->error))
                len = s->mux->window(c->error);
        if (c->error->attached && !c->error->out_ended && len > 0)
                s->mux->write(c->error, message, len);
        stream_pair_drop(c, false);
        /* WebSocket channels cannot be opened again. */
        if (s->n_pairs == 0 && s->spec.protocol.framing == STREAM_CHANNELS)
                stream_over(s, 0, NULL);
        else
                stream_unblock(s);
        stream_leave(s);
}

uint64_t stream_pairs_expire(StreamSession *s, uint64_t now)
{
        static const char message[] = "timed out waiting for streams";
        uint64_t next = UINT64_MAX;

        list_for_each (c, &s->pairs, StreamChannel, link) {
                if (c->live || c->closed)
                        continue;
                if (c->deadline > now) {
                        next = c->deadline < next ? c->deadline : next;
                        continue;
                }
                if (c->error->attached)
                        s->mux->write(c->error, message, strlen(message));
                stream_pair_drop(c, false);
        }
        return next;
}
