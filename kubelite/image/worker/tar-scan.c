/* SPDX-License-Identifier: Apache-2.0 */

/* Headers of a tar file: ustar, with the long names of GNU and pax. */

#include "image/worker/scan-internal.h"

#include "base/str.h"

#define BLOCK 512
#define PAX_BYTES_MAX 65536

typedef struct Header {
        char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
        char link[100], magic[8], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
} Header;

_Static_assert(sizeof(Header) == BLOCK, "a tar header is one block");

typedef struct Scan {
        ScanRead read;
        void *read_data;
        uint64_t at;
        char name[SCAN_NAME_MAX], link[SCAN_NAME_MAX]; /* "": of the header itself */
        uint64_t pax_size;                             /* UINT64_MAX: none */
        KlError **err;
} Scan;

static int damaged(Scan *s, const char *what)
{
        return kl_error(s->err, -EINVAL, NULL, "the archive is damaged at byte %llu: %s",
                        (unsigned long long)s->at, what);
}

/* Octal, or base 256 where the first bit is set. */
static int parse_number(const char *field, size_t len, uint64_t *ret)
{
        size_t i = 0;

        *ret = 0;
        if ((unsigned char)field[0] == 0x80) {
                for (i = 1; i < len; i++) {
                        if (*ret >> 56)
                                return -ERANGE;
                        *ret = *ret << 8 | (unsigned char)field[i];
                }
                return 0;
        }
        while (i < len && field[i] == ' ')
                i++;
        for (; i < len && field[i] >= '0' && field[i] <= '7'; i++)
                *ret = *ret << 3 | (uint64_t)(field[i] - '0');
        return i == len || field[i] == ' ' || field[i] == '\0' ? 0 : -EINVAL;
}

static bool checksum_is_right(const Header *h)
{
        const unsigned char *bytes = (const unsigned char *)h;
        uint64_t sum = 0, expected;

        for (size_t i = 0; i < BLOCK; i++)
                sum += i >= offsetof(Header, checksum) && i < offsetof(Header, type) ? ' '
                                                                                     : bytes[i];
        return parse_number(h->checksum, sizeof(h->checksum), &expected) == 0 && sum == expected;
}

static void copy_field(char *to, const char *field, size_t len)
{
        size_t n = strnlen(field, len);

        memcpy(to, field, n);
        to[n] = '\0';
}

static void header_name(const Header *h, char to[static SCAN_NAME_MAX])
{
        char name[sizeof(h->name) + 1], prefix[sizeof(h->prefix) + 1];

        copy_field(name, h->name, sizeof(h->name));
        copy_field(prefix, h->prefix, sizeof(h->prefix));
        if (memcmp(h->magic, "ustar", 6) == 0 && prefix[0])
                snprintf(to, SCAN_NAME_MAX, "%s/%s", prefix, name);
        else
                snprintf(to, SCAN_NAME_MAX, "%s", name);
}

/* --- extended headers: their bytes are read as a text --- */

static int read_text(Scan *s, uint64_t size, size_t max, char *to)
{
        ssize_t n;

        if (size > max)
                return damaged(s, "an extended header is too large");
        n = s->read(s->read_data, to, (size_t)size, s->at + BLOCK);
        if (n < 0)
                return kl_error_errno(s->err, (int)n, NULL, "read the archive");
        if ((uint64_t)n < size)
                return damaged(s, "it is cut off");
        to[size] = '\0';
        return 0;
}

static int take_pax_value(Scan *s, const char *key, const char *value)
{
        char *to = str_eq(key, "path") ? s->name : str_eq(key, "linkpath") ? s->link : NULL;

        if (to) {
                if (strlen(value) >= SCAN_NAME_MAX)
                        return damaged(s, "a name is too long");
                memcpy(to, value, strlen(value) + 1);
        } else if (str_eq(key, "size") && str_to_u64(value, INT64_MAX, &s->pax_size) < 0) {
                return damaged(s, "a size is no number");
        }
        return 0;
}

/* "<length> <key>=<value>\n", length counting all of it. */
static int take_pax(Scan *s, char *text, size_t len)
{
        size_t at = 0;

        while (at < len) {
                char *space = memchr(text + at, ' ', len - at), *equals;
                uint64_t record;
                int r;

                if (!space)
                        return damaged(s, "an extended header has no length");
                *space = '\0';
                if (str_to_u64(text + at, len - at, &record) < 0 ||
                    record < (uint64_t)(space - text - (ptrdiff_t)at) + 2 ||
                    text[at + record - 1] != '\n')
                        return damaged(s, "an extended header has a wrong length");
                text[at + record - 1] = '\0';
                equals = strchr(space + 1, '=');
                if (!equals)
                        return damaged(s, "an extended header has no value");
                *equals = '\0';
                r = take_pax_value(s, space + 1, equals + 1);
                if (r < 0)
                        return r;
                at += record;
        }
        return 0;
}

static int read_pax(Scan *s, uint64_t size)
{
        char *text = malloc(PAX_BYTES_MAX + 1);
        int r = text ? read_text(s, size, PAX_BYTES_MAX, text)
                     : kl_error(s->err, -ENOMEM, NULL, "out of memory");

        if (r == 0)
                r = take_pax(s, text, (size_t)size);
        free(text);
        return r;
}

/* 1 when the header belongs to the next one. */
static int take_extension(Scan *s, const Header *h, uint64_t size)
{
        int r;

        switch (h->type) {
        case 'x':
                r = read_pax(s, size);
                break;
        case 'L':
                r = read_text(s, size, SCAN_NAME_MAX - 1, s->name);
                break;
        case 'K':
                r = read_text(s, size, SCAN_NAME_MAX - 1, s->link);
                break;
        case 'g':
                r = 0;
                break;
        default:
                return 0;
        }
        return r < 0 ? r : 1;
}

static int take_member(Scan *s, const Header *h, uint64_t size, ScanFunc func, void *data)
{
        ScanMember member = { .name = s->name, .offset = s->at + BLOCK, .size = size };

        if (!s->name[0])
                header_name(h, s->name);
        if (h->type == '1' || h->type == '2') {
                if (!s->link[0])
                        copy_field(s->link, h->link, sizeof(h->link));
                member.link = s->link;
        } else if (h->type != '0' && h->type != '\0' && h->type != '7') {
                return 0;
        }
        return func(&member, data);
}

/* 1 while there is more. */
static int scan_one(Scan *s, ScanFunc func, void *data)
{
        static const char zeros[BLOCK];
        uint64_t size;
        Header h;
        ssize_t n = s->read(s->read_data, &h, BLOCK, s->at);
        int r;

        if (n < 0)
                return kl_error_errno(s->err, (int)n, NULL, "read the archive");
        if (n == 0 || (n == BLOCK && memcmp(&h, zeros, BLOCK) == 0))
                return 0;
        if (n < BLOCK || !checksum_is_right(&h))
                return damaged(s, "there is no header");
        if (parse_number(h.size, sizeof(h.size), &size) < 0 || size > SCAN_ARCHIVE_MAX)
                return damaged(s, "a size is out of range");
        r = take_extension(s, &h, size);
        if (r < 0)
                return r;
        if (r == 0) {
                if (s->pax_size != UINT64_MAX)
                        size = s->pax_size;
                if (size > SCAN_ARCHIVE_MAX)
                        return damaged(s, "a size is out of range");
                r = take_member(s, &h, size, func, data);
                if (r < 0)
                        return r;
                s->name[0] = s->link[0] = '\0';
                s->pax_size = UINT64_MAX;
        }
        if (h.type >= '1' && h.type <= '6')
                size = 0;
        s->at += BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK;
        return s->at > SCAN_ARCHIVE_MAX ? damaged(s, "it is too large") : 1;
}

int scan_archive(ScanRead read, void *read_data, ScanFunc func, void *data, KlError **err)
{
        Scan s = { .read = read, .read_data = read_data, .pax_size = UINT64_MAX, .err = err };

        for (size_t i = 0;; i++) {
                int r;

                if (i > SCAN_MEMBERS_MAX)
                        return kl_error(err, -EFBIG, NULL, "the archive has more than %d members",
                                        SCAN_MEMBERS_MAX);
                r = scan_one(&s, func, data);
                if (r < 0 && err && !*err)
                        return kl_error_errno(err, r, NULL, "scan the archive");
                if (r <= 0)
                        return r;
        }
}
