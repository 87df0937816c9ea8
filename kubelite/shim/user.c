/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who a container runs as. The files come from the image or were written by the container, so they
 * are hostile: bounded, opened without following links or waiting, and lines that do not parse are
 * passed over.
 */

#include "shim/user.h"

#include "base/str.h"
#include "shim/sys.h"

#include <fcntl.h>
#include <sys/stat.h>

#define REASON "CreateContainerError"
#define FIELDS_MAX 7

typedef struct Text {
        const char *at;
        size_t len;
} Text;

/* One line cut at colons; false at the end of the text. */
static bool next_line(const char **p, Text *fields, size_t n_fields, size_t *ret_n)
{
        size_t len = strcspn(*p, "\n"), n = 0;
        const char *line = *p, *end = line + len;

        if (!**p)
                return false;
        while (n < n_fields) {
                const char *colon = memchr(line, ':', (size_t)(end - line));
                const char *stop = colon ? colon : end;

                fields[n++] = (Text){ line, (size_t)(stop - line) };
                if (!colon)
                        break;
                line = colon + 1;
        }
        *ret_n = n;
        *p = *end ? end + 1 : end;
        return true;
}

static bool text_is(const Text *text, const char *s)
{
        return strlen(s) == text->len && memcmp(text->at, s, text->len) == 0;
}

static bool text_id(const Text *text, uint32_t *ret)
{
        char digits[16];
        uint64_t value;

        if (text->len == 0 || text->len >= sizeof(digits))
                return false;
        memcpy(digits, text->at, text->len);
        digits[text->len] = '\0';
        if (str_to_u64(digits, UINT32_MAX, &value) < 0)
                return false;
        *ret = (uint32_t)value;
        return true;
}

typedef struct Entry {
        uint32_t uid, gid;
        Text name, home;
} Entry;

/* By name, or by id if name is NULL. */
static bool find_user(const char *passwd, const char *name, uint32_t uid, Entry *ret)
{
        Text f[FIELDS_MAX];
        size_t n;

        while (next_line(&passwd, f, FIELDS_MAX, &n)) {
                if (n < 6 || !text_id(&f[2], &ret->uid) || !text_id(&f[3], &ret->gid))
                        continue;
                if (name ? !text_is(&f[0], name) : ret->uid != uid)
                        continue;
                ret->name = f[0];
                ret->home = f[5];
                return true;
        }
        return false;
}

static bool find_group(const char *group, const char *name, uint32_t *ret)
{
        Text f[FIELDS_MAX];
        size_t n;

        while (next_line(&group, f, FIELDS_MAX, &n))
                if (n >= 3 && text_is(&f[0], name) && text_id(&f[2], ret))
                        return true;
        return false;
}

static bool is_member(const Text *list, const Text *name)
{
        const char *p = list->at, *end = p + list->len;

        while (p < end) {
                const char *comma = memchr(p, ',', (size_t)(end - p));
                const char *stop = comma ? comma : end;

                if ((size_t)(stop - p) == name->len && memcmp(p, name->at, name->len) == 0)
                        return true;
                p = stop + 1;
        }
        return false;
}

static int add_group(ResolvedUser *user, uint32_t gid, KlError **err)
{
        for (size_t i = 0; i < user->n_groups; i++)
                if (user->groups[i] == gid)
                        return 0;
        if (user->n_groups == SHIM_GROUPS_MAX)
                return kl_error(err, -E2BIG, REASON, "more than %u groups", SHIM_GROUPS_MAX);
        user->groups[user->n_groups++] = gid;
        return 0;
}

static int add_memberships(const char *group, const Text *name, ResolvedUser *user, KlError **err)
{
        Text f[FIELDS_MAX];
        size_t n;
        int r = 0;

        while (r == 0 && next_line(&group, f, FIELDS_MAX, &n)) {
                uint32_t gid;

                if (n >= 4 && is_member(&f[3], name) && text_id(&f[2], &gid))
                        r = add_group(user, gid, err);
        }
        return r;
}

/* A number of an image's USER; -EINVAL if it is none, -ERANGE for one that is no valid id. */
static int parse_id(const char *s, uint32_t *ret)
{
        uint64_t value;
        int r = str_to_u64(*s == '+' || *s == '-' ? s + 1 : s, USER_ID_MAX, &value);

        if (r == 0 && *s == '-')
                r = -ERANGE;
        if (r == 0)
                *ret = (uint32_t)value;
        return r;
}

typedef struct Wanted {
        char user[256], group[256]; /* "" : none */
} Wanted;

static int split_image_user(const char *image_user, Wanted *ret, KlError **err)
{
        const char *colon = strchr(image_user, ':');
        size_t len = colon ? (size_t)(colon - image_user) : strlen(image_user);

        if (len >= sizeof(ret->user) || (colon && strlen(colon + 1) >= sizeof(ret->group)))
                return kl_error(err, -EINVAL, REASON, "user '%.64s…' is too long", image_user);
        memcpy(ret->user, image_user, len);
        ret->user[len] = '\0';
        strncpy(ret->group, colon ? colon + 1 : "", sizeof(ret->group) - 1);
        ret->group[sizeof(ret->group) - 1] = '\0';
        return 0;
}

static int resolve_uid(const char *name, const char *passwd, ResolvedUser *ret, Entry *entry,
                       bool *found, KlError **err)
{
        int r = parse_id(*name ? name : "0", &ret->uid);

        if (r == -ERANGE)
                return kl_error(err, -EINVAL, REASON, "user id '%s' is not in 0-%u", name,
                                USER_ID_MAX);
        *found = find_user(passwd, r == 0 ? NULL : name, ret->uid, entry);
        if (r < 0 && !*found)
                return kl_error(err, -ENOENT, REASON,
                                "unable to find user %s: no matching entries in passwd file", name);
        if (*found) {
                ret->uid = entry->uid;
                ret->gid = entry->gid;
        }
        return 0;
}

static int resolve_gid(const char *name, const char *group, uint32_t *ret, KlError **err)
{
        int r = parse_id(name, ret);

        if (r == -ERANGE)
                return kl_error(err, -EINVAL, REASON, "group id '%s' is not in 0-%u", name,
                                USER_ID_MAX);
        if (r < 0 && !find_group(group, name, ret))
                return kl_error(err, -ENOENT, REASON,
                                "unable to find group %s: no matching entries in group file", name);
        return 0;
}

/* Fills uid and gid; found and entry tell of a line in passwd. */
static int resolve_ids(const ShimUser *user, const char *passwd, const char *group,
                       ResolvedUser *ret, Entry *entry, bool *found, KlError **err)
{
        Wanted wanted = { "", "" };
        int r;

        if (user->run_as_user > USER_ID_MAX || user->run_as_group > USER_ID_MAX)
                return kl_error(err, -EINVAL, REASON, "user or group id is not in 0-%u",
                                USER_ID_MAX);
        if (user->run_as_user >= 0) {
                ret->uid = (uint32_t)user->run_as_user;
                *found = find_user(passwd, NULL, ret->uid, entry);
                ret->gid = *found ? entry->gid : 0;
        } else {
                r = split_image_user(user->image_user, &wanted, err);
                if (r == 0)
                        r = resolve_uid(wanted.user, passwd, ret, entry, found, err);
                if (r < 0)
                        return r;
        }
        if (user->run_as_group >= 0) {
                ret->gid = (uint32_t)user->run_as_group;
                return 0;
        }
        return wanted.group[0] ? resolve_gid(wanted.group, group, &ret->gid, err) : 0;
}

int user_resolve(const ShimUser *user, const char *passwd, const char *group, ResolvedUser *ret,
                 KlError **err)
{
        bool found = false;
        Entry entry;
        int r;

        *ret = (ResolvedUser){ .home = "/" };
        r = resolve_ids(user, passwd, group, ret, &entry, &found, err);
        if (r < 0)
                return r;
        if (user->non_root && ret->uid == 0)
                return kl_error(err, -EPERM, "CreateContainerConfigError",
                                "container has runAsNonRoot and image will run as root");
        if (found && entry.home.len > 0 && entry.home.len < sizeof(ret->home)) {
                memcpy(ret->home, entry.home.at, entry.home.len);
                ret->home[entry.home.len] = '\0';
        }
        r = add_group(ret, ret->gid, err);
        if (r == 0 && found && !user->strict_groups)
                r = add_memberships(group, &entry.name, ret, err);
        for (size_t i = 0; r == 0 && i < user->n_groups; i++)
                r = add_group(ret, user->groups[i], err);
        return r;
}

/* A missing file reads as empty. */
static int read_text(int root_fd, const char *path, char **ret, KlError **err)
{
        KL_AUTOFD int fd = sys_openat2(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0,
                                       RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
        struct stat st;
        ssize_t n = 0;

        *ret = NULL;
        if (fd == -ENOENT || fd == -ENOTDIR) {
                *ret = strdup("");
                return *ret ? 0 : -ENOMEM;
        }
        if (fd < 0)
                return kl_error_errno(err, fd, REASON, "open '/%s' of the image", path);
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return kl_error(err, -EINVAL, REASON, "'/%s' of the image is no regular file",
                                path);
        if (st.st_size > (off_t)USER_FILE_MAX)
                return kl_error(err, -EFBIG, REASON, "'/%s' of the image is larger than %u bytes",
                                path, USER_FILE_MAX);
        *ret = calloc(1, (size_t)st.st_size + 1);
        if (!*ret)
                return -ENOMEM;
        for (size_t len = 0; len < (size_t)st.st_size; len += (size_t)n) {
                n = read(fd, *ret + len, (size_t)st.st_size - len);
                if (n <= 0)
                        break;
        }
        return n < 0 ? kl_error_errno(err, -errno, REASON, "read '/%s' of the image", path) : 0;
}

int user_lookup(const ShimUser *user, int root_fd, ResolvedUser *ret, KlError **err)
{
        KL_AUTOFREE char *passwd = NULL, *group = NULL;
        int r;

        r = read_text(root_fd, "etc/passwd", &passwd, err);
        if (r == 0)
                r = read_text(root_fd, "etc/group", &group, err);
        if (r < 0)
                return r;
        return user_resolve(user, passwd, group, ret, err);
}
