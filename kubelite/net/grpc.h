/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NET_GRPC_H
#define KUBELITE_NET_GRPC_H

#include "net/http.h"

/*
 * Unary gRPC calls over an HttpClient that speaks HTTP/2 (h2_prior_knowledge, on TCP or a Unix
 * socket). No compression is offered. Messages are bytes here: codec/protobuf.h makes them.
 */
#define GRPC_MESSAGE_MAX (16U << 20) /* of an answer; a call may set less */
#define GRPC_STATUS_TEXT_MAX 4096

/* google.rpc.Code as far as we name them; servers may send any. */
enum {
        GRPC_OK = 0,
        GRPC_CANCELLED = 1,
        GRPC_UNKNOWN = 2,
        GRPC_INVALID_ARGUMENT = 3,
        GRPC_DEADLINE_EXCEEDED = 4,
        GRPC_NOT_FOUND = 5,
        GRPC_ALREADY_EXISTS = 6,
        GRPC_PERMISSION_DENIED = 7,
        GRPC_RESOURCE_EXHAUSTED = 8,
        GRPC_FAILED_PRECONDITION = 9,
        GRPC_ABORTED = 10,
        GRPC_OUT_OF_RANGE = 11,
        GRPC_UNIMPLEMENTED = 12,
        GRPC_INTERNAL = 13,
        GRPC_UNAVAILABLE = 14,
        GRPC_DATA_LOSS = 15,
        GRPC_UNAUTHENTICATED = 16,
};

/* "Unavailable"; "Code(99)" is what upstream prints for others, here "Unknown". */
const char *grpc_status_name(int status);

typedef struct GrpcCall GrpcCall;

typedef struct GrpcReply {
        int status;
        const char *text; /* grpc-message, or what went wrong on the way; "" with GRPC_OK */
        const void *data; /* the answer, with GRPC_OK */
        size_t len;
        bool answered; /* the server said so; else the status is ours, for a broken connection */
        int error;     /* why it was not answered: a negative errno */
} GrpcReply;

typedef struct GrpcCallSpec {
        const char *method; /* "/grpc.health.v1.Health/Check" */
        const char *user_agent;
        const void *message;
        size_t len;
        size_t reply_max;    /* 0: GRPC_MESSAGE_MAX */
        uint64_t timeout_ms; /* told to the server too; 0: none */
        /* Once, never within grpc_call_new(); the reply is valid during the call, which may free
         * it. */
        void (*done)(GrpcCall *call, const GrpcReply *reply, void *data);
        void *data;
} GrpcCallSpec;

int grpc_call_new(HttpClient *client, const GrpcCallSpec *spec, GrpcCall **ret, KlError **err);
/* Cancels, if it is not done. */
GrpcCall *grpc_call_free(GrpcCall *call);
KL_DEFINE_CLEANUP(GrpcCall *, grpc_call_free);

#endif
