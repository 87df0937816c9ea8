/* SPDX-License-Identifier: Apache-2.0 */

/* Base64 there, and back from pieces: the decoder holds at most three digits. */

#include "codec/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(Buf *to, const void *data, size_t len)
{
        const unsigned char *in = data;
        char *out = buf_reserve(to, (len + 2) / 3 * 4);
        size_t n = 0;

        if (!out)
                return;
        for (; len >= 3; len -= 3, in += 3) {
                out[n++] = alphabet[in[0] >> 2];
                out[n++] = alphabet[(in[0] << 4 | in[1] >> 4) & 63];
                out[n++] = alphabet[(in[1] << 2 | in[2] >> 6) & 63];
                out[n++] = alphabet[in[2] & 63];
        }
        if (len > 0) {
                unsigned int second = len > 1 ? in[1] : 0;

                out[n++] = alphabet[in[0] >> 2];
                out[n++] = alphabet[(in[0] << 4 | second >> 4) & 63];
                out[n++] = len > 1 ? alphabet[(second << 2) & 63] : '=';
                out[n++] = '=';
        }
        buf_commit(to, n);
}

static int digit_of(char c)
{
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        if (c == '+')
                return 62;
        return c == '/' ? 63 : -1;
}

/* The bytes of a finished group of four. */
static size_t emit(Base64Decoder *d, char *out)
{
        size_t n = 3 - d->n_padding;

        for (size_t i = 0; i < n; i++)
                out[i] = (char)(d->bits >> (16 - 8 * i));
        d->bits = 0;
        d->n_digits = 0;
        return n;
}

ssize_t base64_decode(Base64Decoder *d, const char *in, size_t len, char *out)
{
        size_t n = 0;

        for (size_t i = 0; i < len; i++) {
                int digit = digit_of(in[i]);

                if (in[i] == '=' && d->n_digits >= 2) {
                        d->n_padding++;
                        digit = 0;
                } else if (digit < 0 || d->n_padding > 0) {
                        return -EINVAL;
                }
                d->bits = d->bits << 6 | (uint32_t)digit;
                if (++d->n_digits == 4)
                        n += emit(d, out + n);
        }
        return (ssize_t)n;
}

bool base64_decoder_done(const Base64Decoder *d)
{
        return d->n_digits == 0;
}
