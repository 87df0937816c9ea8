/* SPDX-License-Identifier: Apache-2.0 */

/*
 * gRPC over HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md): a request is one message behind a prefix of a flag
 * and a length; the answer likewise, and a status in the trailers, or in the headers where there is
 * nothing else ("Trailers-Only").
 */

#include "net/grpc.h"

#include "base/str.h"

#include <arpa/inet.h>

#define PREFIX_SIZE 5
#define TIMEOUT_DIGITS_MAX 99999999ULL /* 8 digits, by the protocol */

struct GrpcCall {
        HttpRequest *request;
        Buf reply; /* with its prefix */
        size_t reply_max;
        int http_status, status; /* -1: none seen */
        char *text;
        void (*done)(GrpcCall *call, const GrpcReply *reply, void *data);
        void *data;
};

const char *grpc_status_name(int status)
{
        static const char *const names[] = {
                "OK",
                "Canceled",
                "Unknown",
                "InvalidArgument",
                "DeadlineExceeded",
                "NotFound",
                "AlreadyExists",
                "PermissionDenied",
                "ResourceExhausted",
                "FailedPrecondition",
                "Aborted",
                "OutOfRange",
                "Unimplemented",
                "Internal",
                "Unavailable",
                "DataLoss",
                "Unauthenticated",
        };

        return status >= 0 && (size_t)status < ELEMENTS(names) ? names[status] : "Unknown";
}

/* --- the answer --- */

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* grpc-message is percent-encoded; what is no escape stands for itself. */
static char *decode_text(const char *text)
{
        KL_AUTOBUF out = BUF_INIT_LIMIT(GRPC_STATUS_TEXT_MAX);

        for (; *text && out.len < GRPC_STATUS_TEXT_MAX; text++) {
                int high = *text == '%' ? hex_digit(text[1]) : -1;
                int low = high >= 0 ? hex_digit(text[2]) : -1;

                if (low < 0 || (high == 0 && low == 0)) {
                        buf_add_char(&out, *text);
                        continue;
                }
                buf_add_char(&out, (char)(high << 4 | low));
                text += 2;
        }
        return out.len ? buf_steal(&out) : strdup("");
}

static void take_status(GrpcCall *call, const HttpHeader *headers, size_t n)
{
        const char *status = http_header_get(headers, n, "grpc-status");
        const char *text = http_header_get(headers, n, "grpc-message");
        uint64_t number;

        if (!status)
                return;
        call->status = str_to_u64(status, INT32_MAX, &number) == 0 ? (int)number : GRPC_UNKNOWN;
        free(call->text);
        call->text = decode_text(text ? text : "");
}

static void on_head(HttpRequest *request, int status, const HttpHeader *headers, size_t n,
                    void *data)
{
        GrpcCall *call = data;

        call->http_status = status;
        take_status(call, headers, n);
}

static void on_trailers(HttpRequest *request, const HttpHeader *headers, size_t n, void *data)
{
        take_status(data, headers, n);
}

static void tell(GrpcCall *call, const GrpcReply *reply)
{
        call->done(call, reply, call->data);
}

static void tell_failure(GrpcCall *call, int status, const char *text)
{
        GrpcReply reply = { .status = status, .text = text, .answered = true };

        tell(call, &reply);
}

static void on_body(HttpRequest *request, const char *bytes, size_t len, void *data)
{
        GrpcCall *call = data;

        if (len > PREFIX_SIZE + call->reply_max - call->reply.len) {
                call->request = http_request_free(call->request);
                tell_failure(call, GRPC_RESOURCE_EXHAUSTED, "the answer is larger than allowed");
                return;
        }
        buf_add(&call->reply, bytes, len);
}

/* As upstream's client translates the status of an answer that is none of gRPC. */
static int status_of_http(int status)
{
        switch (status) {
        case 400:
                return GRPC_INTERNAL;
        case 401:
                return GRPC_UNAUTHENTICATED;
        case 403:
                return GRPC_PERMISSION_DENIED;
        case 404:
                return GRPC_UNIMPLEMENTED;
        case 429:
        case 502:
        case 503:
        case 504:
                return GRPC_UNAVAILABLE;
        default:
                return GRPC_UNKNOWN;
        }
}

static void tell_answer(GrpcCall *call)
{
        GrpcReply reply = { .text = "", .answered = true };
        uint32_t len;

        if (call->reply.len < PREFIX_SIZE) {
                tell_failure(call, GRPC_INTERNAL, "the server sent no message");
                return;
        }
        memcpy(&len, call->reply.data + 1, sizeof(len));
        if (call->reply.data[0] != 0) {
                tell_failure(call, GRPC_INTERNAL, "the answer is compressed");
                return;
        }
        if (ntohl(len) != call->reply.len - PREFIX_SIZE) {
                tell_failure(call, GRPC_INTERNAL, "the answer is no single message");
                return;
        }
        reply.data = call->reply.data + PREFIX_SIZE;
        reply.len = ntohl(len);
        tell(call, &reply);
}

static void on_done(HttpRequest *request, const KlError *err, void *data)
{
        GrpcCall *call = data;

        call->request = http_request_free(call->request);
        if (err) {
                GrpcReply reply = {
                        .status =
                                err->code == -ETIMEDOUT ? GRPC_DEADLINE_EXCEEDED : GRPC_UNAVAILABLE,
                        .text = kl_error_msg(err),
                        .error = err->code,
                };

                tell(call, &reply);
        } else if (call->status > 0) {
                tell_failure(call, call->status, call->text ? call->text : "");
        } else if (call->status < 0) {
                char text[64];

                snprintf(text, sizeof(text), "unexpected HTTP status code %d", call->http_status);
                tell_failure(call, status_of_http(call->http_status), text);
        } else {
                tell_answer(call);
        }
}

/* --- the call --- */

static int frame(const GrpcCallSpec *spec, Buf *to)
{
        uint32_t len = htonl((uint32_t)spec->len);

        buf_add_char(to, 0);
        buf_add(to, &len, sizeof(len));
        buf_add(to, spec->message, spec->len);
        return buf_error(to);
}

int grpc_call_new(HttpClient *client, const GrpcCallSpec *spec, GrpcCall **ret, KlError **err)
{
        static const HttpFuncs funcs = {
                .head = on_head,
                .body = on_body,
                .trailers = on_trailers,
                .done = on_done,
        };
        KL_AUTO(grpc_call_free) GrpcCall *call = calloc(1, sizeof(*call));
        KL_AUTOBUF body = BUF_INIT;
        char timeout[24];
        HttpHeader headers[] = {
                { "te", "trailers" },
                { "content-type", "application/grpc" },
                { "user-agent", spec->user_agent ? spec->user_agent : "kubelite" },
                { "grpc-timeout", timeout },
        };
        HttpCall http = {
                .class = HTTP_NORMAL,
                .method = "POST",
                .path = spec->method,
                .headers = headers,
                .n_headers = spec->timeout_ms ? ELEMENTS(headers) : ELEMENTS(headers) - 1,
                .timeout_ms = spec->timeout_ms,
                .funcs = &funcs,
                .data = call,
        };

        if (!call || spec->len > UINT32_MAX || frame(spec, &body) < 0)
                return kl_error_oom(err);
        snprintf(timeout, sizeof(timeout), "%llum",
                 spec->timeout_ms < TIMEOUT_DIGITS_MAX ? (unsigned long long)spec->timeout_ms
                                                       : TIMEOUT_DIGITS_MAX);
        http.body = body.data;
        http.body_len = body.len;
        call->status = -1;
        call->reply_max = spec->reply_max ? spec->reply_max : GRPC_MESSAGE_MAX;
        call->done = spec->done;
        call->data = spec->data;
        KL_TRY(http_request_new(client, &http, &call->request, err));
        *ret = KL_STEAL(call);
        return 0;
}

GrpcCall *grpc_call_free(GrpcCall *call)
{
        if (!call)
                return NULL;
        http_request_free(call->request);
        buf_deinit(&call->reply);
        free(call->text);
        free(call);
        return NULL;
}
