/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One path measured, in a worker process. Trees may belong to containers that change them
 * meanwhile: fts(3) compares device and inode after each change of directory, so that it cannot
 * be led out of the tree, and what vanishes is left out.
 */

#include "stats/disk-internal.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/str.h"

#include <fts.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* st_blocks counts in these, whatever the file system's own blocks are. */
#define STAT_BLOCK_BYTES 512

static int measure_fs(const char *path, DiskUsage *ret)
{
        struct statvfs fs;

        if (statvfs(path, &fs) < 0)
                return -errno;
        ret->capacity_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
        ret->available_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
        ret->used_bytes = (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize;
        ret->inodes = fs.f_files;
        ret->inodes_free = fs.f_ffree;
        ret->inodes_used = fs.f_files - fs.f_ffree;
        return 0;
}

/* Whether a file with several names was met before. */
static bool met_before(Map *met, const struct stat *st)
{
        static char yes;
        char key[64];

        if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
                return false;
        snprintf(key, sizeof(key), "%llx", (unsigned long long)st->st_ino);
        if (map_get(met, key))
                return true;
        /* Without memory it counts again. */
        map_set(met, key, &yes);
        return false;
}

static int measure_tree(const char *path, DiskUsage *ret)
{
        KL_AUTO(map_free) Map *met = map_new(NULL);
        KL_AUTOFREE char *copy = strdup(path);
        char *const roots[] = { copy, NULL };
        uint64_t bytes = 0, inodes = 0;
        FTSENT *entry;
        FTS *fts;

        if (!met || !copy)
                return -ENOMEM;
        fts = fts_open(roots, FTS_PHYSICAL | FTS_XDEV, NULL);
        if (!fts)
                return -errno;
        while ((entry = fts_read(fts))) {
                bool counts = entry->fts_info == FTS_D || entry->fts_info == FTS_F ||
                              entry->fts_info == FTS_SL || entry->fts_info == FTS_SLNONE ||
                              entry->fts_info == FTS_DEFAULT;

                if (!counts || met_before(met, entry->fts_statp))
                        continue;
                bytes += (uint64_t)entry->fts_statp->st_blocks * STAT_BLOCK_BYTES;
                inodes++;
        }
        fts_close(fts);
        ret->used_bytes = bytes;
        ret->inodes_used = inodes;
        return 0;
}

int disk_measure(const DiskPath *path, DiskUsage *ret)
{
        struct stat st;
        int r;

        *ret = (DiskUsage){ .time_us = time_realtime_us() };
        if (lstat(path->path, &st) < 0)
                return -errno;
        r = measure_fs(path->path, ret);
        if (r == 0 && path->kind == DISK_TREE)
                r = measure_tree(path->path, ret);
        ret->known = r == 0;
        return r;
}
