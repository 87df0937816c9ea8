/* SPDX-License-Identifier: Apache-2.0 */

#include "codec/sysctl-names.h"

#include "base/str.h"

#define EDGE "abcdefghijklmnopqrstuvwxyz0123456789"
#define INNER EDGE "-_"

/* [a-z0-9]([-_a-z0-9]*[a-z0-9])? */
static bool is_segment(const char *s, size_t n)
{
        return n > 0 && strspn(s, INNER) >= n && strchr(EDGE, s[0]) && strchr(EDGE, s[n - 1]);
}

/* ([a-z0-9][-_a-z0-9]*)?[a-z0-9*] */
static bool is_last_of_pattern(const char *s, size_t n)
{
        if (n == 0 || s[n - 1] != '*')
                return is_segment(s, n);
        return n == 1 || (strspn(s, INNER) >= n - 1 && strchr(EDGE, s[0]));
}

static bool is_valid(const char *name, bool pattern)
{
        if (strlen(name) > SYSCTL_NAME_MAX)
                return false;
        for (;;) {
                size_t n = strcspn(name, "./");

                if (!name[n])
                        return pattern ? is_last_of_pattern(name, n) : is_segment(name, n);
                if (!is_segment(name, n))
                        return false;
                name += n + 1;
        }
}

bool sysctl_name_is_valid(const char *name)
{
        return is_valid(name, false);
}

bool sysctl_pattern_is_valid(const char *pattern)
{
        return is_valid(pattern, true);
}

void sysctl_name_to_path(char *dotted)
{
        for (char *p = dotted; *p; p++)
                *p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
}

void sysctl_name_to_dots(char *name)
{
        if (name[strcspn(name, "./")] == '/')
                sysctl_name_to_path(name);
}

const char *sysctl_namespace(const char *dotted)
{
        if (str_eq(dotted, "kernel.sem") || str_starts(dotted, "kernel.shm") ||
            str_starts(dotted, "kernel.msg") || str_starts(dotted, "fs.mqueue."))
                return "ipc";
        return str_starts(dotted, "net.") ? "net" : NULL;
}
