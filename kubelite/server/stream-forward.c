/* SPDX-License-Identifier: Apache-2.0 */

/*
 * /portForward: each connection of the client becomes one to the pod's loopback, within its network
 * namespace.
 */

#include "server/streams-internal.h"

#include "base/str.h"
#include "server/pod-dial.h"

typedef struct Forward {
        ServedStream base;
        char *pod_uid;
        SandboxWatch *sandbox; /* its end is the session's: sockets would hold the namespace */
        List connections;
        bool channels; /* which cannot tell that output has ended, but by their end */
} Forward;

typedef struct Connection {
        List link;
        Forward *forward;
        StreamChannel *channel;
        uint16_t port;
        PodDial *dial;    /* while it is being made */
        StreamPump *pump; /* once it is there */
        bool input_ended; /* before that */
} Connection;

static Forward *of(void *data)
{
        return container_of((ServedStream *)data, Forward, base);
}

/* --- connections --- */

static void connection_free(Connection *n)
{
        list_unlink(&n->link);
        pod_dial_free(n->dial);
        stream_pump_free(n->pump);
        free(n);
}

static void connection_close(Connection *n, const char *message)
{
        StreamChannel *channel = n->channel;

        stream_channel_set_user(channel, NULL);
        connection_free(n);
        /* Last: it may end the session. */
        stream_forward_close(channel, message);
}

static void on_pump(StreamPump *pump, PumpEnd end, void *data)
{
        Connection *n = data;

        if (stream_pump_is_done(pump) || (end == PUMP_OUT_ENDED && n->forward->channels))
                connection_close(n, NULL);
}

static void on_dialed(PodDial *dial, int fd, const char *why, void *data)
{
        Connection *n = data;
        const Forward *f = n->forward;
        StreamPumpSpec spec = { .channel = n->channel,
                                .fd = fd,
                                .directions = PUMP_IN | PUMP_OUT,
                                .func = on_pump,
                                .data = n };
        KL_AUTOFREE char *text = NULL;

        n->dial = pod_dial_free(n->dial);
        if (fd < 0) {
                text = str_format("error forwarding port %u to pod %s, uid %s: %s", n->port,
                                  f->base.pod, f->pod_uid, why);
                connection_close(n, text ? text : why);
        } else if (stream_pump_new(f->base.server->loop, &spec, &n->pump) < 0) {
                connection_close(n, "out of memory");
        } else if (n->input_ended) {
                stream_pump_input_end(n->pump);
        } else {
                stream_resume(n->channel);
        }
}

static void on_connect(StreamSession *session, StreamChannel *channel, uint16_t port, void *data)
{
        Forward *f = of(data);
        Connection *n = calloc(1, sizeof(*n));
        Place place;

        if (!n || served_stream_find(&f->base, &place) < 0 || !place.sandbox) {
                stream_forward_close(channel, n ? "the pod is gone" : "out of memory");
                free(n);
                return;
        }
        *n = (Connection){ .forward = f, .channel = channel, .port = port };
        list_append(&f->connections, &n->link);
        stream_channel_set_user(channel, n);
        n->dial = pod_dial_new(f->base.server->loop, sandbox_netns(place.sandbox), port, on_dialed,
                               n);
        if (!n->dial)
                connection_close(n, "out of memory");
}

static size_t on_input(StreamChannel *channel, const char *bytes, size_t len, void *data)
{
        Connection *n = stream_channel_user(channel);

        return !n ? len : n->pump ? stream_pump_input(n->pump, bytes, len) : 0;
}

static void on_input_end(StreamChannel *channel, void *data)
{
        Connection *n = stream_channel_user(channel);

        if (!n)
                return;
        if (!n->pump) {
                n->input_ended = true;
                return;
        }
        stream_pump_input_end(n->pump);
        if (stream_pump_is_done(n->pump))
                connection_close(n, NULL);
}

static void on_writable(StreamChannel *channel, void *data)
{
        Connection *n = stream_channel_user(channel);

        if (n && n->pump)
                stream_pump_writable(n->pump);
}

static void on_gone(StreamChannel *channel, void *data)
{
        Connection *n = stream_channel_user(channel);

        if (n)
                connection_free(n);
}

/* --- the session --- */

static void forward_release(ServedStream *s)
{
        Forward *f = of(s);

        f->sandbox = sandbox_watch_free(f->sandbox);
        while (!list_empty(&f->connections))
                connection_free(list_first(&f->connections, Connection, link));
        free(KL_STEAL(f->pod_uid));
}

static void on_sandbox_ended(void *data)
{
        Forward *f = data;

        f->sandbox = NULL;
        served_stream_end(&f->base);
}

static const ServedStreamOps forward_ops = {
        .funcs = { .connect = on_connect,
                   .input = on_input,
                   .input_end = on_input_end,
                   .writable = on_writable,
                   .gone = on_gone,
                   .closed = served_stream_closed },
        .release = forward_release,
};

/* --- requests --- */

static int add_ports(const char *text, uint16_t *ports, size_t *n, KlError **err)
{
        KL_AUTOSTRV list = strv_split(text, ',');
        uint64_t port;

        if (!list)
                return kl_error_oom(err);
        if (!*list)
                return kl_error(err, -EINVAL, NULL, "query parameter \"port\" cannot be empty");
        for (size_t i = 0; list[i]; i++) {
                if (str_to_u64(list[i], UINT16_MAX, &port) < 0)
                        return kl_error(err, -EINVAL, NULL, "unable to parse \"%s\" as a port",
                                        text);
                if (port == 0)
                        return kl_error(err, -EINVAL, NULL, "port \"%s\" must be > 0", text);
                if (*n == STREAM_PORTS_MAX)
                        return kl_error(err, -EINVAL, NULL, "more than %d ports", STREAM_PORTS_MAX);
                ports[(*n)++] = (uint16_t)port;
        }
        return 0;
}

/* Only WebSocket channels are told by the request which ports are meant. */
static int take_ports(const Target *target, uint16_t *ports, size_t *n, KlError **err)
{
        for (size_t i = 0; i < target->n_parameters; i++)
                if (str_eq(target->parameters[i].name, "port"))
                        KL_TRY(add_ports(target->parameters[i].value, ports, n, err));
        return *n ? 0 : kl_error(err, -EINVAL, NULL, "query parameter \"port\" is required");
}

/* True when the request may go on; else it was answered. */
static bool find(ServerRequest *rq, Place *ret)
{
        const KubeletServerOptions *o = &rq->server->options;
        PlaceName name = server_place_name(&rq->target, false);

        if (o->funcs->find_place(&name, ret, o->data) < 0)
                exchange_respond_text(rq->exchange, 404, "pod does not exist");
        else if (ret->uid_differs)
                exchange_respond_text(rq->exchange, 404, "pod not found");
        else if (!ret->sandbox)
                exchange_respond_text(rq->exchange, 500, "pod not found (\"%s_%s\")", name.pod,
                                      name.namespace);
        else
                return true;
        return false;
}

static Forward *forward_new(const Target *target, const Place *place)
{
        Forward *f = calloc(1, sizeof(*f));

        if (!f)
                return NULL;
        list_init(&f->connections);
        f->base.ops = &forward_ops;
        f->pod_uid = strdup(place->pod_uid);
        f->sandbox = sandbox_watch_new(place->sandbox, on_sandbox_ended, f);
        if (served_stream_name(&f->base, target, false) < 0 || !f->pod_uid || !f->sandbox) {
                served_stream_drop(&f->base);
                return NULL;
        }
        return f;
}

void server_port_forward(ServerRequest *rq)
{
        uint16_t ports[STREAM_PORTS_MAX];
        StreamSpec spec = { .ports = ports };
        StreamUpgrade upgrade;
        KL_AUTOERR err = NULL;
        Forward *f;
        Place place;

        if (!find(rq, &place) || !served_stream_negotiate(rq, STREAM_PORT_FORWARD, &upgrade))
                return;
        if (upgrade.protocol.framing == STREAM_CHANNELS &&
            take_ports(&rq->target, ports, &spec.n_ports, &err) < 0) {
                exchange_respond_text(rq->exchange, err->code == -EINVAL ? 400 : 500, "%s",
                                      kl_error_msg(err));
                return;
        }
        f = forward_new(&rq->target, &place);
        if (!f) {
                exchange_respond_text(rq->exchange, 500, "out of memory");
                return;
        }
        f->channels = upgrade.protocol.framing == STREAM_CHANNELS;
        served_stream_start(&f->base, rq, &upgrade, &spec);
}
