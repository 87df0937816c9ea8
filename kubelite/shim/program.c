/* SPDX-License-Identifier: Apache-2.0 */

/* The program of an entrypoint or exec. */

#include "shim/program.h"

#include "base/str.h"

#include <sys/stat.h>

#define REASON "StartError"
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const char *env_get(char *const *env, const char *name)
{
        size_t len = strlen(name);
        const char *value = NULL;

        for (; env && *env; env++)
                if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
                        value = *env + len + 1;
        return value;
}

/* 0, or why it cannot be run. Execute permission is judged by the kernel at exec: access(2) asks
 * for the real ids, which are the effective ones here. */
static int check(const char *path)
{
        struct stat st;

        if (stat(path, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        return access(path, X_OK) < 0 ? -EACCES : 0;
}

static const char *lower_strerror(int code)
{
        switch (code) {
        case -ENOENT:
                return "no such file or directory";
        case -EACCES:
                return "permission denied";
        case -EISDIR:
                return "is a directory";
        case -ENOTDIR:
                return "not a directory";
        default:
                return strerror(-code);
        }
}

static int find_with_slash(const char *name, char *ret, KlError **err)
{
        int r = check(name);

        if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -ENAMETOOLONG)
                return kl_error(err, r, REASON, "exec: \"%.512s\": stat %.512s: %s", name, name,
                                lower_strerror(r));
        if (r < 0)
                return kl_error(err, r, REASON, "exec: \"%.512s\": %s", name, lower_strerror(r));
        if (strlen(name) >= PATH_MAX)
                return kl_error(err, -ENAMETOOLONG, REASON, "exec: \"%.512s…\": file name too long",
                                name);
        memcpy(ret, name, strlen(name) + 1);
        return 0;
}

int program_find(const char *name, char *const *env, char ret[static PATH_MAX], KlError **err)
{
        const char *path = env_get(env, "PATH");
        int denied = 0;

        if (strchr(name, '/'))
                return find_with_slash(name, ret, err);
        if (!path)
                path = DEFAULT_PATH;
        while (*name) {
                size_t len = strcspn(path, ":");
                int n = snprintf(ret, PATH_MAX, "%.*s%s%s", (int)len, path, len ? "/" : "", name);
                int r = n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : check(ret);

                if (r == 0)
                        return 0;
                if (r == -EACCES)
                        denied = r;
                if (!path[len])
                        break;
                path += len + 1;
        }
        if (denied)
                return kl_error(err, denied, REASON, "exec: \"%.512s\": permission denied", name);
        return kl_error(err, -ENOENT, REASON,
                        "exec: \"%.512s\": executable file not found in $PATH", name);
}
