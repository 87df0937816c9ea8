/* SPDX-License-Identifier: Apache-2.0 */

/* CNI configuration lists, single configurations, and the records that hold them. */

#include "cni/cni-record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = (const char *)data;
        KL_AUTO(cni_config_free) CniConfig *list = NULL;
        KL_AUTO(cni_config_free) CniConfig *single = NULL;
        KL_AUTO(cni_record_free) CniRecord *record = NULL;

        cni_config_parse(text, size, true, NULL, &list, NULL);
        cni_config_parse(text, size, false, NULL, &single, NULL);
        cni_record_parse(text, size, &record, NULL);
        return 0;
}
