/* SPDX-License-Identifier: Apache-2.0 */

/*
 * SPDY/3.1 frames. Data frames pass through in pieces; a control frame is given out whole, from the
 * input where it stands there in one piece, else from a buffer that is freed after it.
 */

#include "codec/spdy-internal.h"

#define CONTROL_BIT 0x80000000U
#define LENGTH_MASK 0xffffffU

void spdy_parser_init(SpdyParser *p)
{
        *p = (SpdyParser){ .body = BUF_INIT_LIMIT(SPDY_CONTROL_MAX) };
}

void spdy_parser_deinit(SpdyParser *p)
{
        buf_deinit(&p->body);
}

uint32_t spdy_u32(const char *p)
{
        const unsigned char *u = (const unsigned char *)p;

        return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

void spdy_put_u32(unsigned char *p, uint32_t value)
{
        p[0] = (unsigned char)(value >> 24);
        p[1] = (unsigned char)(value >> 16);
        p[2] = (unsigned char)(value >> 8);
        p[3] = (unsigned char)value;
}

static bool is_known(uint16_t type)
{
        return type >= SPDY_SYN_STREAM && type <= SPDY_WINDOW_UPDATE && type != 5;
}

static int begin_frame(SpdyParser *p, KlError **err)
{
        uint32_t first = spdy_u32((const char *)p->head);
        uint32_t second = spdy_u32((const char *)p->head + 4);

        p->head_len = 0;
        p->left = second & LENGTH_MASK;
        p->part = (SpdyPart){ .flags = (uint8_t)(second >> 24) };
        p->skip = false;
        if (!(first & CONTROL_BIT)) {
                p->part.type = SPDY_PART_DATA;
                p->part.stream = first;
                if (p->left > SPDY_FRAME_MAX)
                        return kl_error(err, -EMSGSIZE, NULL, "SPDY data frame of %zu bytes",
                                        p->left);
                return 0;
        }
        p->part.type = SPDY_PART_CONTROL;
        p->part.control = (SpdyType)(first & 0xffff);
        if ((first >> 16 & 0x7fff) != SPDY_VERSION)
                return kl_error(err, -EPROTO, NULL, "SPDY version %u", first >> 16 & 0x7fff);
        if (p->left > SPDY_CONTROL_MAX)
                return kl_error(err, -EMSGSIZE, NULL, "SPDY control frame of %zu bytes", p->left);
        p->skip = !is_known((uint16_t)(first & 0xffff));
        return 0;
}

static size_t parse_data(SpdyParser *p, const char *data, size_t len, SpdyPart *ret)
{
        size_t n = len < p->left ? len : p->left;

        p->left -= n;
        *ret = p->part;
        ret->data = data;
        ret->len = n;
        ret->fin = p->left == 0 && p->part.flags & SPDY_FLAG_FIN;
        return n;
}

static int parse_control(SpdyParser *p, const char *data, size_t len, size_t *ret_used,
                         SpdyPart *ret, KlError **err)
{
        size_t n = len < p->left ? len : p->left;

        p->left -= n;
        *ret_used = n;
        if (p->skip) {
                p->skip = p->left > 0;
                return 0;
        }
        if (p->body.len > 0 || p->left > 0) {
                buf_add(&p->body, data, n);
                if (buf_error(&p->body))
                        return kl_error_oom(err);
                data = p->body.data;
                n = p->body.len;
        }
        if (p->left > 0)
                return 0;
        *ret = p->part;
        ret->data = data;
        ret->len = n;
        return 0;
}

/* In a frame: its head was read, and its body or, for a control frame, its part was not given. */
static bool in_frame(const SpdyParser *p)
{
        return p->part.type != SPDY_PART_MORE;
}

int spdy_parse(SpdyParser *p, const char *data, size_t len, size_t *ret_used, SpdyPart *ret,
               KlError **err)
{
        size_t at = 0, n = 0;
        int r = 0;

        *ret = (SpdyPart){ SPDY_PART_MORE };
        if (!in_frame(p)) {
                buf_deinit(&p->body);
                for (; p->head_len < SPDY_HEAD_SIZE && at < len; at++)
                        p->head[p->head_len++] = (unsigned char)data[at];
                *ret_used = at;
                if (p->head_len < SPDY_HEAD_SIZE)
                        return 0;
                KL_TRY(begin_frame(p, err));
        }
        if (p->left > 0 && at == len) {
                *ret_used = at;
                return 0;
        }
        if (p->part.type == SPDY_PART_DATA)
                n = parse_data(p, data + at, len - at, ret);
        else
                r = parse_control(p, data + at, len - at, &n, ret, err);
        if (p->left == 0)
                p->part.type = SPDY_PART_MORE;
        *ret_used = at + n;
        return r;
}

void spdy_write_control(Buf *to, SpdyType type, uint8_t flags, const void *body, size_t len)
{
        unsigned char head[SPDY_HEAD_SIZE];

        spdy_put_u32(head, CONTROL_BIT | SPDY_VERSION << 16 | (uint32_t)type);
        spdy_put_u32(head + 4, (uint32_t)flags << 24 | (uint32_t)len);
        buf_add(to, head, sizeof(head));
        buf_add(to, body, len);
}

void spdy_data_head(unsigned char ret[static SPDY_HEAD_SIZE], uint32_t stream, uint8_t flags,
                    size_t len)
{
        spdy_put_u32(ret, stream);
        spdy_put_u32(ret + 4, (uint32_t)flags << 24 | (uint32_t)len);
}
