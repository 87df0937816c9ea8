/* SPDX-License-Identifier: Apache-2.0 */

#include "codec/protobuf.h"

#include "base/str.h"

#define VARINT_BYTES_MAX 10
#define FIELD_NUMBER_MAX ((1U << 29) - 1)

/* --- writing --- */

static void put_varint(Buf *to, uint64_t value)
{
        for (; value >= 0x80; value >>= 7)
                buf_add_char(to, (char)(value | 0x80));
        buf_add_char(to, (char)value);
}

static void put_tag(Buf *to, uint32_t field, PbWire wire)
{
        put_varint(to, (uint64_t)field << 3 | wire);
}

void pb_put_uint(Buf *to, uint32_t field, uint64_t value)
{
        if (value == 0)
                return;
        put_tag(to, field, PB_VARINT);
        put_varint(to, value);
}

void pb_put_bool(Buf *to, uint32_t field, bool value)
{
        pb_put_uint(to, field, value);
}

void pb_put_bytes(Buf *to, uint32_t field, const void *data, size_t len)
{
        put_tag(to, field, PB_BYTES);
        put_varint(to, len);
        buf_add(to, data, len);
}

void pb_put_str(Buf *to, uint32_t field, const char *text)
{
        if (!str_empty(text))
                pb_put_bytes(to, field, text, strlen(text));
}

/* --- reading --- */

void pb_reader_init(PbReader *r, const void *data, size_t len)
{
        r->at = data;
        r->end = r->at + len;
}

static int get_varint(PbReader *r, uint64_t *ret)
{
        uint64_t value = 0;

        for (int i = 0; i < VARINT_BYTES_MAX && r->at < r->end; i++) {
                uint8_t byte = *r->at++;

                /* The tenth byte holds the 64th bit alone. */
                if (i == VARINT_BYTES_MAX - 1 && byte > 1)
                        return -EPROTO;
                value |= (uint64_t)(byte & 0x7f) << (7 * i);
                if (!(byte & 0x80)) {
                        *ret = value;
                        return 0;
                }
        }
        return -EPROTO;
}

static int get_fixed(PbReader *r, size_t size, uint64_t *ret)
{
        uint64_t value = 0;

        if ((size_t)(r->end - r->at) < size)
                return -EPROTO;
        for (size_t i = size; i-- > 0;)
                value = value << 8 | r->at[i];
        r->at += size;
        *ret = value;
        return 0;
}

int pb_next(PbReader *r, PbField *ret)
{
        uint64_t tag, len;

        if (r->at == r->end)
                return 0;
        *ret = (PbField){ 0 };
        if (get_varint(r, &tag) < 0 || tag >> 3 == 0 || tag >> 3 > FIELD_NUMBER_MAX)
                return -EPROTO;
        ret->number = (uint32_t)(tag >> 3);
        ret->wire = (PbWire)(tag & 7);
        switch (tag & 7) {
        case PB_VARINT:
                return get_varint(r, &ret->value) < 0 ? -EPROTO : 1;
        case PB_FIXED64:
                return get_fixed(r, 8, &ret->value) < 0 ? -EPROTO : 1;
        case PB_FIXED32:
                return get_fixed(r, 4, &ret->value) < 0 ? -EPROTO : 1;
        case PB_BYTES:
                if (get_varint(r, &len) < 0 || len > (uint64_t)(r->end - r->at))
                        return -EPROTO;
                ret->data = r->at;
                ret->len = (size_t)len;
                r->at += len;
                return 1;
        default:
                return -EPROTO;
        }
}
