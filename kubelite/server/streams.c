/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sessions on upgraded connections: the transport, their list, their end. When a client vanishes,
 * stops answering, or the server goes, the session's `closed` or served_stream_end() releases all
 * that was held for it.
 */

#include "server/streams-internal.h"

#include "base/log.h"
#include "base/str.h"

/* --- the transport --- */

static void t_write(const void *bytes, size_t len, void *data)
{
        ServedStream *s = data;

        if (!s->http || s->broken)
                return;
        if (http_stream_write(s->http, bytes, len) == 0)
                return;
        /* What follows would make no sense without it. */
        s->broken = true;
        deferred_schedule(s->server->streams_sweep);
}

static size_t t_queued(void *data)
{
        const ServedStream *s = data;

        return s->http ? http_stream_queued(s->http) : 0;
}

static void t_pause(bool paused, void *data)
{
        ServedStream *s = data;

        if (s->http)
                http_stream_pause(s->http, paused);
}

static void t_close(void *data)
{
        ServedStream *s = data;

        if (!s->http)
                return;
        if (s->broken)
                http_stream_abort(s->http);
        else
                http_stream_close(s->http);
        s->http = NULL;
}

static const StreamTransport transport = { t_write, t_queued, t_pause, t_close };

static void on_input(HttpStream *http, char *bytes, size_t len, void *data)
{
        stream_session_input(((ServedStream *)data)->session, bytes, len);
}

static void on_writable(HttpStream *http, void *data)
{
        stream_session_sent(((ServedStream *)data)->session);
}

static void on_closed(HttpStream *http, void *data)
{
        ServedStream *s = data;

        s->http = NULL;
        stream_session_eof(s->session);
}

static const HttpStreamFuncs http_funcs = { on_input, on_writable, on_closed };

/* --- its life --- */

static void stream_free(ServedStream *s)
{
        free(s->namespace);
        free(s->pod);
        free(s->uid);
        free(s->container);
        free(s);
}

void served_stream_end(ServedStream *s)
{
        StreamSession *session = s->session;

        if (!s->ops)
                return;
        s->session = NULL;
        stream_session_free(session);
        s->ops->release(s);
        s->ops = NULL;
        list_unlink(&s->link);
        list_append(&s->server->dead_streams, &s->link);
        deferred_schedule(s->server->streams_sweep);
}

void served_stream_closed(StreamSession *session, const KlError *err, void *data)
{
        ServedStream *s = data;

        if (err)
                log_info(NULL, "A streaming session of pod '%s/%s' ended: %s", s->namespace, s->pod,
                         kl_error_msg(err));
        served_stream_end(s);
}

static void free_dead(KubeletServer *server)
{
        while (!list_empty(&server->dead_streams)) {
                ServedStream *s = list_first(&server->dead_streams, ServedStream, link);

                list_unlink(&s->link);
                stream_free(s);
        }
}

void server_streams_sweep(Deferred *deferred, void *data)
{
        KubeletServer *server = data;

        list_for_each (s, &server->streams, ServedStream, link) {
                if (!s->broken)
                        continue;
                log_warning(NULL, "A streaming session is cut off: its client's queue is full");
                served_stream_end(s);
        }
        free_dead(server);
}

void server_streams_stop(KubeletServer *server)
{
        while (!list_empty(&server->streams))
                served_stream_end(list_first(&server->streams, ServedStream, link));
        free_dead(server);
}

void served_stream_drop(ServedStream *s)
{
        s->ops->release(s);
        stream_free(s);
}

bool served_stream_negotiate(ServerRequest *rq, StreamKind kind, StreamUpgrade *ret)
{
        const Http1Head *head = exchange_head(rq->exchange);

        stream_negotiate(kind, head->method, head->headers, head->n_headers, ret);
        if (ret->status == 101)
                return true;
        for (size_t i = 0; i < ret->n_headers; i++)
                exchange_add_header(rq->exchange, ret->headers[i].name, ret->headers[i].value);
        exchange_respond_text(rq->exchange, ret->status, "%s", ret->message);
        return false;
}

void served_stream_start(ServedStream *s, ServerRequest *rq, const StreamUpgrade *upgrade,
                         StreamSpec *spec)
{
        KubeletServer *server = rq->server;
        KL_AUTOERR err = NULL;

        s->server = server;
        list_init(&s->link);
        list_append(&server->streams, &s->link);
        spec->protocol = upgrade->protocol;
        spec->transport = &transport;
        spec->transport_data = s;
        spec->funcs = &s->ops->funcs;
        spec->data = s;
        spec->idle_timeout_ms =
                (uint64_t)server->options.config->streaming_connection_idle_timeout_us / 1000;
        if (stream_session_new(server->loop, spec, &s->session, &err) < 0) {
                exchange_respond_text(rq->exchange, err->code == -EINVAL ? 400 : 500, "%s",
                                      kl_error_msg(err));
                served_stream_end(s);
                return;
        }
        s->http = exchange_upgrade(rq->exchange, upgrade->headers, upgrade->n_headers, &http_funcs,
                                   s);
        if (!s->http) {
                served_stream_end(s);
                return;
        }
        stream_session_start(s->session);
}

/* --- who is meant --- */

PlaceName server_place_name(const Target *target, bool has_container)
{
        size_t n = target->n_segments, base = has_container ? 4 : 3;

        return (PlaceName){
                .namespace = target->segments[1],
                .pod = target->segments[2],
                .uid = n > base ? target->segments[3] : NULL,
                .container = has_container ? target->segments[n - 1] : NULL,
        };
}

static int copy(const char *from, char **to)
{
        *to = from ? strdup(from) : NULL;
        return from && !*to ? -ENOMEM : 0;
}

int served_stream_name(ServedStream *s, const Target *target, bool has_container)
{
        PlaceName name = server_place_name(target, has_container);

        KL_TRY(copy(name.namespace, &s->namespace));
        KL_TRY(copy(name.pod, &s->pod));
        KL_TRY(copy(name.uid, &s->uid));
        return copy(name.container, &s->container);
}

int served_stream_find(const ServedStream *s, Place *ret)
{
        PlaceName name = { s->namespace, s->pod, s->uid, s->container };
        const KubeletServerOptions *o = &s->server->options;

        return o->funcs->find_place(&name, ret, o->data);
}
