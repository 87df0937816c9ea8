/* SPDX-License-Identifier: Apache-2.0 */

/* A KubeletConfiguration: what is accepted prints as a document that is accepted again and prints
 * the same. */

#include "config/kubelet-config.h"

#include <assert.h>
#include <string.h>

static int load(const char *data, size_t size, Buf *to)
{
        KL_AUTO(kubelet_config_free) KubeletConfig *config = NULL;
        KL_AUTOERR err = NULL;

        assert(kubelet_config_new(&config, &err) == 0);
        if (kubelet_config_read(config, "fuzz", data, size, &err) < 0 ||
            kubelet_config_finish(config, &err) < 0) {
                assert(err);
                return -1;
        }
        assert(kubelet_config_print(config, to) == 0);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTOBUF first = BUF_INIT;
        KL_AUTOBUF second = BUF_INIT;

        if (load((const char *)data, size, &first) < 0)
                return 0;
        assert(load(buf_str(&first), first.len, &second) == 0);
        assert(strcmp(buf_str(&first), buf_str(&second)) == 0);
        return 0;
}
