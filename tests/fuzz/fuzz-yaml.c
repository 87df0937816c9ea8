/* SPDX-License-Identifier: Apache-2.0 */

/* YAML documents, each printed as JSON. */

#include "codec/json.h"
#include "codec/yaml.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTOERR err = NULL;
        Value **documents = NULL;
        size_t n = 0;

        if (yaml_read_documents((const char *)data, size, &documents, &n, &err) < 0) {
                assert(err && !documents);
                return 0;
        }
        for (size_t i = 0; i < n; i++) {
                KL_AUTOBUF text = BUF_INIT;

                assert(json_print(documents[i], &text) == 0);
                value_free(documents[i]);
        }
        free(documents);
        return 0;
}
