/* SPDX-License-Identifier: Apache-2.0 */

/* The shim never crashes on what comes over its socket. The first byte says which record it is. */

#include "base/str.h"
#include "shim/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        ShimContainerState state;
        ShimSandbox sandbox;
        ShimStart start;
        ShimExec exec;

        if (size < 1)
                return 0;
        switch (data[0] % 4) {
        case 0:
                if (shim_sandbox_decode(data + 1, size - 1, &sandbox) == 0)
                        shim_sandbox_deinit(&sandbox);
                break;
        case 1:
                if (shim_start_decode(data + 1, size - 1, 16, &start) == 0) {
                        KL_AUTOBUF again = BUF_INIT;
                        static RecordFds fds;

                        /* What was decoded can be encoded. */
                        shim_start_encode(&start, &again, &fds);
                        shim_start_deinit(&start);
                }
                break;
        case 2:
                if (shim_exec_decode(data + 1, size - 1, 16, &exec) == 0)
                        shim_exec_deinit(&exec);
                break;
        default:
                (void)shim_exit_parse((const char *)data + 1, size - 1, &state);
        }
        return 0;
}
