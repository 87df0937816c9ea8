/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_SPDY_INTERNAL_H
#define KUBELITE_CODEC_SPDY_INTERNAL_H

#include "base/buf.h"
#include "codec/spdy.h"

/* --- header blocks (spdy-headers.c) --- */

typedef struct SpdyInflate SpdyInflate;
typedef struct SpdyDeflate SpdyDeflate;

typedef struct SpdyHeaders {
        HttpHeader list[SPDY_HEADERS_MAX];
        size_t n;
        Buf text; /* what list points into */
} SpdyHeaders;

SpdyInflate *spdy_inflate_new(void);
SpdyInflate *spdy_inflate_free(SpdyInflate *inflate);
SpdyDeflate *spdy_deflate_new(void);
SpdyDeflate *spdy_deflate_free(SpdyDeflate *deflate);

enum { SPDY_HEADERS_INVALID = 1 };

/*
 * SPDY_HEADERS_INVALID: the block was read, but is none that a stream may begin with; the session
 * can go on. A negative result is the session's end. ret->text is to be freed in any case.
 */
int spdy_headers_read(SpdyInflate *inflate, const char *block, size_t len, SpdyHeaders *ret,
                      KlError **err);
/* Appends the compressed block; 0 or -ENOMEM. Each call must reach the peer, in their order. */
int spdy_headers_write(SpdyDeflate *deflate, const HttpHeader *headers, size_t n, Buf *to);

/* --- frames (spdy-frame.c) --- */

typedef enum SpdyType {
        SPDY_SYN_STREAM = 1,
        SPDY_SYN_REPLY = 2,
        SPDY_RST_STREAM = 3,
        SPDY_SETTINGS = 4,
        SPDY_PING = 6,
        SPDY_GOAWAY = 7,
        SPDY_HEADERS = 8,
        SPDY_WINDOW_UPDATE = 9,
} SpdyType;

#define SPDY_HEAD_SIZE 8
#define SPDY_VERSION 3
#define SPDY_FLAG_FIN 1
#define SPDY_FLAG_UNIDIRECTIONAL 2
#define SPDY_SETTINGS_INITIAL_WINDOW_SIZE 7
#define SPDY_ID_MAX 0x7fffffffU

typedef enum SpdyPartType {
        SPDY_PART_MORE,    /* all input used */
        SPDY_PART_DATA,    /* bytes of stream; fin with the last ones */
        SPDY_PART_CONTROL, /* a whole control frame; data is its body */
} SpdyPartType;

typedef struct SpdyPart {
        SpdyPartType type;
        uint32_t stream; /* of data */
        bool fin;
        SpdyType control;
        uint8_t flags;
        const char *data; /* within the input or the parser */
        size_t len;
} SpdyPart;

typedef struct SpdyParser {
        unsigned char head[SPDY_HEAD_SIZE];
        size_t head_len;
        SpdyPart part;
        size_t left; /* of the frame's body */
        bool skip;   /* a control frame that is none of ours */
        Buf body;
} SpdyParser;

void spdy_parser_init(SpdyParser *p);
void spdy_parser_deinit(SpdyParser *p);
int spdy_parse(SpdyParser *p, const char *data, size_t len, size_t *ret_used, SpdyPart *ret,
               KlError **err);

uint32_t spdy_u32(const char *p);
void spdy_put_u32(unsigned char *p, uint32_t value);
void spdy_write_control(Buf *to, SpdyType type, uint8_t flags, const void *body, size_t len);
void spdy_data_head(unsigned char ret[static SPDY_HEAD_SIZE], uint32_t stream, uint8_t flags,
                    size_t len);

#endif
