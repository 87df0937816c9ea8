/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The scanner: reads an image archive on standard input for the main process of an import.
 *
 *     kubelite-image scan kind       how it is compressed
 *     kubelite-image scan inflate    writes it inflated to descriptor 3
 *     kubelite-image scan list       where its files are
 *
 * "list" says a line for each member: "f <offset> <size> <hex of the name>", or "l <hex of the
 * name> <hex of the target>" for a link. Only headers are read: pax and GNU long names, pax sizes;
 * everything else of the tar format does not occur in image archives.
 */

#include "image/worker/role-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "image/worker/confine-internal.h"
#include "image/worker/inflate-internal.h"
#include "image/worker/scan-internal.h"

#define OUT_FD 3
#define INFLATE_IN_SIZE (256U << 10)
#define INFLATE_OUT_SIZE (512U << 10)

/* --- list --- */

static ssize_t read_at(void *data, void *to, size_t len, uint64_t offset)
{
        size_t done = 0;

        while (done < len) {
                ssize_t n =
                        pread(STDIN_FILENO, (char *)to + done, len - done, (off_t)(offset + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        return (ssize_t)done;
}

static void add_hex(Buf *line, const char *text)
{
        char *to = buf_reserve(line, 2 * strlen(text) + 1);

        if (!to)
                return;
        hex_encode(text, strlen(text), to);
        buf_commit(line, 2 * strlen(text));
}

static int report_member(const ScanMember *member, void *data)
{
        KL_AUTOBUF line = BUF_INIT_LIMIT(ROLE_LINE_MAX);

        if (member->link) {
                buf_add_str(&line, "l ");
                add_hex(&line, member->name);
                buf_add_char(&line, ' ');
                add_hex(&line, member->link);
        } else {
                buf_addf(&line, "f %llu %llu ", (unsigned long long)member->offset,
                         (unsigned long long)member->size);
                add_hex(&line, member->name);
        }
        buf_add_char(&line, '\n');
        if (buf_error(&line) == 0)
                role_send(&line);
        return buf_error(&line);
}

/* --- inflate --- */

static int read_input(uint8_t *to, size_t *ret_len, KlError **err)
{
        ssize_t n = fd_read_all(STDIN_FILENO, to, INFLATE_IN_SIZE);

        if (n < 0)
                return kl_error_errno(err, (int)n, NULL, "read the archive");
        *ret_len = (size_t)n;
        return 0;
}

static int write_out(const void *data, size_t len, uint64_t *total, KlError **err)
{
        int r;

        *total += len;
        if (*total > SCAN_ARCHIVE_MAX)
                return kl_error(err, -EFBIG, NULL, "the archive is larger than %llu bytes",
                                (unsigned long long)SCAN_ARCHIVE_MAX);
        r = fd_write_all(OUT_FD, data, len);
        return r < 0 ? kl_error_errno(err, r, NULL, "write the archive") : 0;
}

static int inflate_all(uint8_t *in, uint8_t *out, KlError **err)
{
        KL_AUTO(inflate_free) Inflate *inflate = NULL;
        const uint8_t *next = in;
        uint64_t total = 0;
        size_t len, given;
        InflateKind kind;
        int r = read_input(in, &len, err);

        kind = r == 0 ? inflate_recognise(in, len) : INFLATE_PLAIN;
        if (r == 0 && kind != INFLATE_PLAIN && !(inflate = inflate_new(kind)))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        while (r == 0 && len > 0 && !inflate) {
                r = write_out(in, len, &total, err);
                if (r == 0)
                        r = read_input(in, &len, err);
        }
        while (r == 0 && inflate) {
                r = inflate_run(inflate, &next, &len, out, INFLATE_OUT_SIZE, &given, err);
                if (r == 0 && given > 0)
                        r = write_out(out, given, &total, err);
                if (r < 0 || given > 0 || len > 0)
                        continue;
                next = in;
                r = read_input(in, &len, err);
                if (r == 0 && len == 0)
                        return inflate_finish(inflate, err);
        }
        return r;
}

static int run_inflate(KlError **err)
{
        KL_AUTOFREE uint8_t *in = malloc(INFLATE_IN_SIZE), *out = malloc(INFLATE_OUT_SIZE);

        if (!in || !out)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        return inflate_all(in, out, err);
}

static int run_kind(KlError **err)
{
        static const char *const names[] = { "plain", "gzip", "zstd" };
        KL_AUTOBUF line = BUF_INIT;
        uint8_t magic[INFLATE_MAGIC_SIZE];
        ssize_t n = read_at(NULL, magic, sizeof(magic), 0);

        if (n < 0)
                return kl_error_errno(err, (int)n, NULL, "read the archive");
        buf_addf(&line, "k %s\n", names[inflate_recognise(magic, (size_t)n)]);
        role_send(&line);
        return 0;
}

int role_scan(int argc, char **argv)
{
        static const char done[] = "r {}\n";
        KL_AUTOERR err = NULL;
        int r = confine_reader(&err);

        if (r == 0 && argc == 2 && str_eq(argv[1], "inflate"))
                r = run_inflate(&err);
        else if (r == 0 && argc == 2 && str_eq(argv[1], "kind"))
                r = run_kind(&err);
        else if (r == 0)
                r = scan_archive(read_at, NULL, report_member, NULL, &err);
        if (r < 0)
                return role_fail(err);
        fd_write_all(STDOUT_FILENO, done, strlen(done));
        return 0;
}
