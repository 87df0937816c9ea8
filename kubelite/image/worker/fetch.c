/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The fetcher: talks to one repository's endpoints. Standard input has one JSON document a line:
 * first the endpoints, then requests; answers are the lines of role-internal.h. Blobs go to
 * descriptor 3 (the unpacker's standard input) and, so that a later try can go on where this one
 * was cut off, to the file that is descriptor 4.
 */

#include "image/worker/role-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"
#include "image/digest-internal.h"
#include "image/manifest-internal.h"
#include "image/worker/confine-internal.h"
#include "image/worker/registry-internal.h"

#include <fcntl.h>
#include <sys/stat.h>

#define REQUEST_LINE_MAX (4U << 20)
#define COPY_SIZE (256U << 10)
#define PIPE_FD 3
#define PARTIAL_FD 4

typedef struct Fetch {
        Registry registry;
        Arena *arena;
        Buf input;
        int partial_fd;
        uint64_t written; /* to the partial file */
} Fetch;

static void fetch_deinit(Fetch *f)
{
        registry_deinit(&f->registry);
        arena_free(f->arena);
        buf_deinit(&f->input);
}

/* The next line of standard input, NULL at its end; valid until the next call. */
static char *next_line(Fetch *f, size_t *taken)
{
        buf_consume(&f->input, *taken);
        *taken = 0;
        for (;;) {
                char *end = f->input.len > 0 ? memchr(f->input.data, '\n', f->input.len) : NULL;
                char *to;
                ssize_t n;

                if (end) {
                        *end = '\0';
                        *taken = (size_t)(end - f->input.data) + 1;
                        return f->input.data;
                }
                to = buf_reserve(&f->input, 16384);
                if (!to)
                        return NULL;
                do
                        n = read(STDIN_FILENO, to, 16384);
                while (n < 0 && errno == EINTR);
                if (n <= 0)
                        return NULL;
                buf_commit(&f->input, (size_t)n);
        }
}

static void send_result(const Fetch *f, const HttpResponse *response)
{
        KL_AUTOBUF line = BUF_INIT;
        JsonWriter w = JSON_WRITER(&line);

        buf_add_str(&line, "r ");
        jw_object(&w);
        jw_kint(&w, "endpoint", (int64_t)f->registry.preferred);
        jw_kstr_opt(&w, "type", response->type);
        jw_kstr_opt(&w, "digest", response->digest);
        jw_kstr_opt(&w, "authorization",
                    f->registry.endpoints[f->registry.preferred].authorization);
        jw_end(&w);
        buf_add_char(&line, '\n');
        role_send(&line);
}

/* {"path", "head", "max"}: the body comes through standard output. */
static int fetch_body(Fetch *f, const Field *request, KlError **err)
{
        __attribute__((cleanup(http_response_deinit))) HttpResponse response = { 0 };
        KL_AUTOBUF body = BUF_INIT;
        KL_AUTOBUF line = BUF_INIT;
        RegistryGet get = { .body = &body };
        char *path = NULL;
        int64_t max = 0;
        int r = field_str(request, "path", f->arena, &path, err);

        if (r == 0)
                r = field_bool(request, "head", &get.head, err);
        if (r == 0)
                r = field_int(request, "max", 1, CONFIG_BYTES_MAX, &max, err);
        if (r < 0)
                return r;
        get.path = path;
        get.accept = str_starts(path, "manifests/") ? MANIFEST_ACCEPT : NULL;
        body.limit = (size_t)max;
        r = registry_get_body(&f->registry, &get, &response, err);
        if (r < 0)
                return r;
        buf_addf(&line, "b %zu\n", body.len);
        role_send(&line);
        role_send(&body);
        send_result(f, &response);
        return 0;
}

/* --- blobs --- */

/* A partial file that cannot be written (full disk) only costs the chance to resume. */
static void keep_partial(Fetch *f, const char *data, size_t len)
{
        while (len > 0 && f->partial_fd >= 0) {
                ssize_t n = pwrite(f->partial_fd, data, len, (off_t)f->written);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0) {
                        f->partial_fd = kl_close(f->partial_fd);
                        return;
                }
                f->written += (uint64_t)n;
                data += n;
                len -= (size_t)n;
        }
}

static int on_blob_bytes(const HttpResponse *response, const void *data, size_t len,
                         void *user_data)
{
        keep_partial(user_data, data, len);
        return fd_write_all(PIPE_FD, data, len);
}

/* What an earlier try has brought. */
static int replay_partial(Fetch *f, uint64_t size, RegistryBlob *blob, KlError **err)
{
        KL_AUTOFREE char *chunk = malloc(COPY_SIZE);
        struct stat st;

        if (f->partial_fd < 0)
                return 0;
        if (!chunk || fstat(f->partial_fd, &st) < 0)
                return kl_error(err, -ENOMEM, NULL, "cannot read the partial file");
        while (blob->done < (uint64_t)st.st_size && blob->done < size) {
                uint64_t left = size - blob->done;
                ssize_t n = pread(f->partial_fd, chunk, left < COPY_SIZE ? left : COPY_SIZE,
                                  (off_t)blob->done);
                int r;

                if (n < 0)
                        return kl_error_errno(err, -errno, NULL, "read the partial file");
                if (n == 0)
                        break;
                r = fd_write_all(PIPE_FD, chunk, (size_t)n);
                if (r < 0)
                        return kl_error_errno(err, r, NULL, "write what was fetched");
                blob->done += (uint64_t)n;
        }
        f->written = blob->done;
        return 0;
}

/* {"digest", "size"} */
static int fetch_blob(Fetch *f, const Field *request, KlError **err)
{
        RegistryBlob blob = { .sink = on_blob_bytes, .user_data = f };
        HttpResponse none = { 0 };
        char *digest = NULL;
        int64_t size = 0;
        int r = field_str(request, "digest", f->arena, &digest, err);

        if (r == 0)
                r = field_int(request, "size", 0, (int64_t)BLOB_BYTES_MAX, &size, err);
        if (r == 0 && !digest_is_valid(digest))
                r = field_error(request, err, "has no digest");
        if (r < 0)
                return r;
        blob.digest = digest;
        blob.size = (uint64_t)size;
        r = replay_partial(f, blob.size, &blob, err);
        if (r == 0)
                r = registry_get_blob(&f->registry, &blob, err);
        if (r < 0)
                return r;
        close(PIPE_FD);
        send_result(f, &none);
        return 0;
}

static int serve(Fetch *f, const char *line, bool first, KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        Field request;
        int r = json_parse(line, strlen(line), &document, err);

        if (r < 0)
                return r;
        if (first)
                return registry_init(&f->registry, document, f->arena, err);
        request = field_root(document);
        return value_get(document, "digest") ? fetch_blob(f, &request, err)
                                             : fetch_body(f, &request, err);
}

int role_fetch(int argc, char **argv)
{
        __attribute__((cleanup(fetch_deinit))) Fetch f = {
                .partial_fd = -1, .input = BUF_INIT_LIMIT(REQUEST_LINE_MAX), .arena = arena_new()
        };
        KL_AUTOERR err = NULL;
        size_t taken = 0;
        char *line;
        int r = f.arena ? confine_fetcher(&err) : kl_error(&err, -ENOMEM, NULL, "out of memory");

        signal(SIGPIPE, SIG_IGN);
        if (fcntl(PARTIAL_FD, F_GETFD) >= 0)
                f.partial_fd = PARTIAL_FD;
        if (r < 0)
                return role_fail(err);
        for (bool first = true; (line = next_line(&f, &taken)); first = false) {
                KL_AUTOERR one = NULL;

                if (serve(&f, line, first, &one) < 0 && role_fail(one) && first)
                        return 1;
        }
        return 0;
}
