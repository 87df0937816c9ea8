/* SPDX-License-Identifier: Apache-2.0 */

/* The daemon's side, with the real kubelite-image: imports from a layout directory, pulls that
 * fail. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/str.h"
#include "image-program.h"
#include "image/image.h"

#include <openssl/evp.h>
#include <sys/stat.h>

#define BLOCK 512

typedef struct Fixture {
        char path[32];
        Loop *loop;
        ImageStore *store;
        unsigned int n_changed, n_done;
        char *message, *reason;
        char **names;
} Fixture;

/* --- a layout of one image with one file --- */

static void digest_of(const void *data, size_t len, char ret[80])
{
        unsigned char bytes[EVP_MAX_MD_SIZE];
        unsigned int n;

        EVP_Digest(data, len, bytes, &n, EVP_sha256(), NULL);
        memcpy(ret, "sha256:", 7);
        hex_encode(bytes, n, ret + 7);
}

static void write_blob(const char *dir, const void *data, size_t len, char ret_digest[80])
{
        KL_AUTOFREE char *path = NULL;

        digest_of(data, len, ret_digest);
        path = str_format("%s/blobs/sha256/%s", dir, ret_digest + 7);
        assert_int_equal(file_replace(path, data, len, 0600, false), 0);
}

/* A tar file of one empty file. */
static void make_layer(char tar[3 * BLOCK], const char *name)
{
        unsigned int sum = 0;

        memset(tar, 0, 3 * BLOCK);
        snprintf(tar, 100, "%s", name);
        memcpy(tar + 100,
               "0000644\0"
               "0000000\0"
               "0000000\0"
               "00000000000\0"
               "00000000000\0",
               48);
        memset(tar + 148, ' ', 8);
        tar[156] = '0';
        memcpy(tar + 257,
               "ustar\0"
               "00",
               8);
        for (size_t i = 0; i < BLOCK; i++)
                sum += (unsigned char)tar[i];
        snprintf(tar + 148, 8, "%06o", sum);
}

static char *make_layout(const Fixture *f, const char *file, const char *image_name)
{
        char *dir = str_format("%s/layout-%s", f->path, file);
        KL_AUTOFREE char *blobs = str_format("%s/blobs/sha256", dir), *config = NULL,
                         *manifest = NULL;
        KL_AUTOFREE char *index = NULL, *index_path = str_format("%s/index.json", dir);
        char tar[3 * BLOCK], layer[80], config_digest[80], manifest_digest[80];

        assert_int_equal(dir_make_all(blobs, 0755), 0);
        make_layer(tar, file);
        write_blob(dir, tar, sizeof(tar), layer);
        config = str_format(
                "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"%s\"]},"
                "\"rootfs\":{\"diff_ids\":[\"%s\"]}}",
                file, layer);
        write_blob(dir, config, strlen(config), config_digest);
        manifest = str_format("{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":%zu},"
                              "\"layers\":[{\"digest\":\"%s\",\"size\":%zu}]}",
                              config_digest, strlen(config), layer, sizeof(tar));
        write_blob(dir, manifest, strlen(manifest), manifest_digest);
        index = str_format("{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"%s\",\"size\":%zu,"
                           "\"annotations\":{\"io.containerd.image.name\":\"%s\"}}]}",
                           manifest_digest, strlen(manifest), image_name);
        assert_int_equal(file_replace(index_path, index, strlen(index), 0600, false), 0);
        return dir;
}

/* --- the store --- */

static void on_changed(void *data)
{
        Fixture *f = data;

        f->n_changed++;
}

static int open_store(Fixture *f, KlError **err)
{
        KL_AUTOFREE char *dir = str_format("%s/store", f->path);
        ImageStoreOptions options = {
                .dir = dir, .worker_path = IMAGE_PROGRAM, .changed = on_changed, .data = f
        };

        return image_store_new(f->loop, &options, &f->store, err);
}

static int setup(void **state)
{
        Fixture *f = calloc(1, sizeof(*f));

        memcpy(f->path, "/tmp/klt-store-XXXXXX", 22);
        assert_non_null(mkdtemp(f->path));
        assert_int_equal(loop_new(&f->loop, NULL), 0);
        assert_int_equal(open_store(f, NULL), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        Fixture *f = *state;

        image_store_free(f->store);
        loop_free(f->loop);
        tree_remove(f->path);
        free(f->message);
        free(f->reason);
        strv_free(f->names);
        free(f);
        return 0;
}

static void note(Fixture *f, const KlError *error)
{
        free(f->message);
        free(f->reason);
        f->message = strdup(error ? kl_error_msg(error) : "");
        f->reason = strdup(kl_error_reason(error, ""));
        f->n_done++;
}

static void on_imported(ImageJob *job, char *const *names, const KlError *error, void *data)
{
        Fixture *f = data;

        f->names = strv_free(f->names);
        if (names)
                f->names = strv_copy(names);
        note(f, error);
}

static void on_pulled(ImageJob *job, const Image *image, const KlError *error, void *data)
{
        assert_true(!image == !!error);
        note(data, error);
}

static void wait_done(Fixture *f, unsigned int n)
{
        while (f->n_done < n)
                loop_turn(f->loop, true);
}

static void import(Fixture *f, const char *path)
{
        ImageImport import = { .path = path, .fd = -1, .done = on_imported, .data = f };
        unsigned int before = f->n_done;
        ImageJob *job;

        assert_int_equal(image_import(f->store, &import, &job, NULL), 0);
        wait_done(f, before + 1);
}

static void test_import_find_remove(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *one = make_layout(f, "one", "docker.io/library/one:1");
        KL_AUTOFREE char *two = make_layout(f, "two", "quay.io/x/two:2"), *path = NULL, *id = NULL;
        const Image *image;
        struct stat st;

        import(f, one);
        assert_string_equal(f->message, "");
        assert_string_equal(f->names[0], "docker.io/library/one:1");
        import(f, two);
        assert_true(f->n_changed >= 2);
        assert_string_equal(image_at(f->store, 0)->tags[0], "docker.io/library/one:1");
        assert_string_equal(image_at(f->store, 1)->tags[0], "quay.io/x/two:2");
        assert_null(image_at(f->store, 2));
        image = image_find(f->store, "one:1");
        assert_non_null(image);
        assert_string_equal(image->cmd[0], "one");
        assert_ptr_equal(image_find(f->store, image->id), image);
        assert_ptr_equal(image_find(f->store, image->digests[0]), image);
        id = strndup(image->id + 7, 12);
        assert_ptr_equal(image_find(f->store, id), image);
        id[11] = '\0';
        assert_null(image_find(f->store, id));
        assert_null(image_find(f->store, "one"));
        path = str_format("%s/%s/one", image_store_layers_dir(f->store), image->layers[0]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(image_remove(f->store, "one:1", NULL), 0);
        assert_null(image_find(f->store, "one:1"));
        assert_int_equal(image_remove(f->store, "one:1", NULL), -ENOENT);
        while (stat(path, &st) == 0)
                loop_turn(f->loop, true);
}

static void test_hold(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *one = make_layout(f, "one", "docker.io/library/one:1");
        KL_AUTOFREE char *two = make_layout(f, "two", "quay.io/x/two:2"), *id = NULL;

        import(f, one);
        id = strdup(image_find(f->store, "one:1")->id);
        assert_int_equal(image_hold(f->store, id), 0);
        assert_int_equal(image_hold(f->store, "sha256:x"), -ENOENT);
        import(f, two);
        assert_int_equal(image_remove(f->store, "one:1", NULL), -EBUSY);
        image_release(f->store, id);
        assert_int_equal(image_remove(f->store, "one:1", NULL), 0);
}

static void test_reopen(void **state)
{
        Fixture *f = *state;
        KL_AUTOFREE char *one = make_layout(f, "one", "docker.io/library/one:1");
        KL_AUTOERR err = NULL;
        ImageStore *first;

        import(f, one);
        first = f->store;
        assert_int_equal(open_store(f, &err), -EBUSY);
        image_store_free(first);
        assert_int_equal(open_store(f, NULL), 0);
        assert_non_null(image_find(f->store, "one:1"));
}

static void test_failures(void **state)
{
        Fixture *f = *state;
        ImagePull pull = { .reference = "127.0.0.1:1/none:1", .done = on_pulled, .data = f };
        KL_AUTOERR err = NULL;
        ImageJob *job, *same;

        import(f, "/nonexistent");
        assert_non_null(strstr(f->message, "open '/nonexistent'"));
        assert_int_equal(image_pull(f->store, &pull, &job, NULL), 0);
        assert_int_equal(image_pull(f->store, &pull, &same, NULL), 0);
        wait_done(f, 3);
        assert_string_equal(f->reason, "ErrImagePull");
        assert_non_null(
                strstr(f->message, "failed to pull and unpack image \"127.0.0.1:1/none:1\""));
        pull.reference = "UPPER//x:1";
        assert_int_equal(image_pull(f->store, &pull, &job, &err), -EINVAL);
}

static void test_cancel(void **state)
{
        Fixture *f = *state;
        ImagePull pull = { .reference = "127.0.0.1:1/none:1", .done = on_pulled, .data = f };
        ImageJob *first, *second;

        assert_int_equal(image_pull(f->store, &pull, &first, NULL), 0);
        assert_int_equal(image_pull(f->store, &pull, &second, NULL), 0);
        image_job_cancel(first);
        wait_done(f, 1);
        assert_int_equal(image_pull(f->store, &pull, &first, NULL), 0);
        loop_turn(f->loop, false);
        loop_turn(f->loop, false);
        image_job_cancel(first);
        assert_int_equal(image_pull(f->store, &pull, &first, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_import_find_remove), TEST(test_hold),   TEST(test_reopen),
                TEST(test_failures),           TEST(test_cancel),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
