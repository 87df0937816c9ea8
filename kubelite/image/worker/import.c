/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Imports: OCI layouts (directory or archive) and `docker save` archives. Newer docker writes both
 * into one archive; then the layout counts, and names that only manifest.json has are added.
 *
 * Layers are unpacked from where they are by the same unpacker that pulls use, all digests
 * compared.
 */

#include "image/worker/task-internal.h"

#include "base/str.h"
#include "image/worker/bundle-internal.h"
#include "image/worker/session-internal.h"

#define INDEX_DEPTH_MAX 3

typedef struct Import {
        Layout *layout;
        Task task;
        Bundle *bundle;
        Arena *arena;
        bool pinned;
        DockerSaveImage *saved; /* of manifest.json */
        size_t n_saved;
        char **names; /* result */
} Import;

static void import_deinit(Import *import)
{
        bundle_free(import->bundle);
        task_end(&import->task);
        arena_free(import->arena);
        strv_free(import->names);
}

static int no_memory(KlError **err)
{
        return kl_error(err, -ENOMEM, NULL, "out of memory");
}

/* "docker.io/library/busybox:1"; what is no name is left out. */
static int add_name(char ***names, const char *text)
{
        __attribute__((cleanup(image_ref_deinit))) ImageRef ref = { 0 };
        KL_AUTOFREE char *name = NULL;

        if (image_ref_parse(text, &ref, NULL) < 0 || !ref.tag)
                return 0;
        free(ref.digest);
        ref.digest = NULL;
        name = image_ref_format(&ref);
        if (!name)
                return -ENOMEM;
        return strv_contains(*names, name) ? 0 : strv_add(names, name);
}

/* The name without its tag, with the digest. */
static int add_digest(char ***digests, const char *name, const char *digest)
{
        const char *colon = strrchr(name, ':');

        return strv_addf(digests, "%.*s@%s", (int)(colon - name), name, digest);
}

static int find_blob(Import *import, const char *name, uint64_t size, LayerJob *job, KlError **err)
{
        BundleFile file;
        int r = bundle_find(import->bundle, name, &file, err);

        if (r > 0)
                return kl_error(err, -ENOENT, NULL, "the archive has no '%s'", name);
        if (r == 0 && job->digest && file.size != size)
                return kl_error(err, -EBADMSG, NULL,
                                "'%s' has %llu bytes, expected %llu: failed "
                                "size validation",
                                name, (unsigned long long)file.size, (unsigned long long)size);
        if (r == 0) {
                job->file_fd = file.fd;
                job->offset = file.offset;
                job->size = file.size;
        }
        return r;
}

static int commit_image(Import *import, const TaskImage *image, KlError **err)
{
        int r = task_run(&import->task, image, err);

        for (size_t i = 0; r == 0 && image->tags && image->tags[i]; i++)
                if (!strv_contains(import->names, image->tags[i]))
                        r = strv_add(&import->names, image->tags[i]);
        if (r == 0 && (!image->tags || !image->tags[0]))
                r = strv_add(&import->names, image->id);
        return r;
}

/* --- OCI layout --- */

static void blob_name(const char *digest, char *to, size_t size)
{
        snprintf(to, size, "blobs/%s/%s", digest_algorithm(digest), digest_hex(digest));
}

static int read_document(Import *import, const Descriptor *d, size_t max, Buf *to, KlError **err)
{
        char name[DIGEST_TEXT_SIZE + 16], have[DIGEST_TEXT_SIZE];
        int r;

        blob_name(d->digest, name, sizeof(name));
        r = bundle_read(import->bundle, name, max, to, err);
        if (r > 0)
                return kl_error(err, -ENOENT, NULL, "the archive has no '%s'", name);
        if (r == 0 && (document_digest(to, d->digest, have) < 0 || !str_eq(have, d->digest)))
                return kl_error(err, -EBADMSG, NULL, "unexpected digest of '%s': %s", name, have);
        return r;
}

static int oci_jobs(Import *import, const Manifest *manifest, const ImageConfig *config,
                    TaskImage *image, KlError **err)
{
        int r = 0;

        if (config->n_layers != manifest->n_layers)
                return kl_error(err, -EINVAL, NULL,
                                "mismatched image rootfs and manifest layers: "
                                "%zu and %zu",
                                config->n_layers, manifest->n_layers);
        image->jobs = ARENA_ARRAY(import->arena, config->n_layers + 1, LayerJob);
        if (!image->jobs)
                return no_memory(err);
        for (size_t i = 0; r == 0 && i < config->n_layers; i++) {
                const Descriptor *layer = &manifest->layers[i];
                char name[DIGEST_TEXT_SIZE + 16];

                image->jobs[i] = (LayerJob){ .digest = layer->digest,
                                             .file_fd = -1,
                                             .diff_id = config->diff_ids[i] };
                image->size_bytes += layer->size;
                blob_name(layer->digest, name, sizeof(name));
                r = find_blob(import, name, layer->size, &image->jobs[i], err);
        }
        return r;
}

/* Names of the descriptor, and of manifest.json for the same configuration. */
static int oci_names(Import *import, const Descriptor *top, const char *config_digest,
                     char ***names)
{
        int r = top->name ? add_name(names, top->name) : 0;

        if (r == 0 && top->ref_name && strpbrk(top->ref_name, ":/"))
                r = add_name(names, top->ref_name);
        for (size_t i = 0; i < import->n_saved; i++) {
                const DockerSaveImage *saved = &import->saved[i];

                if (!strstr(saved->config, digest_hex(config_digest)))
                        continue;
                for (size_t k = 0; r == 0 && saved->tags[k]; k++)
                        r = add_name(names, saved->tags[k]);
        }
        return r;
}

static int import_manifest(Import *import, const Descriptor *top, const Manifest *manifest,
                           KlError **err)
{
        KL_AUTOBUF text = BUF_INIT;
        KL_AUTOSTRV names = NULL;
        KL_AUTOSTRV digests = NULL;
        ImageConfig config;
        TaskImage image = { .id = manifest->config.digest,
                            .config = &config,
                            .pinned = import->pinned,
                            .size_bytes = manifest->config.size + top->size };
        int r = read_document(import, &manifest->config, CONFIG_BYTES_MAX, &text, err);

        if (r == 0)
                r = image_config_decode(buf_str(&text), text.len, import->arena, &config, err);
        if (r == 0)
                r = oci_jobs(import, manifest, &config, &image, err);
        if (r < 0)
                return r;
        r = oci_names(import, top, image.id, &names);
        for (size_t i = 0; r == 0 && names && names[i]; i++)
                r = add_digest(&digests, names[i], top->digest);
        if (r < 0)
                return no_memory(err);
        image.tags = names;
        image.digests = digests;
        return commit_image(import, &image, err);
}

/* A descriptor of index.json: a manifest, or an index of which this platform's is taken. */
static int import_descriptor(Import *import, const Descriptor *top, KlError **err)
{
        const Descriptor *at = top;
        Platform host = platform_host();

        for (int depth = 0; depth < INDEX_DEPTH_MAX; depth++) {
                KL_AUTOBUF text = BUF_INIT;
                Manifest manifest;
                int r = read_document(import, at, MANIFEST_BYTES_MAX, &text, err);

                if (r == 0)
                        r = manifest_decode(buf_str(&text), text.len, import->arena, &manifest,
                                            err);
                if (r < 0)
                        return kl_error_wrap(err, r, "manifest %s", at->digest);
                if (manifest.kind == MANIFEST_IMAGE)
                        return import_manifest(import, top, &manifest, err);
                at = manifest_choose(&manifest, &host);
                if (!at)
                        return kl_error(err, -ENOENT, NULL,
                                        "no match for platform in manifest: "
                                        "not found");
        }
        return kl_error(err, -EINVAL, NULL, "the layout's indexes are nested too deeply");
}

static int import_layout(Import *import, const Buf *text, KlError **err)
{
        Manifest index;
        int r = manifest_decode(buf_str(text), text->len, import->arena, &index, err);

        if (r == 0 && index.kind != MANIFEST_INDEX)
                r = kl_error(err, -EINVAL, NULL, "it is no index");
        if (r < 0)
                return kl_error_wrap(err, r, "index.json");
        for (size_t i = 0; r == 0 && i < index.n_entries; i++)
                r = import_descriptor(import, &index.entries[i], err);
        return r;
}

/* --- docker save --- */

static int saved_jobs(Import *import, const DockerSaveImage *saved, const ImageConfig *config,
                      TaskImage *image, KlError **err)
{
        int r = 0;

        if (config->n_layers != saved->n_layers)
                return kl_error(err, -EINVAL, NULL,
                                "mismatched image rootfs and layers: %zu and "
                                "%zu",
                                config->n_layers, saved->n_layers);
        image->jobs = ARENA_ARRAY(import->arena, config->n_layers + 1, LayerJob);
        if (!image->jobs)
                return no_memory(err);
        for (size_t i = 0; r == 0 && i < config->n_layers; i++) {
                image->jobs[i] = (LayerJob){ .diff_id = config->diff_ids[i], .file_fd = -1 };
                r = find_blob(import, saved->layers[i], 0, &image->jobs[i], err);
                image->size_bytes += image->jobs[i].size;
        }
        return r;
}

static int import_saved(Import *import, const DockerSaveImage *saved, KlError **err)
{
        KL_AUTOBUF text = BUF_INIT;
        KL_AUTOSTRV names = NULL;
        char id[DIGEST_TEXT_SIZE];
        ImageConfig config;
        TaskImage image = { .id = id, .config = &config, .pinned = import->pinned };
        int r = bundle_read(import->bundle, saved->config, CONFIG_BYTES_MAX, &text, err);

        if (r > 0)
                return kl_error(err, -ENOENT, NULL, "the archive has no '%.200s'", saved->config);
        if (r == 0)
                r = document_digest(&text, NULL, id);
        if (r == 0)
                r = image_config_decode(buf_str(&text), text.len, import->arena, &config, err);
        image.size_bytes = text.len;
        if (r == 0)
                r = saved_jobs(import, saved, &config, &image, err);
        if (r < 0)
                return r;
        for (size_t i = 0; r == 0 && saved->tags[i]; i++)
                r = add_name(&names, saved->tags[i]);
        if (r < 0)
                return no_memory(err);
        image.tags = names;
        return commit_image(import, &image, err);
}

static int import_archive(Import *import, KlError **err)
{
        KL_AUTOBUF index = BUF_INIT;
        KL_AUTOBUF list = BUF_INIT;
        int has_list = bundle_read(import->bundle, "manifest.json", MANIFEST_BYTES_MAX, &list, err);
        int has_index = has_list < 0 ? has_list
                                     : bundle_read(import->bundle, "index.json", MANIFEST_BYTES_MAX,
                                                   &index, err);
        int r = 0;

        if (has_list < 0 || has_index < 0)
                return has_list < 0 ? has_list : has_index;
        if (has_list == 0)
                r = docker_save_decode(buf_str(&list), list.len, import->arena, &import->saved,
                                       &import->n_saved, err);
        if (r < 0)
                return kl_error_wrap(err, r, "manifest.json");
        if (has_index == 0)
                return import_layout(import, &index, err);
        if (has_list != 0)
                return kl_error(err, -EINVAL, NULL,
                                "it is neither an OCI layout nor an archive of "
                                "docker save: index.json and manifest.json are missing");
        for (size_t i = 0; r == 0 && i < import->n_saved; i++)
                r = import_saved(import, &import->saved[i], err);
        return r;
}

int task_import(Layout *layout, const char *path, int fd, bool pinned, char ***ret_names,
                KlError **err)
{
        __attribute__((cleanup(import_deinit))) Import import = {
                .layout = layout, .pinned = pinned, .task = { .tmp_fd = -1 }, .arena = arena_new()
        };
        int r = import.arena ? task_begin(&import.task, layout, err) : no_memory(err);

        if (r == 0)
                r = bundle_open(path, fd, import.task.tmp_fd, &import.bundle, err);
        if (r < 0)
                return r;
        r = import_archive(&import, err);
        if (r < 0)
                return kl_error_wrap(err, r, "import '%s'", path ? path : "the archive");
        *ret_names = KL_STEAL(import.names);
        return 0;
}
