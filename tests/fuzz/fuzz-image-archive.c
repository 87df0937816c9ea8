/* SPDX-License-Identifier: Apache-2.0 */

/* The tar headers of an import. */

#include "base/str.h"
#include "image/worker/scan-internal.h"

#include <assert.h>
#include <stdint.h>

typedef struct Input {
        const uint8_t *data;
        size_t size;
} Input;

static ssize_t read_input(void *data, void *to, size_t len, uint64_t offset)
{
        const Input *input = data;
        size_t n = offset < input->size ? input->size - offset : 0;

        n = n < len ? n : len;
        if (n > 0)
                memcpy(to, input->data + offset, n);
        return (ssize_t)n;
}

static int check_member(const ScanMember *member, void *data)
{
        assert(strlen(member->name) < SCAN_NAME_MAX && member->size <= SCAN_ARCHIVE_MAX);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        Input input = { data, size };
        KL_AUTOERR err = NULL;

        if (scan_archive(read_input, &input, check_member, NULL, &err) < 0)
                assert(err);
        return 0;
}
