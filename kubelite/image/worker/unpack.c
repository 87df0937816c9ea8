/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The unpacker: one layer from standard input into a directory that is its whole world.
 *
 *     kubelite-image unpack DIRECTORY DIGEST|- DIFF-ID SIZE [OFFSET]
 *
 * With an offset standard input is a file and the layer a part of it. libarchive reads the tar
 * format; what its entries ask for is done by the writer.
 */

#include "image/worker/role-internal.h"

#include "base/str.h"
#include "codec/json.h"
#include "image/digest-internal.h"
#include "image/worker/ahead-internal.h"
#include "image/worker/confine-internal.h"
#include "image/worker/source-internal.h"
#include "image/worker/writer-internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>

#define LINK_MAX_LENGTH 4096
#define PROGRESS_BYTES (1U << 20)

typedef struct Unpack {
        Source *source;
        Ahead *ahead; /* while it has the source */
        uint64_t reported;
        Writer *writer;
        struct archive *archive;
        KlError *source_err; /* what the read callback met */
        EntryXattr xattrs[ENTRY_XATTRS_MAX];
} Unpack;

static void unpack_deinit(Unpack *u)
{
        if (u->archive)
                archive_read_free(u->archive);
        writer_free(u->writer);
        /* Its thread cannot be stopped; the process ends with it. */
        if (!u->ahead)
                source_free(u->source);
        kl_error_free(u->source_err);
}

static void report_opaque(const char *path, void *data)
{
        KL_AUTOBUF line = BUF_INIT;
        char *hex;

        buf_add_str(&line, "o ");
        hex = buf_reserve(&line, 2 * strlen(path) + 1);
        if (!hex)
                return;
        hex_encode(path, strlen(path), hex);
        buf_commit(&line, 2 * strlen(path));
        buf_add_char(&line, '\n');
        role_send(&line);
}

static void report_progress(Unpack *u, uint64_t done)
{
        if (done - u->reported < PROGRESS_BYTES)
                return;
        u->reported = done;
        role_progress(done);
}

/* --- from libarchive's entry to ours --- */

static la_ssize_t on_read(struct archive *a, void *data, const void **ret)
{
        Unpack *u = data;
        uint64_t done = u->reported;
        ssize_t n = ahead_read(u->ahead, ret, &done, &u->source_err);

        report_progress(u, done);
        if (n < 0)
                archive_set_error(a, (int)-n, "%s", kl_error_msg(u->source_err));
        return n < 0 ? ARCHIVE_FATAL : n;
}

static int archive_failed(Unpack *u, KlError **err)
{
        const char *text = archive_error_string(u->archive);

        if (u->source_err)
                return kl_error_move(err, &u->source_err);
        return kl_error(err, -EINVAL, NULL, "the layer's archive is damaged: %s",
                        text ? text : "unknown error");
}

static int collect_xattrs(Unpack *u, struct archive_entry *e, Entry *entry, KlError **err)
{
        const char *name;
        const void *value;
        size_t len;

        archive_entry_xattr_reset(e);
        while (archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK) {
                if (entry->n_xattrs == ENTRY_XATTRS_MAX)
                        return kl_error(err, -EFBIG, NULL,
                                        "'/%.200s' has too many extended "
                                        "attributes",
                                        entry->path);
                if (name)
                        u->xattrs[entry->n_xattrs++] = (EntryXattr){ name, value, len };
        }
        entry->xattrs = u->xattrs;
        return 0;
}

static int convert(Unpack *u, struct archive_entry *e, Entry *entry, KlError **err)
{
        const char *hardlink = archive_entry_hardlink(e);

        *entry = (Entry){
                .path = archive_entry_pathname(e),
                .mode = hardlink ? 0 : archive_entry_mode(e),
                .link = hardlink ? hardlink : archive_entry_symlink(e),
                .uid = (uid_t)archive_entry_uid(e),
                .gid = (gid_t)archive_entry_gid(e),
                .device = archive_entry_rdev(e),
                .size = archive_entry_size(e) > 0 ? (uint64_t)archive_entry_size(e) : 0,
                .mtime = { archive_entry_mtime(e), archive_entry_mtime_nsec(e) },
        };
        if (!entry->path || (S_ISLNK(entry->mode) && !entry->link))
                return kl_error(err, -EINVAL, NULL, "the layer has an entry without a name");
        if (entry->link && strlen(entry->link) >= LINK_MAX_LENGTH)
                return kl_error(err, -ENAMETOOLONG, NULL, "the link '/%.200s' is too long",
                                entry->path);
        if (archive_entry_uid(e) < 0 || archive_entry_uid(e) >= UINT32_MAX ||
            archive_entry_gid(e) < 0 || archive_entry_gid(e) >= UINT32_MAX)
                return kl_error(err, -EINVAL, NULL, "'/%.200s' has an owner out of range",
                                entry->path);
        return collect_xattrs(u, e, entry, err);
}

static int copy_data(Unpack *u, KlError **err)
{
        for (;;) {
                const void *data;
                size_t len;
                la_int64_t offset;
                int r = archive_read_data_block(u->archive, &data, &len, &offset);

                if (r == ARCHIVE_EOF)
                        return 0;
                if (r < ARCHIVE_WARN)
                        return archive_failed(u, err);
                r = writer_data(u->writer, data, len, (uint64_t)offset, err);
                if (r < 0)
                        return r;
        }
}

static int unpack_entries(Unpack *u, KlError **err)
{
        for (;;) {
                struct archive_entry *e;
                Entry entry;
                int r = archive_read_next_header(u->archive, &e);

                if (r == ARCHIVE_EOF)
                        return 0;
                if (r < ARCHIVE_WARN)
                        return archive_failed(u, err);
                r = convert(u, e, &entry, err);
                if (r == 0)
                        r = writer_entry(u->writer, &entry, err);
                if (r > 0)
                        r = copy_data(u, err);
                if (r < 0)
                        return r;
        }
}

static int open_archive(Unpack *u, KlError **err)
{
        u->archive = archive_read_new();
        if (!u->archive)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        archive_read_support_format_tar(u->archive);
        archive_read_support_format_empty(u->archive);
        if (archive_read_open(u->archive, u, NULL, on_read, NULL) != ARCHIVE_OK)
                return archive_failed(u, err);
        return 0;
}

static int finish(Unpack *u, KlError **err)
{
        int r = ahead_finish(u->ahead, err);

        if (r < 0)
                return r;
        u->ahead = NULL;
        role_progress(source_done(u->source));
        return source_finish(u->source, err);
}

static int unpack(const SourceOptions *options, const char *directory, Unpack *u, KlError **err)
{
        KL_AUTOFD int root = -1;
        int r = source_new(options, &u->source, err);

        if (r == 0)
                r = confine_unpacker(directory, err);
        if (r < 0)
                return r;
        r = ahead_new(u->source, &u->ahead, err);
        if (r == 0)
                r = confine_unpacker_calls(err);
        if (r < 0)
                return r;
        ahead_go(u->ahead);
        root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return kl_error_errno(err, -errno, NULL, "open the layer's directory");
        r = writer_new(root, report_opaque, NULL, &u->writer, err);
        if (r == 0)
                r = open_archive(u, err);
        if (r == 0)
                r = unpack_entries(u, err);
        if (r == 0)
                r = writer_finish(u->writer, err);
        return r == 0 ? finish(u, err) : r;
}

static int parse_arguments(int argc, char **argv, SourceOptions *ret, KlError **err)
{
        *ret = (SourceOptions){ .fd = STDIN_FILENO };
        if (argc < 5 || argc > 6 || !digest_is_valid(argv[3]) ||
            (!str_eq(argv[2], "-") && !digest_is_valid(argv[2])) ||
            str_to_u64(argv[4], UINT64_MAX / LAYER_RATIO_MAX, &ret->size) < 0)
                return kl_error(err, -EINVAL, NULL, "wrong arguments for the unpacker");
        ret->digest = str_eq(argv[2], "-") ? NULL : argv[2];
        ret->diff_id = argv[3];
        if (argc == 6) {
                ret->seekable = true;
                if (str_to_u64(argv[5], INT64_MAX, &ret->offset) < 0)
                        return kl_error(err, -EINVAL, NULL, "wrong offset for the unpacker");
        }
        return 0;
}

int role_unpack(int argc, char **argv)
{
        __attribute__((cleanup(unpack_deinit))) Unpack u = { 0 };
        KL_AUTOERR err = NULL;
        KL_AUTOBUF line = BUF_INIT;
        SourceOptions options;
        JsonWriter w = JSON_WRITER(&line);
        int r = parse_arguments(argc, argv, &options, &err);

        umask(0);
        /* names are bytes; without this libarchive would refuse those that are not ASCII */
        setlocale(LC_CTYPE, "C.UTF-8");
        if (r == 0)
                r = unpack(&options, argv[1], &u, &err);
        if (r < 0) {
                role_fail(err);
                /* Nothing that an exit would clean up may go while the other thread runs. */
                _exit(1);
        }
        buf_add_str(&line, "r ");
        jw_object(&w);
        jw_kint(&w, "entries", (int64_t)writer_entries(u.writer));
        jw_kint(&w, "bytes", (int64_t)source_bytes(u.source));
        jw_end(&w);
        buf_add_char(&line, '\n');
        role_send(&line);
        return 0;
}
