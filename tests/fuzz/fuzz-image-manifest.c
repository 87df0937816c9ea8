/* SPDX-License-Identifier: Apache-2.0 */

/* The same bytes as manifest or index, configuration, and list of docker save: what is decoded has
 * digests that can be checked and numbers within their limits. */

#include "base/str.h"
#include "image/digest-internal.h"
#include "image/manifest-internal.h"

#include <assert.h>

static void check_descriptor(const Descriptor *d)
{
        assert(digest_is_valid(d->digest));
        assert(d->size <= BLOB_BYTES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        Platform host = platform_host();
        DockerSaveImage *saved;
        ImageConfig config;
        Manifest manifest;
        size_t n;

        if (manifest_decode((const char *)data, size, arena, &manifest, NULL) == 0) {
                if (manifest.kind == MANIFEST_IMAGE)
                        check_descriptor(&manifest.config);
                assert(manifest.n_layers <= MANIFEST_LAYERS_MAX);
                for (size_t i = 0; i < manifest.n_layers; i++)
                        check_descriptor(&manifest.layers[i]);
                for (size_t i = 0; i < manifest.n_entries; i++)
                        check_descriptor(&manifest.entries[i]);
                manifest_choose(&manifest, &host);
        }
        if (image_config_decode((const char *)data, size, arena, &config, NULL) == 0) {
                assert(config.user && config.env && config.volumes);
                for (size_t i = 0; i < config.n_layers; i++)
                        assert(digest_is_valid(config.diff_ids[i]));
        }
        if (docker_save_decode((const char *)data, size, arena, &saved, &n, NULL) == 0)
                for (size_t i = 0; i < n; i++)
                        assert(saved[i].config && saved[i].tags && saved[i].layers);
        return 0;
}
