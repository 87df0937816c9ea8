/* SPDX-License-Identifier: Apache-2.0 */

#include "codec/gzip.h"

#include <assert.h>
#include <stdint.h>
#include <zlib.h>

#define GZIP_HEADER 16 /* added to the window's bits: zlib writes and wants gzip's header */

struct Gzip {
        z_stream z;
};

struct Gunzip {
        z_stream z;
        bool ended;
};

Gzip *gzip_new(void)
{
        Gzip *g = calloc(1, sizeof(*g));

        if (g && deflateInit2(&g->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, MAX_WBITS + GZIP_HEADER, 8,
                              Z_DEFAULT_STRATEGY) != Z_OK) {
                free(g);
                return NULL;
        }
        return g;
}

Gzip *gzip_free(Gzip *g)
{
        if (g) {
                deflateEnd(&g->z);
                free(g);
        }
        return NULL;
}

int gzip_add(Gzip *g, const void *data, size_t len, bool last, Buf *to)
{
        unsigned char out[16384];
        int r;

        g->z.next_in = (unsigned char *)(uintptr_t)data;
        g->z.avail_in = (unsigned int)len;
        do {
                g->z.next_out = out;
                g->z.avail_out = sizeof(out);
                r = deflate(&g->z, last ? Z_FINISH : Z_NO_FLUSH);
                assert(r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR);
                buf_add(to, out, sizeof(out) - g->z.avail_out);
        } while (g->z.avail_out == 0 || (last && r != Z_STREAM_END));
        return buf_error(to) ? -ENOMEM : 0;
}

Gunzip *gunzip_new(void)
{
        Gunzip *g = calloc(1, sizeof(*g));

        if (g && inflateInit2(&g->z, MAX_WBITS + GZIP_HEADER) != Z_OK) {
                free(g);
                return NULL;
        }
        return g;
}

Gunzip *gunzip_free(Gunzip *g)
{
        if (g) {
                inflateEnd(&g->z);
                free(g);
        }
        return NULL;
}

ssize_t gunzip_add(Gunzip *g, const void *data, size_t len, size_t *used, void *out, size_t size)
{
        int r;

        *used = len;
        if (g->ended)
                return 0;
        g->z.next_in = (unsigned char *)(uintptr_t)data;
        g->z.avail_in = (unsigned int)len;
        g->z.next_out = out;
        g->z.avail_out = (unsigned int)size;
        r = inflate(&g->z, Z_NO_FLUSH);
        *used = len - g->z.avail_in;
        g->ended = r == Z_STREAM_END;
        if (r == Z_MEM_ERROR)
                return -ENOMEM;
        if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
                return -EBADMSG;
        return (ssize_t)(size - g->z.avail_out);
}
