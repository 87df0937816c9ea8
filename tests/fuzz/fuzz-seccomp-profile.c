/* SPDX-License-Identifier: Apache-2.0 */

/* A profile is refused with a reason, or read within its limits. */

#include "runtime/seccomp-internal.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        KL_AUTOERR err = NULL;
        SeccompProfile *profile = NULL;

        if (seccomp_parse_profile((const char *)data, size, 1, arena, &profile, &err) < 0) {
                assert(err && err->msg);
                return 0;
        }
        assert(profile && profile->n_rules <= SECCOMP_RULES_MAX);
        for (size_t i = 0; i < profile->n_rules; i++)
                assert(profile->rules[i].names[0] && profile->rules[i].n_args <= SECCOMP_ARGS_MAX);
        return 0;
}
