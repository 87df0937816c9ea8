/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The stream of one layer. Nothing that comes out of it is trusted before source_finish() said yes:
 * what was unpacked until then lies in a temporary directory.
 */

#include "image/worker/source-internal.h"

#include "base/str.h"
#include "image/digest-internal.h"
#include "image/worker/inflate-internal.h"

#include <openssl/evp.h>

#define SOURCE_IN_SIZE (256U << 10)

struct Source {
        SourceOptions options;
        EVP_MD_CTX *blob_hash, *diff_hash;
        Inflate *inflate;
        bool started, at_end;
        uint8_t *in, *out;
        const uint8_t *next;
        size_t avail;
        uint64_t n_in, n_out;
};

static EVP_MD_CTX *hash_new(const char *digest)
{
        const char *name = digest ? digest_algorithm(digest) : NULL;
        EVP_MD_CTX *hash = name ? EVP_MD_CTX_new() : NULL;

        if (hash && EVP_DigestInit_ex(hash, EVP_get_digestbyname(name), NULL) != 1) {
                EVP_MD_CTX_free(hash);
                return NULL;
        }
        return hash;
}

int source_new(const SourceOptions *options, Source **ret, KlError **err)
{
        KL_AUTO(source_free) Source *source = calloc(1, sizeof(*source));

        if (!source)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        source->options = *options;
        source->in = malloc(SOURCE_IN_SIZE);
        source->out = malloc(SOURCE_OUT_SIZE);
        source->diff_hash = hash_new(options->diff_id);
        source->blob_hash = hash_new(options->digest);
        if (!source->in || !source->out || !source->diff_hash ||
            (options->digest && !source->blob_hash))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        *ret = KL_STEAL(source);
        return 0;
}

Source *source_free(Source *source)
{
        if (!source)
                return NULL;
        inflate_free(source->inflate);
        EVP_MD_CTX_free(source->blob_hash);
        EVP_MD_CTX_free(source->diff_hash);
        free(source->in);
        free(source->out);
        free(source);
        return NULL;
}

uint64_t source_bytes(const Source *source)
{
        return source->n_out;
}

static ssize_t read_some(Source *source, void *to, size_t len)
{
        const SourceOptions *o = &source->options;
        ssize_t n;

        if (o->seekable && len > o->size - source->n_in)
                len = (size_t)(o->size - source->n_in);
        do
                n = o->seekable ? pread(o->fd, to, len, (off_t)(o->offset + source->n_in))
                                : read(o->fd, to, len);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

/* Fills the input buffer; sets at_end. */
static int fill(Source *source, KlError **err)
{
        const SourceOptions *o = &source->options;
        size_t len = 0;
        ssize_t n;

        do {
                n = read_some(source, source->in + len, SOURCE_IN_SIZE - len);
                if (n < 0)
                        return kl_error_errno(err, (int)n, NULL, "read the layer");
                len += (size_t)n;
                source->n_in += (uint64_t)n;
        } while (n > 0 && len < INFLATE_MAGIC_SIZE);
        if (source->n_in > o->size)
                return kl_error(err, -EINVAL, NULL,
                                "the layer is larger than the %llu bytes that "
                                "its manifest declares",
                                (unsigned long long)o->size);
        source->at_end = n == 0;
        source->next = source->in;
        source->avail = len;
        if (source->blob_hash && len > 0)
                EVP_DigestUpdate(source->blob_hash, source->in, len);
        return 0;
}

static int start(Source *source, KlError **err)
{
        InflateKind kind;
        int r = fill(source, err);

        if (r < 0)
                return r;
        source->started = true;
        kind = inflate_recognise(source->next, source->avail);
        if (kind == INFLATE_PLAIN)
                return 0;
        source->inflate = inflate_new(kind);
        return source->inflate ? 0 : kl_error(err, -ENOMEM, NULL, "out of memory");
}

static int count_out(Source *source, const void *data, size_t len, KlError **err)
{
        uint64_t max = source->options.size * LAYER_RATIO_MAX;

        source->n_out += len;
        if (source->n_out > LAYER_BYTES_FREE && source->n_out > max)
                return kl_error(err, -EFBIG, NULL,
                                "the layer of %llu bytes grows beyond %d times "
                                "its size",
                                (unsigned long long)source->options.size, LAYER_RATIO_MAX);
        EVP_DigestUpdate(source->diff_hash, data, len);
        return 0;
}

static ssize_t read_plain(Source *source, const void **ret, KlError **err)
{
        size_t len;
        int r = 0;

        if (source->avail == 0 && !source->at_end)
                r = fill(source, err);
        if (r < 0)
                return r;
        len = source->avail;
        *ret = source->next;
        source->avail = 0;
        r = len > 0 ? count_out(source, *ret, len, err) : 0;
        return r < 0 ? r : (ssize_t)len;
}

static ssize_t read_inflated(Source *source, const void **ret, KlError **err)
{
        size_t len = 0;
        int r = 0;

        while (r == 0 && len == 0) {
                r = inflate_run(source->inflate, &source->next, &source->avail, source->out,
                                SOURCE_OUT_SIZE, &len, err);
                if (r < 0 || len > 0 || source->avail > 0)
                        continue;
                if (source->at_end)
                        return inflate_finish(source->inflate, err);
                r = fill(source, err);
        }
        if (r == 0)
                r = count_out(source, source->out, len, err);
        *ret = source->out;
        return r < 0 ? r : (ssize_t)len;
}

ssize_t source_read(Source *source, const void **ret, KlError **err)
{
        int r = source->started ? 0 : start(source, err);

        if (r < 0)
                return r;
        return source->inflate ? read_inflated(source, ret, err) : read_plain(source, ret, err);
}

ssize_t source_read_to(Source *source, uint8_t *to, KlError **err)
{
        uint8_t *own = source->out;
        const void *data;
        ssize_t n;

        source->out = to;
        n = source_read(source, &data, err);
        source->out = own;
        if (n > 0 && data != to)
                memcpy(to, data, (size_t)n);
        return n;
}

uint64_t source_done(const Source *source)
{
        return source->n_in;
}

static int compare(EVP_MD_CTX *hash, const char *expected, const char *what, KlError **err)
{
        unsigned char bytes[EVP_MAX_MD_SIZE];
        char text[2 * EVP_MAX_MD_SIZE + 1];
        unsigned int len = 0;

        if (EVP_DigestFinal_ex(hash, bytes, &len) != 1)
                return kl_error(err, -EIO, NULL, "cannot compute a digest");
        hex_encode(bytes, len, text);
        if (str_eq(text, digest_hex(expected)))
                return 0;
        return kl_error(err, -EBADMSG, NULL,
                        "unexpected %s %s:%s, expected %s: failed precondition", what,
                        digest_algorithm(expected), text, expected);
}

int source_finish(Source *source, KlError **err)
{
        const SourceOptions *o = &source->options;
        const void *data;
        ssize_t n;
        int r;

        while ((n = source_read(source, &data, err)) > 0)
                ;
        if (n < 0)
                return (int)n;
        if (source->n_in != o->size)
                return kl_error(err, -EPIPE, NULL, "the layer is cut off after %llu of %llu bytes",
                                (unsigned long long)source->n_in, (unsigned long long)o->size);
        r = source->blob_hash ? compare(source->blob_hash, o->digest, "commit digest", err) : 0;
        if (r == 0)
                r = compare(source->diff_hash, o->diff_id, "diff id", err);
        return r;
}
