/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte chooses between request and response, the second the size of the pieces. Whatever
 * the pieces are, the parser sees the same message: its body bytes are compared with those of a
 * parse in one piece.
 */

#include "codec/http1.h"

#include <assert.h>

typedef struct Outcome {
        uint64_t n_heads, n_ends, n_bytes;
        bool failed;
} Outcome;

static void feed(Http1Parser *p, const char *data, size_t len, Outcome *o)
{
        Http1Part part = { .type = HTTP1_BODY };
        size_t used;

        while (part.type != HTTP1_MORE && part.type != HTTP1_SWITCHED && !o->failed) {
                KL_AUTOERR err = NULL;

                if (http1_parse(p, data, len, &used, &part, &err) < 0) {
                        assert(err);
                        o->failed = true;
                        return;
                }
                assert(used <= len);
                data += used;
                len -= used;
                o->n_heads += part.type == HTTP1_HEAD;
                o->n_ends += part.type == HTTP1_END;
                o->n_bytes += part.type == HTTP1_BODY ? part.len : 0;
        }
}

static Outcome run(Http1Kind kind, const char *data, size_t len, size_t step)
{
        Http1Parser p;
        Outcome o = { 0 };

        http1_parser_init(&p, kind);
        for (size_t at = 0; at < len && !o.failed; at += step)
                feed(&p, data + at, len - at < step ? len - at : step, &o);
        http1_parse_eof(&p, NULL);
        http1_parser_deinit(&p);
        return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        Outcome whole, pieces;
        Http1Kind kind;

        if (size < 2)
                return 0;
        kind = data[0] & 1 ? HTTP1_REQUEST : HTTP1_RESPONSE;
        whole = run(kind, (const char *)data + 2, size - 2, size);
        pieces = run(kind, (const char *)data + 2, size - 2, (size_t)data[1] + 1);
        assert(whole.failed == pieces.failed && whole.n_heads == pieces.n_heads &&
               whole.n_ends == pieces.n_ends && whole.n_bytes == pieces.n_bytes);
        return 0;
}
