/* SPDX-License-Identifier: Apache-2.0 */

/* WebSocket frames: in one piece and in pieces the same comes out, and no message is over the
 * limit. */

#include "codec/websocket.h"

#include <assert.h>

#define MESSAGE_MAX 1000

typedef struct Outcome {
        size_t n_bytes, n_messages, n_controls;
        uint32_t sum;
        int result;
} Outcome;

static void take(const WsPart *part, Outcome *o)
{
        if (part->type == WS_PART_MORE)
                return;
        if (part->type != WS_PART_DATA)
                assert(part->len <= WS_CONTROL_MAX);
        o->n_controls += part->type != WS_PART_DATA;
        o->n_messages += part->end;
        o->n_bytes += part->len;
        for (size_t i = 0; i < part->len; i++)
                o->sum = o->sum * 31 + (unsigned char)part->data[i];
}

static Outcome run(WsRole role, const char *data, size_t size, size_t step)
{
        Outcome o = { 0 };
        WsParser p;

        ws_parser_init(&p, role, MESSAGE_MAX);
        for (size_t at = 0; at < size && o.result == 0; at += step) {
                size_t left = size - at < step ? size - at : step, used;
                KL_AUTOFREE char *piece = malloc(left);
                char *bytes = piece;
                WsPart part = { WS_PART_PING };

                memcpy(piece, data + at, left);
                while (o.result == 0 && (left > 0 || part.type != WS_PART_MORE)) {
                        o.result = ws_parse(&p, bytes, left, &used, &part, NULL);
                        if (o.result < 0)
                                break;
                        assert(used <= left && p.message_len <= MESSAGE_MAX);
                        bytes += used;
                        left -= used;
                        take(&part, &o);
                }
        }
        return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        Outcome whole, pieces;
        WsRole role;

        if (size < 3)
                return 0;
        role = data[0] & 1 ? WS_CLIENT : WS_SERVER;
        whole = run(role, (const char *)data + 2, size - 2, size);
        pieces = run(role, (const char *)data + 2, size - 2, (size_t)data[1] + 1);
        assert(whole.result == pieces.result && whole.n_messages == pieces.n_messages &&
               whole.n_controls == pieces.n_controls && whole.n_bytes == pieces.n_bytes &&
               whole.sum == pieces.sum);
        return 0;
}
