/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Our programs. Installed: <prefix>/bin/kubelite and <prefix>/libexec/kubelite/. In a build tree:
 * where meson puts them. The running binary tells which.
 */

#include "daemon.h"

#include "base/file.h"
#include "base/str.h"

#include <limits.h>
#include <unistd.h>

#define SHIM_NAME "kubelite-shim"
#define IMAGE_NAME "kubelite-image"

static int own_directory(char *buf, size_t size)
{
        ssize_t n = readlink("/proc/self/exe", buf, size - 1);
        char *slash;

        if (n < 0)
                return -errno;
        buf[n] = '\0';
        slash = strrchr(buf, '/');
        if (!slash)
                return -ENOENT;
        *slash = '\0';
        return 0;
}

static char *parent_of(const char *path)
{
        KL_AUTOFREE char *copy = strdup(path);
        size_t n = copy ? strlen(copy) : 0;
        char *slash;

        while (n > 1 && copy[n - 1] == '/')
                copy[--n] = '\0';
        slash = copy ? strrchr(copy, '/') : NULL;
        if (!slash)
                return strdup(".");
        slash[slash == copy ? 1 : 0] = '\0';
        return KL_STEAL(copy);
}

void daemon_paths_deinit(DaemonPaths *paths)
{
        free(paths->shim);
        free(paths->image_worker);
        free(paths->cni_plugins);
        free(paths->data_dir);
        free(paths->layers_parent);
        *paths = (DaemonPaths){ 0 };
}

int daemon_paths(const char *image_dir, DaemonPaths *ret, KlError **err)
{
        KL_AUTOFREE char *libexec = NULL;
        char own[PATH_MAX];
        bool installed;
        int r = own_directory(own, sizeof(own));

        if (r < 0)
                return kl_error_errno(err, r, NULL, "find our own program");
        libexec = str_format("%s/../libexec/kubelite", own);
        ret->shim = libexec ? str_format("%s/" SHIM_NAME, libexec) : NULL;
        installed = ret->shim && access(ret->shim, X_OK) == 0;
        if (installed) {
                ret->image_worker = str_format("%s/" IMAGE_NAME, libexec);
                ret->cni_plugins = str_format("%s/cni", libexec);
        } else {
                free(ret->shim);
                ret->shim = str_format("%s/shim/" SHIM_NAME, own);
                ret->image_worker = str_format("%s/image/worker/" IMAGE_NAME, own);
                ret->cni_plugins = str_format("%s/../cni/plugins", own);
        }
        ret->layers_parent = parent_of(image_dir);
        ret->data_dir = ret->layers_parent ? str_format("%s/containers", ret->layers_parent) : NULL;
        if (!ret->shim || !ret->image_worker || !ret->cni_plugins || !ret->data_dir)
                return kl_error_oom(err);
        if (access(ret->shim, X_OK) < 0)
                return kl_error_errno(err, -errno, NULL, "find '%s'", ret->shim);
        return 0;
}
