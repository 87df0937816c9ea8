/* SPDX-License-Identifier: Apache-2.0 */

/* A cleaned name is relative, plain, and cleans to itself. */

#include "base/str.h"
#include "image/worker/entry-path-internal.h"

#include <assert.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTOFREE char *name = strndup((const char *)data, size);
        char clean[ENTRY_PATH_MAX], again[ENTRY_PATH_MAX];
        const char *leaf;
        size_t parent;
        EntryMark mark;

        if (entry_path_clean(name, clean) < 0)
                return 0;
        assert(clean[0] != '/' && !str_ends(clean, "/") && !strstr(clean, "//"));
        assert(!str_eq(clean, "..") && !str_starts(clean, "../") && !strstr(clean, "/../") &&
               !str_ends(clean, "/.."));
        assert(entry_path_clean(clean, again) == 0 && str_eq(clean, again));
        mark = entry_path_split(clean, &parent, &leaf);
        assert(parent <= strlen(clean) && leaf >= clean && leaf <= clean + strlen(clean));
        if (mark == ENTRY_WHITEOUT)
                assert(*leaf && !str_eq(leaf, ".") && !str_eq(leaf, "..") && !strchr(leaf, '/'));
        return 0;
}
