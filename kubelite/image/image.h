/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_IMAGE_H
#define KUBELITE_IMAGE_IMAGE_H

#include "base/error.h"
#include "loop/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Images on this node: references, the content-addressed store, pulls and imports. All network and
 * all parsing of archives happen in kubelite-image processes; the daemon reads only what those have
 * verified and written into the store.
 */

/* --- references (docker's grammar: github.com/distribution/reference) --- */

typedef struct ImageRef {
        char *host;       /* "docker.io", "127.0.0.1:5000" */
        char *repository; /* "library/busybox" */
        char *tag;        /* NULL with a digest only; "latest" by default */
        char *digest;     /* "sha256:…", or NULL */
} ImageRef;

/* -EINVAL with reason InvalidImageName and upstream's text. */
int image_ref_parse(const char *text, ImageRef *ret, KlError **err);
void image_ref_deinit(ImageRef *ref);
/* "docker.io/library/busybox:latest", "host/repo@sha256:…"; to be freed. */
char *image_ref_format(const ImageRef *ref);

/* --- the store --- */

typedef struct ImageStore ImageStore;

typedef struct ImageStoreOptions {
        const char *dir;         /* --image-dir */
        const char *worker_path; /* kubelite-image */
        const char *registries;  /* registries.yaml, read again before each pull; may be missing */
        unsigned int max_parallel_pulls; /* 0: no limit; serializeImagePulls: 1 */
        void (*changed)(void *data);     /* an image came or went */
        void *data;
} ImageStoreOptions;

/* Opens, makes the directory if it is missing, removes what crashed pulls left. */
int image_store_new(Loop *loop, const ImageStoreOptions *options, ImageStore **ret, KlError **err);
ImageStore *image_store_free(ImageStore *store);
KL_DEFINE_CLEANUP(ImageStore *, image_store_free);

typedef struct Image {
        const char *id;       /* "sha256:<config digest>" */
        char *const *tags;    /* "docker.io/library/busybox:latest", … */
        char *const *digests; /* "docker.io/library/busybox@sha256:<manifest digest>", … */
        uint64_t size_bytes;  /* compressed, as kubelets report it */
        /* unpacked layers, lowest first: directory names beneath image_store_layers_dir() */
        char *const *layers;
        /* of the image's configuration */
        const char *user; /* "", "1000", "app:staff" */
        char *const *env;
        char *const *entrypoint;
        char *const *cmd;
        const char *working_dir; /* "" */
        const char *stop_signal; /* "", "SIGQUIT", "9" */
        char *const *volumes;
        const char *architecture, *os;
        bool pinned;
} Image;

/* By reference (normalised here) or id or id prefix of 12 and more digits; NULL: not here.
 * Borrowed, valid until the next change of the store. */
const Image *image_find(ImageStore *store, const char *reference);
/* All, by first tag; for (size_t i = 0; (image = image_at(store, i)); i++). */
const Image *image_at(ImageStore *store, size_t i);
/* Absolute path of the directory that holds the layers; borrowed, valid while the store is. */
const char *image_store_layers_dir(const ImageStore *store);

/* Protects from removal while a container uses it (counted, by id; not kept over restarts). */
int image_hold(ImageStore *store, const char *id);
void image_release(ImageStore *store, const char *id);
bool image_is_held(const ImageStore *store, const char *id);

/* Removes a tag, and the image and its unused layers with its last one. -EBUSY while held, -ENOENT.
 */
int image_remove(ImageStore *store, const char *reference, KlError **err);

/* --- pull and import --- */

typedef struct ImageJob ImageJob;

typedef struct ImageProgress {
        const char *layer; /* digest, or NULL for the whole */
        const char *phase; /* "resolving", "fetching", "unpacking", "committing", "exists" */
        uint64_t done_bytes, total_bytes;
} ImageProgress;

typedef struct ImageAuth {
        const char *username, *password; /* or */
        const char *identity_token, *registry_token;
} ImageAuth;

typedef struct ImagePull {
        const char *reference;
        const ImageAuth *auth;                                       /* NULL: anonymous */
        void (*progress)(const ImageProgress *progress, void *data); /* may be NULL */
        /* image is NULL on failure; error.reason: ErrImagePull, RegistryUnavailable,
         * InvalidImageName, SignatureValidationFailed, … */
        void (*done)(ImageJob *job, const Image *image, const KlError *error, void *data);
        void *data;
} ImagePull;

/* Equal references that are being pulled share one worker. Freed by its callback's return, or by
 * image_job_cancel (the worker stops when nobody waits for it). */
int image_pull(ImageStore *store, const ImagePull *pull, ImageJob **ret, KlError **err);

typedef struct ImageImport {
        const char
                *path; /* OCI layout directory or archive, docker save archive; gzip or zstd too */
        int fd;        /* or an open archive (path NULL), used during the call only; -1 */
        bool pin;      /* not for collection: what was brought by hand cannot be pulled again */
        void (*progress)(const ImageProgress *progress, void *data);
        /* names: what was imported, NULL-terminated */
        void (*done)(ImageJob *job, char *const *names, const KlError *error, void *data);
        void *data;
} ImageImport;

int image_import(ImageStore *store, const ImageImport *import, ImageJob **ret, KlError **err);
ImageJob *image_job_cancel(ImageJob *job);
KL_DEFINE_CLEANUP(ImageJob *, image_job_cancel);

#endif
