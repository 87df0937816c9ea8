/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The host's ids behind the user namespaces of pods. Each pod gets a range that no other pod has,
 * all of them from one pool: what /etc/subuid and /etc/subgid give the user "kubelet" (KEP-127), or
 * else every id above those that the host itself uses. Ranges are not remembered for a pod that has
 * no sandbox: its volumes hold unmapped ids, so that any range will do.
 */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/str.h"

#include <sys/utsname.h>
#include <unistd.h>

#define SUBID_USER "kubelet"
#define SUBID_FILE_MAX (1U << 20)
#define IDS_UNIT 65536U
/* (uid_t)-1 means "no change" to system calls: the range that it is in is never given away. */
#define IDS_END UINT32_MAX

/* Mounts of tmpfs, which secrets and tokens live on, take mapped ids since 6.3. */
#define KERNEL_MAJOR 6
#define KERNEL_MINOR 3

bool runtime_has_user_namespaces(void)
{
        struct utsname u;
        unsigned int major = 0, minor = 0;
        char limit[24];

        if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2 ||
            major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR))
                return false;
        return access("/proc/self/ns/user", F_OK) == 0 &&
               file_read_line("/proc/sys/user/max_user_namespaces", limit, sizeof(limit)) == 0 &&
               !str_eq(limit, "0");
}

/* The user's one line of "name:first:count"; 1: there is none. */
static int find_line(const char *text, const char *what, IdRange *ret, KlError **err)
{
        KL_AUTOSTRV lines = strv_split(text, '\n');
        size_t found = 0;

        if (!lines)
                return kl_error_oom(err);
        for (char **line = lines; *line; line++) {
                KL_AUTOSTRV fields = strv_split(*line, ':');
                uint64_t first, count;

                if (!fields)
                        return kl_error_oom(err);
                if (!fields[0] || !str_eq(fields[0], SUBID_USER))
                        continue;
                if (strv_len(fields) != 3 || str_to_u64(fields[1], IDS_END, &first) < 0 ||
                    str_to_u64(fields[2], IDS_END, &count) < 0)
                        return kl_error(err, -EINVAL, NULL, "%s: invalid line \"%s\"", what, *line);
                *ret = (IdRange){ (uint32_t)first, (uint32_t)count };
                found++;
        }
        if (found > 1)
                return kl_error(err, -EINVAL, NULL, "%s: more than one range for user \"%s\"", what,
                                SUBID_USER);
        return found == 0;
}

static int check_pool(const IdRange *pool, uint32_t per_pod, int64_t max_pods, KlError **err)
{
        if (pool->first % per_pod)
                return kl_error(err, -EINVAL, NULL,
                                "kubelet user assigned ID %u is not a multiple of %u", pool->first,
                                per_pod);
        if (pool->first < per_pod)
                return kl_error(err, -EINVAL, NULL,
                                "kubelet user assigned ID %u must be greater or equal to %u",
                                pool->first, per_pod);
        if (pool->count % per_pod)
                return kl_error(err, -EINVAL, NULL,
                                "kubelet user assigned IDs length %u is not a multiple of %u",
                                pool->count, per_pod);
        if (pool->count > IDS_END - pool->first)
                return kl_error(err, -EINVAL, NULL,
                                "kubelet user assigned IDs %u and the %u after it are too many",
                                pool->first, pool->count);
        if ((int64_t)(pool->count / per_pod) < max_pods)
                return kl_error(err, -EINVAL, NULL,
                                "kubelet user assigned IDs are not enough to support %lld pods",
                                (long long)max_pods);
        return 0;
}

int ids_pool(const char *subuid, const char *subgid, uint32_t per_pod, int64_t max_pods,
             IdRange *ret, KlError **err)
{
        IdRange uids = { 0, 0 }, gids = { 0, 0 };
        int no_uids, no_gids;

        if (per_pod == 0 || per_pod % IDS_UNIT)
                return kl_error(err, -EINVAL, NULL,
                                "kubelet user namespace length %u is not a multiple of %u", per_pod,
                                IDS_UNIT);
        no_uids = find_line(subuid, "subuid", &uids, err);
        if (no_uids < 0)
                return no_uids;
        no_gids = find_line(subgid, "subgid", &gids, err);
        if (no_gids < 0)
                return no_gids;
        if (no_uids && no_gids) {
                *ret = (IdRange){ per_pod, (IDS_END - per_pod) / per_pod * per_pod };
                return 0;
        }
        if (no_uids || no_gids || uids.first != gids.first || uids.count != gids.count)
                return kl_error(err, -EINVAL, NULL,
                                "mismatched subuids and subgids for user \"%s\"", SUBID_USER);
        *ret = uids;
        return check_pool(ret, per_pod, max_pods, err);
}

int ids_read_pool(const char *etc_dir, uint32_t per_pod, int64_t max_pods, IdRange *ret,
                  KlError **err)
{
        KL_AUTOFREE char *uid_path = str_format("%s/subuid", etc_dir), *subuid = NULL;
        KL_AUTOFREE char *gid_path = str_format("%s/subgid", etc_dir), *subgid = NULL;
        int r;

        if (!uid_path || !gid_path)
                return kl_error_oom(err);
        r = file_read(uid_path, SUBID_FILE_MAX, &subuid, NULL);
        if (r < 0 && r != -ENOENT)
                return kl_error_errno(err, r, NULL, "read '%s'", uid_path);
        r = file_read(gid_path, SUBID_FILE_MAX, &subgid, NULL);
        if (r < 0 && r != -ENOENT)
                return kl_error_errno(err, r, NULL, "read '%s'", gid_path);
        r = ids_pool(subuid ? subuid : "", subgid ? subgid : "", per_pod, max_pods, ret, err);
        return r < 0 ? kl_error_wrap(err, r, "ids for user namespaces of pods") : r;
}

static const IdRange *overlapping(const IdRange *taken, size_t n, const IdRange *range)
{
        for (size_t i = 0; i < n; i++)
                if (taken[i].count && taken[i].first < (uint64_t)range->first + range->count &&
                    range->first < (uint64_t)taken[i].first + taken[i].count)
                        return &taken[i];
        return NULL;
}

int ids_pick(const IdRange *pool, uint32_t per_pod, const IdRange *taken, size_t n_taken,
             IdRange *ret)
{
        uint64_t end = (uint64_t)pool->first + pool->count;

        for (uint64_t at = pool->first; at + per_pod <= end; at += per_pod) {
                *ret = (IdRange){ (uint32_t)at, per_pod };
                if (!overlapping(taken, n_taken, ret))
                        return 0;
        }
        *ret = (IdRange){ 0, 0 };
        return -ENOSPC;
}

int ids_assign(const Runtime *runtime, IdRange *ret, KlError **err)
{
        KL_AUTOFREE IdRange *taken = calloc(map_len(runtime->sandboxes) + 1, sizeof(*taken));
        size_t n = 0;
        Sandbox *s;

        if (!runtime->user_namespaces)
                return kl_error(err, -EOPNOTSUPP, NULL,
                                "can't set `spec.hostUsers: false`, runtime does not support user "
                                "namespaces: Linux %d.%d or newer is needed, and sysctl "
                                "user.max_user_namespaces above 0",
                                KERNEL_MAJOR, KERNEL_MINOR);
        if (!taken)
                return kl_error_oom(err);
        for (size_t i = 0; map_next(runtime->sandboxes, &i, NULL, &s);)
                taken[n++] = s->spec.ids;
        if (ids_pick(&runtime->ids, runtime->ids_per_pod, taken, n, ret) < 0)
                return kl_error(err, -ENOSPC, NULL,
                                "create user namespace: could not find an empty slot to allocate a "
                                "user namespace");
        return 0;
}
