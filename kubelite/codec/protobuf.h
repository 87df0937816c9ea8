/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_PROTOBUF_H
#define KUBELITE_CODEC_PROTOBUF_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The protocol buffers wire format, for messages that are small enough to be written and read field
 * by field. Groups and unknown wire types are errors; unknown fields are the reader's to skip.
 */

/* A field that has its default value is left out, as proto3 does. */
void pb_put_uint(Buf *to, uint32_t field, uint64_t value);
void pb_put_bool(Buf *to, uint32_t field, bool value);
void pb_put_str(Buf *to, uint32_t field, const char *text);
/* Always written: strings in lists, and messages, which may be empty. */
void pb_put_bytes(Buf *to, uint32_t field, const void *data, size_t len);

typedef struct PbReader {
        const uint8_t *at, *end;
} PbReader;

typedef enum PbWire {
        PB_VARINT = 0,
        PB_FIXED64 = 1,
        PB_BYTES = 2,
        PB_FIXED32 = 5,
} PbWire;

typedef struct PbField {
        uint32_t number;
        PbWire wire;
        uint64_t value;      /* of all but PB_BYTES */
        const uint8_t *data; /* of PB_BYTES: within the input */
        size_t len;
} PbField;

void pb_reader_init(PbReader *reader, const void *data, size_t len);
/* 1: *ret is the next field; 0: the end; -EPROTO. */
int pb_next(PbReader *reader, PbField *ret);

#endif
