/* SPDX-License-Identifier: Apache-2.0 */

/* A kubeconfig; paths in it are relative to a directory that does not exist. */

#include "config/kubeconfig.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTO(kubeconfig_free) Kubeconfig *config = NULL;
        KL_AUTOERR err = NULL;

        if (kubeconfig_read("fuzz", "/nonexistent", (const char *)data, size, &config, &err) < 0)
                assert(err && !config);
        else
                assert(config->server && *config->server);
        return 0;
}
