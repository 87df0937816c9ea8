/* SPDX-License-Identifier: Apache-2.0 */

/* A connection that is made and closed again. */

#include "probe/probe-internal.h"

typedef struct TcpAttempt {
        Attempt base;
        Conn *conn;
        char host_port[HOST_PORT_MAX];
} TcpAttempt;

static void on_opened(Conn *conn, void *data)
{
        TcpAttempt *a = data;

        attempt_tell(&a->base, PROBE_SUCCESS, "");
}

static void on_input(Conn *conn, const char *bytes, size_t len, void *data)
{
}

static void on_writable(Conn *conn, void *data)
{
}

static void on_closed(Conn *conn, const KlError *err, void *data)
{
        static const KlError ended = { .code = -ECONNRESET, .msg = (char *)"EOF" };
        TcpAttempt *a = data;
        char text[512];

        dial_error_format(err ? err : &ended, a->host_port, text, sizeof(text));
        attempt_tell(&a->base, PROBE_FAILURE, text);
}

static int tcp_start(Attempt *base, const AttemptSpec *spec, KlError **err)
{
        static const ConnFuncs funcs = { on_opened, on_input, on_writable, on_closed };
        TcpAttempt *a = (TcpAttempt *)base;
        ConnSpec conn = { .port = spec->handler->port, .funcs = &funcs, .data = a };

        KL_TRY(attempt_port(spec, err));
        KL_TRY(attempt_host(spec, &conn.host, err));
        host_port_format(conn.host, conn.port, a->host_port);
        return conn_new(base->prober->loop, &conn, &a->conn, err);
}

static void tcp_stop(Attempt *base)
{
        TcpAttempt *a = (TcpAttempt *)base;

        a->conn = conn_free(a->conn);
}

static void tcp_timed_out(Attempt *base)
{
        TcpAttempt *a = (TcpAttempt *)base;

        attempt_tellf(base, PROBE_FAILURE, "dial tcp %s: i/o timeout", a->host_port);
}

const AttemptOps attempt_tcp = {
        .size = sizeof(TcpAttempt),
        .start = tcp_start,
        .stop = tcp_stop,
        .timed_out = tcp_timed_out,
};
