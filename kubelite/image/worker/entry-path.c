/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Names of archive entries. Absolute names are taken as relative to the image's root, as other
 * runtimes do (builders such as ko write them); a name that climbs with ".." has no honest use and
 * is refused.
 */

#include "image/worker/entry-path-internal.h"

#include "base/str.h"

#define MARK ".wh."
#define MARK_OPAQUE ".wh..wh..opq"
#define MARK_RESERVED ".wh..wh."

int entry_path_clean(const char *name, char ret[static ENTRY_PATH_MAX])
{
        size_t n = 0;

        while (*name) {
                size_t len = strcspn(name, "/");

                if (len == 2 && name[0] == '.' && name[1] == '.')
                        return -EINVAL;
                if (len > 0 && !(len == 1 && name[0] == '.')) {
                        if (n + len + 2 > ENTRY_PATH_MAX)
                                return -ENAMETOOLONG;
                        if (n > 0)
                                ret[n++] = '/';
                        memcpy(ret + n, name, len);
                        n += len;
                }
                name += len + (name[len] == '/');
        }
        ret[n] = '\0';
        return 0;
}

/* Whatever lies below one of aufs' own directories. */
static bool is_reserved(const char *path)
{
        const char *part = path;

        while (part) {
                const char *slash = strchr(part, '/');

                if (str_starts(part, MARK_RESERVED) && slash)
                        return true;
                part = slash ? slash + 1 : NULL;
        }
        return false;
}

EntryMark entry_path_split(const char *path, size_t *ret_parent, const char **ret_leaf)
{
        const char *slash = strrchr(path, '/');

        *ret_parent = slash ? (size_t)(slash - path) : 0;
        *ret_leaf = slash ? slash + 1 : path;
        if (is_reserved(path))
                return ENTRY_IGNORED;
        if (!str_starts(*ret_leaf, MARK))
                return ENTRY_PLAIN;
        if (str_eq(*ret_leaf, MARK_OPAQUE))
                return ENTRY_OPAQUE;
        if (str_starts(*ret_leaf, MARK_RESERVED))
                return ENTRY_IGNORED;
        *ret_leaf += strlen(MARK);
        if (str_eq(*ret_leaf, "") || str_eq(*ret_leaf, ".") || str_eq(*ret_leaf, ".."))
                return ENTRY_BAD;
        return ENTRY_WHITEOUT;
}
