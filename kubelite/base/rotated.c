/* SPDX-License-Identifier: Apache-2.0 */

#include "base/rotated.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>

#define STAMP_LEN 15 /* 20060102-150405 */

/* Length of the name without what compression adds; 0: none of the log's rotated files. */
static size_t stem_length(const char *name, const char *log)
{
        size_t n = strlen(log);
        const char *stamp = name + n + 1;

        if (strncmp(name, log, n) != 0 || name[n] != '.')
                return 0;
        for (size_t i = 0; i < STAMP_LEN; i++)
                if (i == 8 ? stamp[i] != '-' : stamp[i] < '0' || stamp[i] > '9')
                        return 0;
        if (stamp[STAMP_LEN] && !str_eq(stamp + STAMP_LEN, ROTATED_GZ))
                return 0;
        return n + 1 + STAMP_LEN;
}

static int compare(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static void drop_twins(char **list)
{
        size_t to = 0;

        for (size_t i = 0; list[i]; i++) {
                if (to > 0 && str_eq(list[to - 1], list[i]))
                        free(list[i]);
                else
                        list[to++] = list[i];
        }
        list[to] = NULL;
}

int rotated_list(int dir_fd, const char *log, char ***ret)
{
        KL_AUTOFD int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        KL_AUTODIR DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        KL_AUTOSTRV list = calloc(ROTATED_MAX + 1, sizeof(*list));
        struct dirent *entry;
        size_t n = 0;

        if (!dir)
                return -errno;
        fd = -1;
        if (!list)
                return -ENOMEM;
        while (n < ROTATED_MAX && (entry = readdir(dir))) {
                size_t len = stem_length(entry->d_name, log);

                if (len > 0 && !(list[n++] = strndup(entry->d_name, len)))
                        return -ENOMEM;
        }
        qsort(list, n, sizeof(*list), compare);
        drop_twins(list);
        *ret = KL_STEAL(list);
        return 0;
}
