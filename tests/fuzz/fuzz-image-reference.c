/* SPDX-License-Identifier: Apache-2.0 */

/* A reference that parses has a normal form, which parses to itself. */

#include "base/str.h"
#include "image/image.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        __attribute__((cleanup(image_ref_deinit))) ImageRef ref = { 0 }, again = { 0 };
        KL_AUTOFREE char *text = strndup((const char *)data, size), *one = NULL, *two = NULL;
        KL_AUTOERR err = NULL;

        if (image_ref_parse(text, &ref, &err) < 0) {
                assert(err && !ref.host);
                return 0;
        }
        one = image_ref_format(&ref);
        assert(image_ref_parse(one, &again, NULL) == 0);
        two = image_ref_format(&again);
        assert(str_eq(one, two));
        assert(!strstr(ref.repository, "..") && !strchr(one, ' '));
        return 0;
}
