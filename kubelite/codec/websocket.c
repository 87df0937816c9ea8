/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The frame parser is a little machine of three states: head, payload of a message, payload of a
 * control frame (collected, it is short). Control frames may stand between the frames of a message;
 * what belongs to the message (text, in_message, message_len, utf8_*) is therefore kept apart from
 * what belongs to the frame.
 */

#include "codec/websocket.h"

#include "base/str.h"
#include "codec/base64.h"

enum { STATE_HEAD, STATE_DATA, STATE_CONTROL, STATE_CLOSED };

#define HEAD_FIN 0x80
#define HEAD_RSV 0x70
#define HEAD_MASKED 0x80
#define LENGTH_16 126
#define LENGTH_64 127

void ws_parser_init(WsParser *p, WsRole role, size_t message_max)
{
        *p = (WsParser){ .role = role, .message_max = message_max, .state = STATE_HEAD };
}

uint16_t ws_close_code(int error)
{
        switch (error) {
        case -EPROTO:
                return WS_CLOSE_PROTOCOL;
        case -EMSGSIZE:
                return WS_CLOSE_TOO_BIG;
        case -EILSEQ:
                return WS_CLOSE_INVALID;
        default:
                return WS_CLOSE_INTERNAL;
        }
}

/* --- UTF-8, in pieces --- */

/* The lead byte of a sequence: how many follow, and within which bounds the next one. */
static bool utf8_lead(WsParser *p, unsigned char c)
{
        p->utf8_min = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
        p->utf8_max = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        if (c < 0x80)
                return true;
        if (c >= 0xc2 && c <= 0xdf)
                p->utf8_left = 1;
        else if (c >= 0xe0 && c <= 0xef)
                p->utf8_left = 2;
        else if (c >= 0xf0 && c <= 0xf4)
                p->utf8_left = 3;
        else
                return false;
        return true;
}

static bool utf8_feed(WsParser *p, const char *data, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)data[i];

                if (p->utf8_left == 0) {
                        if (!utf8_lead(p, c))
                                return false;
                        continue;
                }
                if (c < p->utf8_min || c > p->utf8_max)
                        return false;
                p->utf8_min = 0x80;
                p->utf8_max = 0xbf;
                p->utf8_left--;
        }
        return true;
}

/* --- the head --- */

static size_t head_need(const WsParser *p)
{
        size_t n = 2;
        unsigned int length;

        if (p->head_len < 2)
                return n;
        length = p->head[1] & 0x7f;
        n += length == LENGTH_64 ? 8 : length == LENGTH_16 ? 2 : 0;
        return n + (p->head[1] & HEAD_MASKED ? 4 : 0);
}

static int head_length(const WsParser *p, uint64_t *ret, KlError **err)
{
        unsigned int length = p->head[1] & 0x7f;
        size_t n = length == LENGTH_64 ? 8 : length == LENGTH_16 ? 2 : 0;
        uint64_t value = n ? 0 : length;

        for (size_t i = 0; i < n; i++)
                value = value << 8 | p->head[2 + i];
        if (value >> 63 || (n == 2 && value < LENGTH_16) || (n == 8 && value <= UINT16_MAX))
                return kl_error(err, -EPROTO, NULL, "malformed WebSocket frame length");
        *ret = value;
        return 0;
}

static int begin_control(WsParser *p, KlError **err)
{
        if (!p->fin || p->left > WS_CONTROL_MAX)
                return kl_error(err, -EPROTO, NULL, "malformed WebSocket control frame");
        p->state = STATE_CONTROL;
        return 0;
}

static int begin_data(WsParser *p, KlError **err)
{
        if ((p->opcode == WS_CONTINUATION) != p->in_message)
                return kl_error(err, -EPROTO, NULL, "WebSocket fragments out of order");
        if (!p->in_message) {
                p->in_message = true;
                p->text = p->opcode == WS_TEXT;
                p->message_len = 0;
                p->utf8_left = 0;
        }
        if (p->left > p->message_max || p->message_len > p->message_max - p->left)
                return kl_error(err, -EMSGSIZE, NULL, "WebSocket message over %zu bytes",
                                p->message_max);
        p->message_len += p->left;
        p->state = STATE_DATA;
        return 0;
}

static int begin_frame(WsParser *p, KlError **err)
{
        bool masked = p->head[1] & HEAD_MASKED;

        if (p->head[0] & HEAD_RSV)
                return kl_error(err, -EPROTO, NULL, "WebSocket extension bits are set");
        if (masked != (p->role == WS_SERVER))
                return kl_error(err, -EPROTO, NULL, "WebSocket frame is %smasked",
                                masked ? "" : "not ");
        KL_TRY(head_length(p, &p->left, err));
        memset(p->mask, 0, sizeof(p->mask));
        if (masked)
                memcpy(p->mask, p->head + p->head_len - 4, 4);
        p->fin = p->head[0] & HEAD_FIN;
        p->opcode = p->head[0] & 0x0f;
        p->done = 0;
        p->head_len = 0;
        switch (p->opcode) {
        case WS_CONTINUATION:
        case WS_TEXT:
        case WS_BINARY:
                return begin_data(p, err);
        case WS_CLOSE:
        case WS_PING:
        case WS_PONG:
                return begin_control(p, err);
        default:
                return kl_error(err, -EPROTO, NULL, "unknown WebSocket opcode %u", p->opcode);
        }
}

/* --- payloads --- */

/* Eight bytes at a time where they are many. */
static void unmask(WsParser *p, char *data, size_t len)
{
        unsigned char key[8];
        uint64_t wide, word;
        size_t i = 0;

        for (size_t k = 0; k < sizeof(key); k++)
                key[k] = p->mask[(p->done + k) & 3];
        memcpy(&wide, key, sizeof(wide));
        for (; wide && i + sizeof(word) <= len; i += sizeof(word)) {
                memcpy(&word, data + i, sizeof(word));
                word ^= wide;
                memcpy(data + i, &word, sizeof(word));
        }
        for (; wide && i < len; i++)
                data[i] = (char)(data[i] ^ key[i & 7]);
        p->done += len;
        p->left -= len;
}

static int data_part(WsParser *p, char *data, size_t len, WsPart *ret, KlError **err)
{
        unmask(p, data, len);
        *ret = (WsPart){ WS_PART_DATA, data, len, .text = p->text };
        if (p->left == 0) {
                p->state = STATE_HEAD;
                ret->end = p->fin;
                p->in_message = !p->fin;
        }
        if (p->check_utf8 && p->text &&
            (!utf8_feed(p, data, len) || (ret->end && p->utf8_left > 0)))
                return kl_error(err, -EILSEQ, NULL, "WebSocket text is not UTF-8");
        return 0;
}

static bool is_close_code(uint16_t code)
{
        return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
               (code >= 3000 && code <= 4999);
}

static int close_part(WsParser *p, WsPart *ret, KlError **err)
{
        WsParser reason = { 0 };

        ret->type = WS_PART_CLOSE;
        ret->code = WS_CLOSE_NONE;
        p->state = STATE_CLOSED;
        if (ret->len == 0)
                return 0;
        if (ret->len >= 2)
                ret->code =
                        (uint16_t)((unsigned char)ret->data[0] << 8 | (unsigned char)ret->data[1]);
        if (ret->len < 2 || !is_close_code(ret->code))
                return kl_error(err, -EPROTO, NULL, "malformed WebSocket close frame");
        ret->data += 2;
        ret->len -= 2;
        if (!utf8_feed(&reason, ret->data, ret->len) || reason.utf8_left > 0)
                return kl_error(err, -EILSEQ, NULL, "WebSocket close reason is not UTF-8");
        return 0;
}

static int control_part(WsParser *p, WsPart *ret, KlError **err)
{
        *ret = (WsPart){ WS_PART_PING, p->control, (size_t)p->done };
        p->state = STATE_HEAD;
        if (p->opcode == WS_CLOSE)
                return close_part(p, ret, err);
        if (p->opcode == WS_PONG)
                ret->type = WS_PART_PONG;
        return 0;
}

int ws_parse(WsParser *p, char *data, size_t len, size_t *ret_used, WsPart *ret, KlError **err)
{
        size_t at = 0;

        *ret = (WsPart){ WS_PART_MORE };
        while (p->state == STATE_HEAD) {
                if (p->head_len == head_need(p)) {
                        KL_TRY(begin_frame(p, err));
                        /* Empty fragments are no news. */
                        if (p->state == STATE_DATA && p->left == 0 && !p->fin)
                                p->state = STATE_HEAD;
                        continue;
                }
                if (at == len) {
                        *ret_used = at;
                        return 0;
                }
                p->head[p->head_len++] = (unsigned char)data[at++];
        }
        if (p->state == STATE_CLOSED) {
                *ret_used = len;
                return 0;
        }
        if (p->left < len - at)
                len = at + (size_t)p->left;
        *ret_used = len;
        if (p->state == STATE_CONTROL) {
                size_t done = (size_t)p->done;

                if (len > at)
                        memcpy(p->control + done, data + at, len - at);
                unmask(p, p->control + done, len - at);
                return p->left > 0 ? 0 : control_part(p, ret, err);
        }
        if (p->left > 0 && len == at)
                return 0;
        return data_part(p, data + at, len - at, ret, err);
}

/* --- writing --- */

size_t ws_write_head(char ret[static WS_HEAD_MAX], WsOpcode opcode, bool fin, uint64_t len)
{
        size_t n = len > UINT16_MAX ? 8 : len >= LENGTH_16 ? 2 : 0;

        ret[0] = (char)((fin ? HEAD_FIN : 0) | (unsigned int)opcode);
        ret[1] = (char)(n == 8 ? LENGTH_64 : n == 2 ? LENGTH_16 : len);
        for (size_t i = 0; i < n; i++)
                ret[2 + i] = (char)(len >> (8 * (n - 1 - i)));
        return 2 + n;
}

void ws_write_frame(Buf *to, WsRole role, WsOpcode opcode, bool fin, const void *data, size_t len)
{
        char head[WS_HEAD_MAX];
        size_t n = ws_write_head(head, opcode, fin, len);
        uint32_t mask = (uint32_t)random_u64();
        char *payload;

        if (role == WS_CLIENT) {
                head[1] = (char)(head[1] | HEAD_MASKED);
                memcpy(head + n, &mask, sizeof(mask));
                n += sizeof(mask);
        }
        buf_add(to, head, n);
        payload = buf_reserve(to, len);
        if (!payload)
                return;
        if (len)
                memcpy(payload, data, len);
        for (size_t i = 0; role == WS_CLIENT && i < len; i++)
                payload[i] = (char)(payload[i] ^ head[n - 4 + (i & 3)]);
        buf_commit(to, len);
}

void ws_write_close(Buf *to, WsRole role, uint16_t code, const char *reason)
{
        char payload[WS_CONTROL_MAX];
        size_t len = strnlen(reason, sizeof(payload) - 2);

        /* Never within a character. */
        while (reason[len] && len > 0 && ((unsigned char)reason[len] & 0xc0) == 0x80)
                len--;
        payload[0] = (char)(code >> 8);
        payload[1] = (char)code;
        memcpy(payload + 2, reason, len);
        ws_write_frame(to, role, WS_CLOSE, true, payload, len + 2);
}
