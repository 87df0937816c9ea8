/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_WEBSOCKET_H
#define KUBELITE_CODEC_WEBSOCKET_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * WebSocket framing, RFC 6455, without extensions: bytes in, parts out, and back. No I/O. Payloads
 * pass through in pieces, so that a message of any length takes no memory; what is counted against
 * message_max is its length alone.
 */
#define WS_MESSAGE_MAX (1U << 20)
#define WS_CONTROL_MAX 125
#define WS_HEAD_MAX 14
#define WS_ACCEPT_SIZE 29 /* 28 characters and a NUL */

enum {
        WS_CLOSE_NORMAL = 1000,
        WS_CLOSE_GOING_AWAY = 1001,
        WS_CLOSE_PROTOCOL = 1002,
        WS_CLOSE_UNSUPPORTED = 1003,
        WS_CLOSE_NONE = 1005, /* never sent: the peer gave no code */
        WS_CLOSE_INVALID = 1007,
        WS_CLOSE_TOO_BIG = 1009,
        WS_CLOSE_INTERNAL = 1011,
};

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key; -EINVAL unless that is 16 bytes in base64. */
int ws_accept_key(const char *key, char ret[static WS_ACCEPT_SIZE]);

/* Which end we are: a server's input must be masked, a client's must not be. */
typedef enum WsRole {
        WS_SERVER,
        WS_CLIENT,
} WsRole;

typedef enum WsOpcode {
        WS_CONTINUATION = 0,
        WS_TEXT = 1,
        WS_BINARY = 2,
        WS_CLOSE = 8,
        WS_PING = 9,
        WS_PONG = 10,
} WsOpcode;

typedef enum WsPartType {
        WS_PART_MORE,  /* all input used; more is needed */
        WS_PART_DATA,  /* some bytes of a message, within the input; text, end */
        WS_PART_PING,  /* whole; to be answered with a pong of the same bytes */
        WS_PART_PONG,  /* whole */
        WS_PART_CLOSE, /* code; data is the reason. Everything after it is dropped. */
} WsPartType;

typedef struct WsPart {
        WsPartType type;
        char *data;
        size_t len;
        bool text, end;
        uint16_t code;
} WsPart;

typedef struct WsParser {
        WsRole role;
        size_t message_max;
        bool check_utf8; /* of text messages */

        unsigned char head[WS_HEAD_MAX];
        size_t head_len;
        unsigned char mask[4];
        uint64_t left, done;  /* of the frame's payload */
        uint64_t message_len; /* payloads of the message so far */
        unsigned int state, opcode;
        bool fin, in_message, text;
        unsigned int utf8_left;
        unsigned char utf8_min, utf8_max;
        char control[WS_CONTROL_MAX];
} WsParser;

void ws_parser_init(WsParser *p, WsRole role, size_t message_max);

/*
 * One part from data, whose payload bytes are unmasked in place: bytes that were used must not be
 * given again. To be called with what is left until it says WS_PART_MORE. -EPROTO, -EMSGSIZE or
 * -EILSEQ: the stream cannot be read any further; ws_close_code() tells what to say.
 */
int ws_parse(WsParser *p, char *data, size_t len, size_t *ret_used, WsPart *ret, KlError **err);
uint16_t ws_close_code(int error);

/* The head of an unmasked (server's) frame with len bytes to follow; returns its length. */
size_t ws_write_head(char ret[static WS_HEAD_MAX], WsOpcode opcode, bool fin, uint64_t len);
/* A whole frame; a client's is masked. */
void ws_write_frame(Buf *to, WsRole role, WsOpcode opcode, bool fin, const void *data, size_t len);
/* reason is cut at what fits. */
void ws_write_close(Buf *to, WsRole role, uint16_t code, const char *reason);

#endif
