/* SPDX-License-Identifier: Apache-2.0 */

/* grpc.health.v1.Health/Check, in the clear. */

#include "net/grpc.h"

#include "codec/protobuf.h"
#include "probe/probe-internal.h"

#define METHOD "/grpc.health.v1.Health/Check"
#define FIELD_SERVICE 1 /* of HealthCheckRequest */
#define FIELD_STATUS 1  /* of HealthCheckResponse */
#define SERVING 1
#define SERVICE_MAX (64U << 10)

typedef struct GrpcAttempt {
        Attempt base;
        HttpClient *client;
        GrpcCall *call;
        char host_port[HOST_PORT_MAX];
} GrpcAttempt;

static int serving_status(const GrpcReply *reply, uint64_t *ret)
{
        PbReader reader;
        PbField field;
        int r;

        *ret = 0;
        pb_reader_init(&reader, reply->data, reply->len);
        while ((r = pb_next(&reader, &field)) > 0)
                if (field.number == FIELD_STATUS && field.wire == PB_VARINT)
                        *ret = field.value;
        return r;
}

static void tell_status(GrpcAttempt *a, const GrpcReply *reply)
{
        static const char *const names[] = { "UNKNOWN", "SERVING", "NOT_SERVING",
                                             "SERVICE_UNKNOWN" };
        uint64_t status;

        if (serving_status(reply, &status) < 0)
                attempt_tell(
                        &a->base, PROBE_FAILURE,
                        "error: health rpc probe failed: the answer is no HealthCheckResponse");
        else if (status == SERVING)
                attempt_tell(&a->base, PROBE_SUCCESS, "service healthy");
        else if (status < sizeof(names) / sizeof(names[0]))
                attempt_tellf(&a->base, PROBE_FAILURE, "service unhealthy (responded with \"%s\")",
                              names[status]);
        else
                attempt_tellf(&a->base, PROBE_FAILURE,
                              "service unhealthy (responded with \"%llu\")",
                              (unsigned long long)status);
}

static void grpc_timed_out(Attempt *base)
{
        GrpcAttempt *a = (GrpcAttempt *)base;
        unsigned long long seconds = base->timeout_ms / 1000;

        if (!http_client_is_connected(a->client))
                attempt_tellf(base, PROBE_FAILURE,
                              "timeout: failed to connect service \"%s\" within %llus: context "
                              "deadline exceeded",
                              a->host_port, seconds);
        else
                attempt_tellf(base, PROBE_FAILURE,
                              "timeout: health rpc did not complete within %llus", seconds);
}

static void on_reply(GrpcCall *call, const GrpcReply *reply, void *data)
{
        GrpcAttempt *a = data;
        char text[512];

        if (reply->answered && reply->status == GRPC_OK) {
                tell_status(a, reply);
        } else if (reply->status == GRPC_UNIMPLEMENTED) {
                attempt_tellf(&a->base, PROBE_FAILURE,
                              "error: this server does not implement the grpc health protocol "
                              "(grpc.health.v1.Health): %s",
                              reply->text);
        } else if (reply->status == GRPC_DEADLINE_EXCEEDED) {
                grpc_timed_out(&a->base);
        } else if (reply->answered) {
                attempt_tellf(&a->base, PROBE_FAILURE,
                              "error: health rpc probe failed: rpc error: code = %s desc = %s",
                              grpc_status_name(reply->status), reply->text);
        } else {
                KlError error = { .code = reply->error, .msg = (char *)(uintptr_t)reply->text };

                dial_error_format(&error, a->host_port, text, sizeof(text));
                attempt_tellf(&a->base, PROBE_FAILURE,
                              "error: failed to connect service at \"%s\": %s", a->host_port, text);
        }
}

static int grpc_start(Attempt *base, const AttemptSpec *spec, KlError **err)
{
        GrpcAttempt *a = (GrpcAttempt *)base;
        HttpClientSpec client = { .port = spec->handler->port, .h2_prior_knowledge = true };
        KL_AUTOBUF message = BUF_INIT_LIMIT(SERVICE_MAX);
        GrpcCallSpec call = {
                .method = METHOD,
                .user_agent = base->prober->probe_agent,
                .reply_max = PROBE_OUTPUT_MAX,
                .done = on_reply,
                .data = a,
        };

        KL_TRY(attempt_port(spec, err));
        KL_TRY(attempt_host(spec, &client.host, err));
        host_port_format(client.host, client.port, a->host_port);
        pb_put_str(&message, FIELD_SERVICE, spec->handler->service);
        if (buf_error(&message))
                return kl_error(err, buf_error(&message), NULL, "the service's name is too long");
        call.message = buf_str(&message);
        call.len = message.len;
        KL_TRY(http_client_new(base->prober->loop, &client, &a->client, err));
        return grpc_call_new(a->client, &call, &a->call, err);
}

static void grpc_stop(Attempt *base)
{
        GrpcAttempt *a = (GrpcAttempt *)base;

        a->call = grpc_call_free(a->call);
        a->client = http_client_free(a->client);
}

const AttemptOps attempt_grpc = {
        .size = sizeof(GrpcAttempt),
        .start = grpc_start,
        .stop = grpc_stop,
        .timed_out = grpc_timed_out,
};
