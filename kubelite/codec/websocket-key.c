/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The answer to a WebSocket key: SHA-1 over the key and a fixed text. It proves nothing but that
 * the server has read the standard, so that the hash's weakness is of no account, and a small one
 * of our own keeps this layer free of a crypto library.
 */

#include "codec/base64.h"
#include "codec/websocket.h"

#define KEY_LEN 24
#define SHA1_SIZE 20
#define BLOCK_SIZE 64

static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

static uint32_t rotate(uint32_t x, unsigned int n)
{
        return x << n | x >> (32 - n);
}

static void sha1_block(uint32_t h[static 5], const unsigned char *block)
{
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];

        for (size_t i = 0; i < 16; i++)
                w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                       (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
        for (size_t i = 16; i < 80; i++)
                w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (size_t i = 0; i < 80; i++) {
                uint32_t f = i < 20   ? (b & c) | (~b & d)
                             : i < 40 ? b ^ c ^ d
                             : i < 60 ? (b & c) | (b & d) | (c & d)
                                      : b ^ c ^ d;
                uint32_t k = i < 20   ? 0x5a827999
                             : i < 40 ? 0x6ed9eba1
                             : i < 60 ? 0x8f1bbcdc
                                      : 0xca62c1d6;
                uint32_t t = rotate(a, 5) + f + e + k + w[i];

                e = d;
                d = c;
                c = rotate(b, 30);
                b = a;
                a = t;
        }
        h[0] += a;
        h[1] += b;
        h[2] += c;
        h[3] += d;
        h[4] += e;
}

/* Of a text of 56 to 119 bytes: two blocks. */
static void sha1(const char *text, size_t len, unsigned char ret[static SHA1_SIZE])
{
        uint32_t h[5] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 };
        unsigned char blocks[2 * BLOCK_SIZE] = { 0 };

        memcpy(blocks, text, len);
        blocks[len] = 0x80;
        blocks[sizeof(blocks) - 2] = (unsigned char)(len * 8 >> 8);
        blocks[sizeof(blocks) - 1] = (unsigned char)(len * 8);
        sha1_block(h, blocks);
        sha1_block(h, blocks + BLOCK_SIZE);
        for (size_t i = 0; i < SHA1_SIZE; i++)
                ret[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

int ws_accept_key(const char *key, char ret[static WS_ACCEPT_SIZE])
{
        char text[KEY_LEN + sizeof(guid)], bytes[BASE64_ROOM(KEY_LEN)];
        unsigned char digest[SHA1_SIZE];
        Base64Decoder decoder = { 0 };
        KL_AUTOBUF accept = BUF_INIT;

        if (strnlen(key, KEY_LEN + 1) != KEY_LEN ||
            base64_decode(&decoder, key, KEY_LEN, bytes) != 16 || !base64_decoder_done(&decoder))
                return -EINVAL;
        memcpy(text, key, KEY_LEN);
        memcpy(text + KEY_LEN, guid, sizeof(guid));
        sha1(text, strlen(text), digest);
        base64_encode(&accept, digest, sizeof(digest));
        if (buf_error(&accept))
                return buf_error(&accept);
        memcpy(ret, accept.data, WS_ACCEPT_SIZE);
        return 0;
}
