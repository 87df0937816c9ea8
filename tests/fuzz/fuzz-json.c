/* SPDX-License-Identifier: Apache-2.0 */

/* Whatever parses must print, and parse again to the same tree. */

#include "codec/json.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTO(value_free) Value *v = NULL;
        KL_AUTO(value_free) Value *again = NULL;
        KL_AUTOERR err = NULL;
        KL_AUTOBUF text = BUF_INIT;

        if (json_parse((const char *)data, size, &v, &err) < 0) {
                assert(err && !v);
                return 0;
        }
        assert(json_print(v, &text) == 0);
        assert(json_parse(buf_str(&text), text.len, &again, NULL) == 0);
        return 0;
}
