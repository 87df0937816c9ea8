/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The files of an import. An archive is read by the scanner, a confined process; here only
 * positions arrive, and links among its members are followed at most one step. Files of a layout
 * directory are opened beneath it, through no link.
 */

#include "image/worker/bundle-internal.h"

#include "base/file.h"
#include "base/map.h"
#include "base/str.h"
#include "image/worker/child-internal.h"
#include "image/worker/entry-path-internal.h"

#include <fcntl.h>
#include <sys/stat.h>

#define SPOOL_NAME "archive"

typedef struct Member {
        char *link; /* clean name of the target, or NULL */
        uint64_t offset, size;
} Member;

struct Bundle {
        int dir_fd;     /* a layout directory, or -1 */
        int archive_fd; /* or -1 */
        Map *members;   /* of an archive */
        Map *open;      /* of a directory: descriptors + 1 by name */
        char kind[16];
};

static void free_member(void *data)
{
        Member *member = data;

        free(member->link);
        free(member);
}

Bundle *bundle_free(Bundle *bundle)
{
        const char *name;
        void *value;

        if (!bundle)
                return NULL;
        for (size_t i = 0; bundle->open && map_next(bundle->open, &i, &name, &value);)
                kl_close((int)(intptr_t)value - 1);
        map_free(bundle->open);
        map_free(bundle->members);
        kl_close(bundle->dir_fd);
        kl_close(bundle->archive_fd);
        free(bundle);
        return NULL;
}

/* --- what the scanner says --- */

static int decode_name(const char *hex, size_t len, char ret[static ENTRY_PATH_MAX])
{
        char raw[ENTRY_PATH_MAX];

        if (len % 2 != 0 || len / 2 >= sizeof(raw))
                return -EPROTO;
        for (size_t i = 0; i < len; i += 2) {
                char digits[3] = { hex[i], hex[i + 1], '\0' };
                static const char *const set = "0123456789abcdef";
                const char *high = strchr(set, digits[0]), *low = strchr(set, digits[1]);

                if (!high || !low || !digits[0] || !digits[1])
                        return -EPROTO;
                raw[i / 2] = (char)((high - set) * 16 + (low - set));
        }
        raw[len / 2] = '\0';
        return entry_path_clean(raw, ret) < 0 ? 1 : 0;
}

static int add_member(Bundle *bundle, const char *name, const Member *from)
{
        Member *member = malloc(sizeof(*member));

        if (!member)
                return -ENOMEM;
        *member = *from;
        if (map_set(bundle->members, name, member) < 0) {
                free(member);
                return -ENOMEM;
        }
        return 0;
}

/* "<offset> <size> <hex>" */
static int take_file(Bundle *bundle, char *text)
{
        char name[ENTRY_PATH_MAX];
        char *save = NULL;
        const char *offset = strtok_r(text, " ", &save), *size = strtok_r(NULL, " ", &save);
        const char *hex = strtok_r(NULL, " ", &save);
        Member member = { 0 };
        int r;

        if (!offset || !size || str_to_u64(offset, INT64_MAX, &member.offset) < 0 ||
            str_to_u64(size, INT64_MAX, &member.size) < 0)
                return -EPROTO;
        r = decode_name(hex ? hex : "", hex ? strlen(hex) : 0, name);
        return r != 0 ? (r < 0 ? r : 0) : add_member(bundle, name, &member);
}

/* Cuts the last part off; "" for a single one. */
static void cut_leaf(char *path)
{
        char *slash = strrchr(path, '/');

        *(slash ? slash : path) = '\0';
}

/* "<hex> <hex of the target>"; the target is relative to the link's directory. */
static int take_link(Bundle *bundle, char *text)
{
        static const char up[] = "2e2e2f"; /* "../" */
        char name[ENTRY_PATH_MAX], dir[ENTRY_PATH_MAX], target[ENTRY_PATH_MAX];
        char *space = strchr(text, ' ');
        const char *rest = space ? space + 1 : "";
        Member member = { 0 };
        int r;

        if (!space || decode_name(text, (size_t)(space - text), name) != 0)
                return 0;
        memcpy(dir, name, sizeof(dir));
        cut_leaf(dir);
        for (; str_starts(rest, up); rest += strlen(up))
                cut_leaf(dir);
        if (decode_name(rest, strlen(rest), target) != 0)
                return 0;
        member.link = str_format("%s%s%s", dir, *dir ? "/" : "", target);
        r = member.link ? add_member(bundle, name, &member) : -ENOMEM;
        if (r < 0)
                free(member.link);
        return r;
}

static int on_scan_line(RoleChild *child, char letter, char *text, void *data)
{
        Bundle *bundle = data;

        if (letter == 'f')
                return take_file(bundle, text);
        if (letter == 'l')
                return take_link(bundle, text);
        if (letter != 'k' || strlen(text) >= sizeof(bundle->kind))
                return -EPROTO;
        snprintf(bundle->kind, sizeof(bundle->kind), "%s", text);
        return 0;
}

static int scan(Bundle *bundle, const char *what, int in_fd, int out_fd, KlError **err)
{
        __attribute__((cleanup(role_child_deinit)))
        RoleChild child = { .fd = -1, .on_line = on_scan_line, .data = bundle };
        char *args[] = { (char *)what, NULL };
        RoleSpec spec = { .role = ROLE_SCAN, .args = args, .in_fd = in_fd, .fds = { out_fd, -1 } };
        int r = role_child_start(&child, &spec, err);

        return r < 0 ? r : role_child_wait_result(&child, err);
}

/* --- open --- */

static int spool(Bundle *bundle, int tmp_fd, KlError **err)
{
        KL_AUTOFD int to = openat(tmp_fd, SPOOL_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        int r;

        if (to < 0)
                return kl_error_errno(err, -errno, NULL, "make a temporary file");
        r = scan(bundle, "inflate", bundle->archive_fd, to, err);
        if (r < 0)
                return r;
        close(bundle->archive_fd);
        bundle->archive_fd = KL_STEAL_FD(to);
        return 0;
}

static int open_archive(Bundle *bundle, int tmp_fd, KlError **err)
{
        struct stat st;
        int r;

        bundle->members = map_new(free_member);
        if (!bundle->members)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (fstat(bundle->archive_fd, &st) < 0)
                return kl_error_errno(err, -errno, NULL, "look at the archive");
        if (S_ISREG(st.st_mode)) {
                r = scan(bundle, "kind", bundle->archive_fd, -1, err);
                if (r < 0)
                        return r;
        }
        if (!str_eq(bundle->kind, "plain")) {
                r = spool(bundle, tmp_fd, err);
                if (r < 0)
                        return r;
        }
        return scan(bundle, "list", bundle->archive_fd, -1, err);
}

int bundle_open(const char *path, int fd, int tmp_fd, Bundle **ret, KlError **err)
{
        KL_AUTO(bundle_free) Bundle *bundle = calloc(1, sizeof(*bundle));
        struct stat st;
        int r;

        if (!bundle)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        bundle->dir_fd = bundle->archive_fd = -1;
        fd = path ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0 || fstat(fd, &st) < 0) {
                r = kl_error_errno(err, -errno, NULL, "open '%s'", path ? path : "the archive");
                kl_close(fd);
                return r;
        }
        if (S_ISDIR(st.st_mode)) {
                bundle->dir_fd = fd;
                bundle->open = map_new(NULL);
                r = bundle->open ? 0 : kl_error(err, -ENOMEM, NULL, "out of memory");
        } else {
                bundle->archive_fd = fd;
                fd_set_nonblock(fd, false);
                r = open_archive(bundle, tmp_fd, err);
        }
        if (r < 0)
                return kl_error_wrap(err, r, "import '%s'", path ? path : "the archive");
        *ret = KL_STEAL(bundle);
        return 0;
}

/* --- find --- */

static int find_member(Bundle *bundle, const char *name, BundleFile *ret)
{
        const Member *member = map_get(bundle->members, name);

        if (member && member->link)
                member = map_get(bundle->members, member->link);
        if (!member || member->link)
                return 1;
        *ret = (BundleFile){ bundle->archive_fd, member->offset, member->size };
        return 0;
}

static int find_file(Bundle *bundle, const char *name, BundleFile *ret, KlError **err)
{
        int fd = (int)(intptr_t)map_get(bundle->open, name) - 1;
        struct stat st;

        if (fd < 0) {
                fd = path_open_beneath(bundle->dir_fd, name, O_RDONLY | O_NONBLOCK, 0);
                if (fd == -ENOENT)
                        return 1;
                if (fd < 0)
                        return kl_error_errno(err, fd, NULL, "open '%s'", name);
                if (map_set(bundle->open, name, (void *)(intptr_t)(fd + 1)) < 0) {
                        close(fd);
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                }
        }
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return kl_error(err, -EINVAL, NULL, "'%s' is no regular file", name);
        *ret = (BundleFile){ fd, 0, (uint64_t)st.st_size };
        return 0;
}

int bundle_find(Bundle *bundle, const char *name, BundleFile *ret, KlError **err)
{
        char clean[ENTRY_PATH_MAX];

        if (entry_path_clean(name, clean) < 0 || !clean[0])
                return kl_error(err, -EINVAL, NULL, "the archive names a file '%.200s'", name);
        return bundle->dir_fd >= 0 ? find_file(bundle, clean, ret, err)
                                   : find_member(bundle, clean, ret);
}

int bundle_read(Bundle *bundle, const char *name, size_t max, Buf *to, KlError **err)
{
        BundleFile file;
        int r = bundle_find(bundle, name, &file, err);
        char *at;

        if (r != 0)
                return r;
        if (file.size > max)
                return kl_error(err, -EFBIG, NULL, "'%s' is larger than %zu bytes", name, max);
        buf_clear(to);
        at = buf_reserve(to, (size_t)file.size);
        if (!at)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        for (size_t done = 0; done < file.size;) {
                ssize_t n = pread(file.fd, at + done, (size_t)file.size - done,
                                  (off_t)(file.offset + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return kl_error_errno(err, n < 0 ? -errno : -EPIPE, NULL, "read '%s'",
                                              name);
                done += (size_t)n;
        }
        buf_commit(to, (size_t)file.size);
        return 0;
}
