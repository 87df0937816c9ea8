/* SPDX-License-Identifier: Apache-2.0 */

/* Messages of the wire format: every field lies within the input, and each step consumes some. */

#include "codec/protobuf.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const uint8_t *before;
        PbReader reader;
        PbField field;
        int r;

        pb_reader_init(&reader, data, size);
        do {
                before = reader.at;
                r = pb_next(&reader, &field);
                assert(reader.at >= before && reader.at <= reader.end);
                if (r <= 0)
                        break;
                assert(reader.at > before && field.number > 0);
                if (field.wire == PB_BYTES)
                        assert(field.data >= data && field.len <= size &&
                               field.data + field.len <= data + size);
        } while (r > 0);
        return 0;
}
