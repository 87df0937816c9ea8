/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_HTTP1_H
#define KUBELITE_CODEC_HTTP1_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * HTTP/1.1 messages, RFC 9112: bytes in, parts out, and back. No I/O. Requests are parsed strictly
 * (CRLF, exactly one Host, no Content-Length beside Transfer-Encoding), responses may end their
 * lines in a bare LF. Folded headers, unknown transfer codings and differing lengths are errors in
 * both.
 */
#define HTTP1_HEAD_MAX (16U << 10) /* start line and headers; trailers likewise */
#define HTTP1_HEADERS_MAX 100
#define HTTP1_CHUNK_LINE_MAX 256

typedef struct HttpHeader {
        const char *name, *value;
} HttpHeader;

/* The first header of that name, whatever the case; NULL if there is none. */
const char *http_header_get(const HttpHeader *headers, size_t n, const char *name);
/* Whether a comma-separated list ("keep-alive, Upgrade") holds the token, whatever the case. */
bool http_list_has(const char *list, const char *token);

/* Whether a target and headers can be sent without breaking the framing. */
bool http_target_is_valid(const char *target);
bool http_headers_are_valid(const HttpHeader *headers, size_t n);

typedef enum Http1Kind {
        HTTP1_REQUEST,
        HTTP1_RESPONSE,
} Http1Kind;

/* Borrowed from the parser until the message's end was returned. */
typedef struct Http1Head {
        int minor;                   /* HTTP/1.<minor> */
        const char *method, *target; /* of a request */
        int status;                  /* of a response */
        const char *reason;
        HttpHeader *headers;
        size_t n_headers;
        int64_t content_length; /* -1: none given */
        bool chunked;
        bool keep_alive;     /* the connection can carry another message after this one */
        const char *upgrade; /* protocol asked for or switched to, or NULL */
} Http1Head;

typedef enum Http1PartType {
        HTTP1_MORE,     /* all input used; more is needed */
        HTTP1_HEAD,     /* parser.head is filled; for a 1xx response another head follows */
        HTTP1_BODY,     /* data, len: within the input */
        HTTP1_END,      /* the message is whole; what follows is the next one */
        HTTP1_SWITCHED, /* after a 101, or a 2xx to CONNECT: the rest of the input is no HTTP */
} Http1PartType;

typedef struct Http1Part {
        Http1PartType type;
        const char *data;
        size_t len;
} Http1Part;

typedef struct Http1Parser {
        Http1Kind kind;
        Http1Head head;
        Buf text; /* the head's bytes, cut into strings in place */
        int state;
        size_t line_len; /* of the unfinished line */
        size_t line_total;
        uint64_t left; /* of the body or chunk */
        bool no_body;  /* the next response answers HEAD */
        bool connect;  /* … or CONNECT */
} Http1Parser;

void http1_parser_init(Http1Parser *p, Http1Kind kind);
void http1_parser_deinit(Http1Parser *p);
/* What the next response answers: HEAD and CONNECT are framed differently. */
void http1_parser_expect(Http1Parser *p, const char *method);

/*
 * One part from data. To be called again with what is left until it says HTTP1_MORE (a part may
 * need no input at all). -EPROTO or -EMSGSIZE: the stream cannot be read any further.
 */
int http1_parse(Http1Parser *p, const char *data, size_t len, size_t *ret_used, Http1Part *ret,
                KlError **err);
/* The peer closed: 0 if that ends the message (or none was begun), -EPROTO if it cuts it off. */
int http1_parse_eof(Http1Parser *p, KlError **err);
/* Nothing of a message has been seen yet. */
bool http1_parser_idle(const Http1Parser *p);

/*
 * Writers. -EINVAL for a name, value or target that would break the framing; nothing is written
 * then. Framing headers (Content-Length, Transfer-Encoding) are the caller's.
 */
int http1_write_request(Buf *to, const char *method, const char *target, const HttpHeader *headers,
                        size_t n_headers);
int http1_write_response(Buf *to, int status, const char *reason, const HttpHeader *headers,
                         size_t n_headers);
void http1_write_chunk(Buf *to, const void *data, size_t len);
void http1_write_last_chunk(Buf *to);

#endif
