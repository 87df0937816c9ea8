/* SPDX-License-Identifier: Apache-2.0 */

/*
 * gzip through ISA-L (two to three times zlib's speed), zstd through its own library.
 *
 * gzip files may be several members in a row (pigz, eStargz); zeros after the last one are padding.
 */

#include "image/worker/inflate-internal.h"

#include "base/str.h"

#include <isa-l/igzip_lib.h>
#include <limits.h>
#include <zstd.h>

struct Inflate {
        InflateKind kind;
        bool at_end;  /* between members or frames */
        bool padding; /* zeros after the last gzip member */
        struct inflate_state *gzip;
        ZSTD_DCtx *zstd;
};

static bool is_zstd(const uint8_t *d)
{
        return d[0] == 0x28 && d[1] == 0xb5 && d[2] == 0x2f && d[3] == 0xfd;
}

/* A skippable frame, with which zstd:chunked files may begin. */
static bool is_zstd_skippable(const uint8_t *d)
{
        return (d[0] & 0xf0) == 0x50 && d[1] == 0x2a && d[2] == 0x4d && d[3] == 0x18;
}

InflateKind inflate_recognise(const uint8_t *data, size_t len)
{
        if (len >= 2 && data[0] == 0x1f && data[1] == 0x8b)
                return INFLATE_GZIP;
        if (len >= 4 && (is_zstd(data) || is_zstd_skippable(data)))
                return INFLATE_ZSTD;
        return INFLATE_PLAIN;
}

static void start_member(Inflate *inflate)
{
        isal_inflate_reset(inflate->gzip);
        inflate->gzip->crc_flag = ISAL_GZIP;
        inflate->at_end = false;
}

Inflate *inflate_new(InflateKind kind)
{
        KL_AUTO(inflate_free) Inflate *inflate = calloc(1, sizeof(*inflate));

        if (!inflate)
                return NULL;
        inflate->kind = kind;
        if (kind == INFLATE_GZIP) {
                inflate->gzip = calloc(1, sizeof(*inflate->gzip));
                if (!inflate->gzip)
                        return NULL;
                isal_inflate_init(inflate->gzip);
                start_member(inflate);
        } else {
                inflate->zstd = ZSTD_createDCtx();
                if (!inflate->zstd)
                        return NULL;
                ZSTD_DCtx_setParameter(inflate->zstd, ZSTD_d_windowLogMax, INFLATE_WINDOW_LOG_MAX);
        }
        return KL_STEAL(inflate);
}

Inflate *inflate_free(Inflate *inflate)
{
        if (!inflate)
                return NULL;
        free(inflate->gzip);
        ZSTD_freeDCtx(inflate->zstd);
        free(inflate);
        return NULL;
}

/* Between members: zeros are padding up to the end, anything else starts a member. */
static int next_member(Inflate *inflate, const uint8_t **in, size_t *in_len, KlError **err)
{
        while (*in_len > 0 && **in == 0) {
                inflate->padding = true;
                (*in)++;
                (*in_len)--;
        }
        if (*in_len == 0)
                return 0;
        if (inflate->padding || **in != 0x1f)
                return kl_error(err, -EINVAL, NULL, "the gzip data are followed by garbage");
        start_member(inflate);
        return 0;
}

static int run_gzip(Inflate *inflate, const uint8_t **in, size_t *in_len, uint8_t *out, size_t size,
                    size_t *ret_len, KlError **err)
{
        struct inflate_state *s = inflate->gzip;
        int r;

        *ret_len = 0;
        if (inflate->at_end) {
                r = next_member(inflate, in, in_len, err);
                if (r < 0 || *in_len == 0)
                        return r;
        }
        s->next_in = (uint8_t *)*in;
        s->avail_in = *in_len > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)*in_len;
        s->next_out = out;
        s->avail_out = size > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)size;
        r = isal_inflate(s);
        if (r < 0 || r == ISAL_NEED_DICT)
                return kl_error(err, -EINVAL, NULL, "the gzip data are damaged (%s)",
                                r == ISAL_INCORRECT_CHECKSUM ? "checksum"
                                : r == ISAL_INVALID_WRAPPER  ? "header"
                                                             : "stream");
        *in_len -= (size_t)(s->next_in - *in);
        *in = s->next_in;
        *ret_len = (size_t)(s->next_out - out);
        inflate->at_end = s->block_state == ISAL_BLOCK_FINISH;
        return 0;
}

static int run_zstd(Inflate *inflate, const uint8_t **in, size_t *in_len, uint8_t *out, size_t size,
                    size_t *ret_len, KlError **err)
{
        ZSTD_inBuffer input = { *in, *in_len, 0 };
        ZSTD_outBuffer output = { out, size, 0 };
        size_t r = ZSTD_decompressStream(inflate->zstd, &output, &input);

        if (ZSTD_isError(r))
                return kl_error(err, -EINVAL, NULL, "the zstd data are damaged (%s)",
                                ZSTD_getErrorName(r));
        *in += input.pos;
        *in_len -= input.pos;
        *ret_len = output.pos;
        if (input.pos > 0 || output.pos > 0)
                inflate->at_end = r == 0;
        return 0;
}

int inflate_run(Inflate *inflate, const uint8_t **in, size_t *in_len, uint8_t *out, size_t size,
                size_t *ret_len, KlError **err)
{
        size_t before = *in_len;
        int r;

        if (inflate->kind == INFLATE_GZIP)
                r = run_gzip(inflate, in, in_len, out, size, ret_len, err);
        else
                r = run_zstd(inflate, in, in_len, out, size, ret_len, err);
        if (r == 0 && before > 0 && *in_len == before && *ret_len == 0)
                return kl_error(err, -EINVAL, NULL,
                                "the compressed data are damaged (no progress)");
        return r;
}

int inflate_finish(const Inflate *inflate, KlError **err)
{
        if (inflate->at_end)
                return 0;
        return kl_error(err, -EINVAL, NULL, "the compressed data are cut off");
}
