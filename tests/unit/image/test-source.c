/* SPDX-License-Identifier: Apache-2.0 */

/* Streams in all forms, and their limits. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "image/worker/inflate-internal.h"
#include "image/worker/scan-internal.h"
#include "image/worker/source-internal.h"

#include <fcntl.h>
#include <isa-l/igzip_lib.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <zstd.h>

#define TEXT "hello, layer"

static int memory_file(const void *data, size_t len)
{
        int fd = memfd_create("test", MFD_CLOEXEC);

        assert_true(fd >= 0 && write(fd, data, len) == (ssize_t)len && lseek(fd, 0, SEEK_SET) == 0);
        return fd;
}

static void digest_of(const void *data, size_t len, char ret[80])
{
        unsigned char bytes[EVP_MAX_MD_SIZE];
        unsigned int n;

        EVP_Digest(data, len, bytes, &n, EVP_sha256(), NULL);
        memcpy(ret, "sha256:", 7);
        hex_encode(bytes, n, ret + 7);
}

static size_t gzip_of(const char *text, unsigned char *to, size_t size)
{
        struct isal_zstream z;

        isal_deflate_stateless_init(&z);
        z.next_in = (unsigned char *)(uintptr_t)text;
        z.avail_in = (unsigned int)strlen(text);
        z.next_out = to;
        z.avail_out = (unsigned int)size;
        z.end_of_stream = 1;
        z.flush = NO_FLUSH;
        z.gzip_flag = IGZIP_GZIP;
        assert_int_equal(isal_deflate_stateless(&z), COMP_OK);
        return z.total_out;
}

/* Reads it all; the code of source_finish. */
static int run(const void *data, size_t len, uint64_t declared, const char *digest,
               const char *diff_id, KlError **err)
{
        KL_AUTO(source_free) Source *source = NULL;
        int fd = memory_file(data, len);
        SourceOptions options = {
                .fd = fd, .size = declared, .digest = digest, .diff_id = diff_id
        };
        int r = source_new(&options, &source, err);

        assert_int_equal(r, 0);
        r = source_finish(source, err);
        close(fd);
        return r;
}

static void test_forms(void **state)
{
        unsigned char gzip[256], zstd[256], twice[512];
        size_t gzip_len = gzip_of(TEXT, gzip, sizeof(gzip));
        size_t zstd_len = ZSTD_compress(zstd, sizeof(zstd), TEXT, strlen(TEXT), 3);
        char diff[80], both[80];

        digest_of(TEXT, strlen(TEXT), diff);
        digest_of(TEXT TEXT, 2 * strlen(TEXT), both);
        assert_int_equal(run(TEXT, strlen(TEXT), strlen(TEXT), diff, diff, NULL), 0);
        assert_int_equal(run(gzip, gzip_len, gzip_len, NULL, diff, NULL), 0);
        assert_int_equal(run(zstd, zstd_len, zstd_len, NULL, diff, NULL), 0);
        memcpy(twice, gzip, gzip_len);
        memcpy(twice + gzip_len, gzip, gzip_len);
        assert_int_equal(run(twice, 2 * gzip_len, 2 * gzip_len, NULL, both, NULL), 0);
        memcpy(twice, zstd, zstd_len);
        memcpy(twice + zstd_len, zstd, zstd_len);
        assert_int_equal(run(twice, 2 * zstd_len, 2 * zstd_len, NULL, both, NULL), 0);
}

static void test_lies(void **state)
{
        unsigned char gzip[256];
        size_t len = gzip_of(TEXT, gzip, sizeof(gzip));
        char diff[80], blob[80];

        digest_of(TEXT, strlen(TEXT), diff);
        digest_of(gzip, len, blob);
        assert_int_equal(run(gzip, len, len, blob, diff, NULL), 0);
        assert_int_equal(run(gzip, len, len, diff, diff, NULL), -EBADMSG);
        assert_int_equal(run(gzip, len, len, blob, blob, NULL), -EBADMSG);
        assert_int_equal(run(gzip, len, len + 1, blob, diff, NULL), -EPIPE);
        assert_int_equal(run(gzip, len, len - 1, blob, diff, NULL), -EINVAL);
        for (size_t cut = 0; cut < len; cut++)
                assert_true(run(gzip, cut, len, NULL, diff, NULL) < 0);
        gzip[len / 2] ^= 0x55;
        assert_true(run(gzip, len, len, NULL, diff, NULL) < 0);
}

/* Output of every size, with input in every size: nothing is lost between calls. */
static void test_small_buffers(void **state)
{
        unsigned char gzip[256];
        size_t len = gzip_of(TEXT, gzip, sizeof(gzip));

        for (size_t in_step = 1; in_step < 20; in_step++) {
                for (size_t out_step = 1; out_step < 20; out_step++) {
                        KL_AUTO(inflate_free) Inflate *inflate = inflate_new(INFLATE_GZIP);
                        char out[64] = "";
                        size_t n = 0;

                        for (size_t at = 0; at < len;) {
                                size_t have = len - at < in_step ? len - at : in_step, given = 1;
                                const uint8_t *in = gzip + at;

                                at += have;
                                while (have > 0 || given > 0) {
                                        uint8_t part[20];

                                        assert_int_equal(inflate_run(inflate, &in, &have, part,
                                                                     out_step, &given, NULL),
                                                         0);
                                        memcpy(out + n, part, given);
                                        n += given;
                                }
                        }
                        assert_int_equal(inflate_finish(inflate, NULL), 0);
                        assert_string_equal(out, TEXT);
                }
        }
}

static void test_ratio(void **state)
{
        static unsigned char zeros[1 << 20], small[4096], *blob;
        size_t len = ZSTD_compress(small, sizeof(small), zeros, sizeof(zeros), 1);
        size_t n = (LAYER_BYTES_FREE >> 20) + 2;
        KL_AUTOERR err = NULL;
        char diff[80];

        blob = malloc(len * n);
        for (size_t i = 0; i < n; i++)
                memcpy(blob + i * len, small, len);
        digest_of("", 0, diff);
        assert_int_equal(run(blob, len * n, len * n, NULL, diff, &err), -EFBIG);
        assert_non_null(strstr(kl_error_msg(err), "grows beyond 64 times its size"));
        free(blob);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_forms),
                cmocka_unit_test(test_lies),
                cmocka_unit_test(test_small_buffers),
                cmocka_unit_test(test_ratio),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
