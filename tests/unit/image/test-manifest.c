/* SPDX-License-Identifier: Apache-2.0 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/str.h"
#include "image/manifest-internal.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DESCRIPTOR(size) "{\"digest\":\"sha256:" HEX64 "\",\"size\":" #size "}"
#define ENTRY(hex, platform)                                                                       \
        "{\"digest\":\"sha256:" hex "0123456789abcdef0123456789abcdef0123456789abcdef"             \
        "0123456789abcde\",\"size\":1,\"platform\":{" platform "}}"

static int decode(const char *text, Manifest *ret, Arena *arena, KlError **err)
{
        return manifest_decode(text, strlen(text), arena, ret, err);
}

static void test_image(void **state)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        Manifest m;

        assert_int_equal(decode("{\"schemaVersion\":2,\"config\":" DESCRIPTOR(
                                        7) ",\"layers\":[" DESCRIPTOR(1) "," DESCRIPTOR(0) "]}",
                                &m, arena, NULL),
                         0);
        assert_int_equal(m.kind, MANIFEST_IMAGE);
        assert_int_equal(m.n_layers, 2);
        assert_int_equal(m.config.size, 7);
        assert_string_equal(m.layers[1].digest, "sha256:" HEX64);
}

static void test_refused(void **state)
{
        static const struct {
                const char *text, *why;
        } cases[] = {
                { "[]", "neither an image manifest nor an index" },
                { "{\"schemaVersion\":1}", "schema 1" },
                { "{\"config\":{\"digest\":\"x\",\"size\":1}}", "config.digest: is no digest" },
                { "{\"config\":{\"size\":1}}", "config.digest: is missing" },
                { "{\"config\":{\"digest\":\"sha256:" HEX64 "\"}}", "config: has no size" },
                { "{\"config\":" DESCRIPTOR(-1) "}", "config.size" },
                { "{\"config\":" DESCRIPTOR(9999999) "}", "larger than" },
                { "{\"config\":" DESCRIPTOR(1) ",\"layers\":[1]}",
                  "layers[0]: expected an object" },
                { "{\"config\":" DESCRIPTOR(1) ",\"layers\":[" DESCRIPTOR(99999999999999) "]}",
                  "layers[0].size" },
                { "{\"config\":" DESCRIPTOR(1) ",\"layers\":{}}", "layers: expected a list" },
                { "{\"manifests\":[{}]}", "manifests[0].digest: is missing" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                KL_AUTO(arena_free) Arena *arena = arena_new();
                KL_AUTOERR err = NULL;
                Manifest m;

                assert_int_equal(decode(cases[i].text, &m, arena, &err), -EINVAL);
                if (!strstr(kl_error_msg(err), cases[i].why))
                        fail_msg("%s: %s", cases[i].text, kl_error_msg(err));
        }
}

static void test_layer_limit(void **state)
{
        for (unsigned int n = MANIFEST_LAYERS_MAX; n <= MANIFEST_LAYERS_MAX + 1; n++) {
                KL_AUTO(arena_free) Arena *arena = arena_new();
                KL_AUTOBUF text = BUF_INIT;
                Manifest m;

                buf_add_str(&text, "{\"config\":" DESCRIPTOR(1) ",\"layers\":[");
                for (unsigned int i = 0; i < n; i++)
                        buf_addf(&text, "%s%s", i ? "," : "", DESCRIPTOR(1));
                buf_add_str(&text, "]}");
                assert_int_equal(decode(buf_str(&text), &m, arena, NULL),
                                 n <= MANIFEST_LAYERS_MAX ? 0 : -EINVAL);
        }
}

static void test_size_limit(void **state)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        KL_AUTOFREE char *text = malloc(MANIFEST_BYTES_MAX + 1);
        KL_AUTOERR err = NULL;
        Manifest m;

        memset(text, ' ', MANIFEST_BYTES_MAX + 1);
        assert_int_equal(manifest_decode(text, MANIFEST_BYTES_MAX + 1, arena, &m, &err), -EMSGSIZE);
}

static void test_platforms(void **state)
{
        static const char text[] = "{\"manifests\":[" ENTRY(
                "1",
                "\"os\":\"windows\",\"architecture\":"
                "\"amd64\"") "," ENTRY("2",
                                       "\"os\":"
                                       "\"linux\","
                                       "\"architecture\""
                                       ":\"arm\","
                                       "\"variant\":"
                                       "\"v6\"") "," ENTRY("3",
                                                           "\"os\":\"linux\","
                                                           "\"architecture\":"
                                                           "\"arm\",\"variant\":"
                                                           "\"v7\"") "," ENTRY("4",
                                                                               "\"os"
                                                                               "\":"
                                                                               "\"li"
                                                                               "nux"
                                                                               "\","
                                                                               "\"ar"
                                                                               "chit"
                                                                               "ectu"
                                                                               "re\""
                                                                               ":\"a"
                                                                               "md64"
                                                                               "\","
                                                                               "\"va"
                                                                               "rian"
                                                                               "t\":"
                                                                               "\"v3"
                                                                               "\"") "," ENTRY("5",
                                                                                               "\"o"
                                                                                               "s\""
                                                                                               ":\""
                                                                                               "lin"
                                                                                               "ux"
                                                                                               "\","
                                                                                               "\"a"
                                                                                               "rch"
                                                                                               "ite"
                                                                                               "ctu"
                                                                                               "re"
                                                                                               "\":"
                                                                                               "\"a"
                                                                                               "md6"
                                                                                               "4"
                                                                                               "\"") "," ENTRY("6",
                                                                                                               "\"os\":\"linux\","
                                                                                                               "\"architecture\":"
                                                                                                               "\"arm64\"") "," ENTRY("7",
                                                                                                                                      "\"os\":\"unknown\",\"architecture\":\"unknown\"") "]}";
        static const struct {
                Platform platform;
                char first; /* digit of the digest; '-': none */
        } cases[] = {
                { { "linux", "amd64", "" }, '5' }, { { "linux", "arm64", "v8" }, '6' },
                { { "linux", "arm", "v7" }, '3' }, { { "linux", "arm", "v6" }, '2' },
                { { "linux", "arm", "v5" }, '-' }, { { "linux", "s390x", "" }, '-' },
        };
        KL_AUTO(arena_free) Arena *arena = arena_new();
        Manifest m;

        assert_int_equal(decode(text, &m, arena, NULL), 0);
        assert_int_equal(m.kind, MANIFEST_INDEX);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const Descriptor *d = manifest_choose(&m, &cases[i].platform);

                assert_int_equal(d ? d->digest[7] : '-', cases[i].first);
        }
}

static void test_config(void **state)
{
        static const char text[] =
                "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"User\":\"1000:50\","
                "\"Env\":[\"A=b\"],"
                "\"Entrypoint\":null,\"Cmd\":[\"sh\"],\"Volumes\":{\"/data\":{},\"/x\":{}}},"
                "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:" HEX64 "\"]}}";
        KL_AUTO(arena_free) Arena *arena = arena_new();
        ImageConfig c;

        assert_int_equal(image_config_decode(text, strlen(text), arena, &c, NULL), 0);
        assert_string_equal(c.user, "1000:50");
        assert_string_equal(c.working_dir, "");
        assert_string_equal(c.env[0], "A=b");
        assert_null(c.entrypoint[0]);
        assert_string_equal(c.volumes[1], "/x");
        assert_int_equal(c.n_layers, 1);
        assert_int_equal(image_config_decode("{}", 2, arena, &c, NULL), 0);
        assert_int_equal(image_config_decode("[]", 2, arena, &c, NULL), -EINVAL);
        assert_int_equal(
                image_config_decode("{\"rootfs\":{\"diff_ids\":[\"x\"]}}", 31, arena, &c, NULL),
                -EINVAL);
}

static void test_docker_save(void **state)
{
        static const char text[] = "[{\"Config\":\"c.json\",\"RepoTags\":null,\"Layers\":[\"l\"]}]";
        KL_AUTO(arena_free) Arena *arena = arena_new();
        DockerSaveImage *images;
        size_t n;

        assert_int_equal(docker_save_decode(text, strlen(text), arena, &images, &n, NULL), 0);
        assert_int_equal(n, 1);
        assert_null(images[0].tags[0]);
        assert_string_equal(images[0].layers[0], "l");
        assert_int_equal(docker_save_decode("{}", 2, arena, &images, &n, NULL), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_image),       cmocka_unit_test(test_refused),
                cmocka_unit_test(test_layer_limit), cmocka_unit_test(test_size_limit),
                cmocka_unit_test(test_platforms),   cmocka_unit_test(test_config),
                cmocka_unit_test(test_docker_save),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
