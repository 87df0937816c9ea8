/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_MANIFEST_INTERNAL_H
#define KUBELITE_IMAGE_MANIFEST_INTERNAL_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Manifests, indexes and configurations of images: docker schema 2 and OCI. Bytes in, structs in an
 * arena out; every number and digest is checked here.
 */

#define MANIFEST_BYTES_MAX (4U << 20)
#define CONFIG_BYTES_MAX (8U << 20)
#define MANIFEST_LAYERS_MAX 127
#define INDEX_ENTRIES_MAX 1000
/* 1 TiB: above, a declared size is taken for a mistake. */
#define BLOB_BYTES_MAX (1ULL << 40)

#define MANIFEST_ACCEPT                                                                            \
        "application/vnd.docker.distribution.manifest.v2+json, "                                   \
        "application/vnd.docker.distribution.manifest.list.v2+json, "                              \
        "application/vnd.oci.image.manifest.v1+json, "                                             \
        "application/vnd.oci.image.index.v1+json, */*"

typedef struct Descriptor {
        const char *media_type; /* "" when absent */
        const char *digest;     /* valid */
        uint64_t size;
        const char *name;     /* of the annotations: io.containerd.image.name, or NULL */
        const char *ref_name; /* org.opencontainers.image.ref.name, or NULL */
} Descriptor;

typedef struct Platform {
        const char *os, *architecture, *variant; /* "" */
} Platform;

/* Of the running machine: "linux", "amd64", "" or "v7". */
Platform platform_host(void);

typedef enum ManifestKind {
        MANIFEST_IMAGE,
        MANIFEST_INDEX,
} ManifestKind;

typedef struct Manifest {
        ManifestKind kind;
        /* MANIFEST_IMAGE */
        Descriptor config;
        Descriptor *layers;
        size_t n_layers;
        /* MANIFEST_INDEX: entries with their platforms (os "" when it names none) */
        Descriptor *entries;
        Platform *platforms;
        size_t n_entries;
} Manifest;

/* -EINVAL with what is wrong. */
int manifest_decode(const char *data, size_t len, Arena *arena, Manifest *ret, KlError **err);

/* The best entry of an index for a platform; NULL when there is none. */
const Descriptor *manifest_choose(const Manifest *index, const Platform *wanted);

typedef struct ImageConfig {
        const char *architecture, *os, *variant; /* "" */
        char **diff_ids;                         /* valid digests, lowest layer first */
        size_t n_layers;
        const char *user, *working_dir, *stop_signal; /* "" */
        char **env, **entrypoint, **cmd, **volumes;   /* never NULL */
} ImageConfig;

int image_config_decode(const char *data, size_t len, Arena *arena, ImageConfig *ret,
                        KlError **err);

/* manifest.json of `docker save`. */
#define DOCKER_SAVE_IMAGES_MAX 1000

typedef struct DockerSaveImage {
        const char *config; /* path within the archive */
        char **tags;
        char **layers;
        size_t n_layers;
} DockerSaveImage;

int docker_save_decode(const char *data, size_t len, Arena *arena, DockerSaveImage **ret,
                       size_t *ret_n, KlError **err);

#endif
