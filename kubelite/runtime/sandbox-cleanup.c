/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is done for a sandbox in a worker process, because it takes its time: killing by control
 * group, unmounting, removing groups and trees. The worker is a fork of the daemon, so that it sees
 * the Sandbox as it was; it only reads it. All of it may be repeated.
 */

#include "runtime/runtime-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"

#include <poll.h>
#include <sys/mount.h>

#define MOUNTINFO_MAX (16 << 20)
#define KILL_TIMEOUT_MS 30000
/* The log writer ends by itself once its readers are closed. */
#define SHIM_GRACE_MS 2000
#define REMOVE_TIMEOUT_MS 10000
#define STACKED_MOUNTS_MAX 16

static int complain(const char *what, const char *name, int r)
{
        dprintf(STDERR_FILENO, "%s '%s': %s", what, name, strerror(-r));
        return 1;
}

/* Everything but the shim's own leaf, so that the last lines reach the logs. */
static int kill_containers(const Sandbox *s)
{
        const CgroupTree *tree = s->runtime->tree;
        KL_AUTOSTRV names = NULL;
        int r = cgroup_children(tree, s->cgroup, &names), result = 0;

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        for (char **p = names; p && *p; p++) {
                KL_AUTOFREE char *path = str_format("%s/%s", s->cgroup, *p);

                if (str_eq(*p, CGROUP_SHIM_LEAF))
                        continue;
                r = path ? cgroup_kill(tree, path, KILL_TIMEOUT_MS) : -ENOMEM;
                result = r < 0 ? r : result;
        }
        return result;
}

static void wait_for_shim(const Sandbox *s)
{
        KL_AUTOFREE char *leaf = str_format("%s/" CGROUP_SHIM_LEAF, s->cgroup);
        uint64_t end = time_monotonic_ms() + SHIM_GRACE_MS;

        while (leaf && cgroup_empty(s->runtime->tree, leaf) == 0 && time_monotonic_ms() < end)
                poll(NULL, 0, 1);
}

int cleanup_kill_body(void *arg)
{
        const Sandbox *s = arg;
        int r = kill_containers(s);

        if (r == 0)
                wait_for_shim(s);
        if (r == 0)
                r = cgroup_kill(s->runtime->tree, s->cgroup, KILL_TIMEOUT_MS);
        return r < 0 ? complain("kill the processes of", s->cgroup, r) : 0;
}

static int unmount(const char *path)
{
        for (int i = 0; i < STACKED_MOUNTS_MAX; i++)
                if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
                        return errno == EINVAL || errno == ENOENT ? 0 : -errno;
        return -EBUSY;
}

/* mountinfo writes blanks and backslashes as three octal digits. */
static void unescape(char *text)
{
        char *to = text;

        for (const char *p = text; *p; p++) {
                if (p[0] == '\\' && strspn(p + 1, "01234567") >= 3) {
                        *to++ = (char)((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
                        p += 3;
                } else {
                        *to++ = *p;
                }
        }
        *to = '\0';
}

static int unmount_beneath(const char *dir)
{
        KL_AUTOFREE char *text = NULL;
        size_t n = strlen(dir);
        char *save = NULL;
        int r = file_read("/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL), result = 0;

        if (r < 0)
                return r;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                char *inner = NULL, *field = strtok_r(line, " ", &inner);

                for (int i = 0; field && i < 4; i++)
                        field = strtok_r(NULL, " ", &inner);
                if (!field)
                        continue;
                unescape(field);
                if (strncmp(field, dir, n) != 0 || field[n] != '/')
                        continue;
                r = unmount(field);
                result = r < 0 ? r : result;
        }
        return result;
}

static int unpin(const Sandbox *s)
{
        int r = 0;

        if (!str_empty(s->netns_path)) {
                r = unmount(s->netns_path);
                if (r == 0 && unlink(s->netns_path) < 0 && errno != ENOENT)
                        r = -errno;
        }
        if (r < 0)
                return complain("unpin", s->netns_path, r);
        r = unmount_beneath(s->dir);
        return r < 0 ? complain("unmount what is in", s->dir, r) : 0;
}

void runtime_unpin(const char *id)
{
        KL_AUTOFREE char *path = id_is_valid(id) ? str_format(NETNS_DIR "/%s", id) : NULL;

        if (path && unmount(path) == 0)
                unlink(path);
}

static int remove_records(const Sandbox *s)
{
        int r;

        if (!s->records && !list_empty(&s->containers))
                return 0;
        list_for_each (c, &s->containers, Container, link) {
                KL_AUTOFREE char *path = str_format("%s/%s", s->runtime->data_dir, c->record.id);

                r = path ? tree_remove(path) : -ENOMEM;
                if (r < 0)
                        return complain("remove", path ? path : "", r);
        }
        r = tree_remove(s->dir);
        return r < 0 ? complain("remove", s->dir, r) : 0;
}

int cleanup_all_body(void *arg)
{
        const Sandbox *s = arg;
        int r = cleanup_kill_body(arg);

        if (r == 0)
                r = unpin(s);
        if (r)
                return r;
        r = cgroup_remove(s->runtime->tree, s->cgroup, REMOVE_TIMEOUT_MS);
        if (r < 0)
                return complain("remove control group", s->cgroup, r);
        if (!str_empty(s->spec.handler))
                cgroup_remove_strays(s->runtime->tree, s->cgroup);
        return remove_records(s);
}
