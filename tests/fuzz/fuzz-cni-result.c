/* SPDX-License-Identifier: Apache-2.0 */

/* What a CNI plugin prints: results of every version, converted to every version and read; errors;
 * version information. */

#include "cni/cni-result.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_result(const char *text, size_t size, CniVersion version)
{
        KL_AUTO(cni_result_free) CniResult *result = NULL;
        KL_AUTOBUF converted = BUF_INIT;

        if (cni_result_convert(text, size, version, &converted, NULL) == 0)
                cni_result_parse(buf_str(&converted), "eth0", &result, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = (const char *)data;
        KL_AUTOFREE char *message = NULL;
        unsigned int set;
        int code;

        for (int v = 0; v < CNI_VERSIONS; v++)
                read_result(text, size, (CniVersion)v);
        cni_error_parse(text, size, &code, &message, NULL);
        cni_version_info_parse(text, size, &set, NULL);
        return 0;
}
