/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A pull: resolve the reference to a manifest of this platform, get its configuration, then its
 * layers. Each document is compared with the digest by which it was asked for; only a tag is taken
 * at the registry's word.
 */

#include "image/worker/task-internal.h"

#include "base/str.h"
#include "image/digest-internal.h"
#include "image/worker/session-internal.h"
#include "image/worker/status-internal.h"

typedef struct Pull {
        Layout *layout;
        ImageRef ref;
        RegistryPlan *plan;
        Session session;
        Arena *arena;
        char target[DIGEST_TEXT_SIZE]; /* what the reference means: manifest or index */
        Manifest manifest;
        ImageConfig config;
        uint64_t documents_bytes;
} Pull;

static void pull_deinit(Pull *pull)
{
        session_end(&pull->session);
        registry_plan_free(pull->plan);
        image_ref_deinit(&pull->ref);
        arena_free(pull->arena);
}

/* The documents' digest, compared with the one that was asked for. */
static int get_target(Pull *pull, const Buf **ret_body, KlError **err)
{
        const char *asked = pull->ref.digest ? pull->ref.digest : pull->ref.tag;
        KL_AUTOFREE char *path = str_format("manifests/%s", asked);
        int r;

        if (!path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (pull->ref.digest) {
                snprintf(pull->target, sizeof(pull->target), "%s", pull->ref.digest);
                return session_get_verified(&pull->session, path, pull->ref.digest, 0,
                                            MANIFEST_BYTES_MAX, ret_body, err);
        }
        r = session_get(&pull->session, path, false, MANIFEST_BYTES_MAX, ret_body, NULL, err);
        if (r < 0)
                return r;
        r = document_digest(*ret_body, NULL, pull->target);
        return r < 0 ? kl_error_errno(err, r, NULL, "compute a digest") : 0;
}

static int choose_platform(Pull *pull, KlError **err)
{
        Platform host = platform_host();
        const Descriptor *chosen = manifest_choose(&pull->manifest, &host);
        KL_AUTOFREE char *path = NULL;
        const Buf *body;
        int r;

        if (!chosen)
                return kl_error(err, -ENOENT, NULL, "no match for platform in manifest: not found");
        path = str_format("manifests/%s", chosen->digest);
        if (!path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = session_get_verified(&pull->session, path, chosen->digest, chosen->size,
                                 MANIFEST_BYTES_MAX, &body, err);
        if (r < 0)
                return r;
        pull->documents_bytes += body->len;
        r = manifest_decode(buf_str(body), body->len, pull->arena, &pull->manifest, err);
        if (r == 0 && pull->manifest.kind != MANIFEST_IMAGE)
                r = kl_error(err, -EINVAL, NULL, "the index names another index for this platform");
        return r < 0 ? kl_error_wrap(err, r, "manifest %s", chosen->digest) : 0;
}

static int resolve(Pull *pull, KlError **err)
{
        const Buf *body;
        int r = get_target(pull, &body, err);

        if (r < 0)
                return r;
        pull->documents_bytes += body->len;
        r = manifest_decode(buf_str(body), body->len, pull->arena, &pull->manifest, err);
        if (r < 0)
                return kl_error_wrap(err, r, "manifest %s", pull->target);
        return pull->manifest.kind == MANIFEST_INDEX ? choose_platform(pull, err) : 0;
}

static int check_config(const Pull *pull, KlError **err)
{
        Platform host = platform_host();
        const ImageConfig *c = &pull->config;

        if (c->n_layers != pull->manifest.n_layers)
                return kl_error(err, -EINVAL, NULL,
                                "mismatched image rootfs and manifest layers: "
                                "%zu and %zu",
                                c->n_layers, pull->manifest.n_layers);
        if ((!str_empty(c->os) && !str_eq(c->os, host.os)) ||
            (!str_empty(c->architecture) && !str_eq(c->architecture, host.architecture)))
                return kl_error(err, -ENOENT, NULL,
                                "no match for platform in manifest: it is for "
                                "%s/%s: not found",
                                c->os, c->architecture);
        return 0;
}

static int get_config(Pull *pull, KlError **err)
{
        const Descriptor *d = &pull->manifest.config;
        KL_AUTOFREE char *path = str_format("blobs/%s", d->digest);
        const Buf *body;
        int r;

        if (!path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = session_get_verified(&pull->session, path, d->digest, d->size, CONFIG_BYTES_MAX, &body,
                                 err);
        if (r < 0)
                return r;
        pull->documents_bytes += body->len;
        r = image_config_decode(buf_str(body), body->len, pull->arena, &pull->config, err);
        if (r == 0)
                r = check_config(pull, err);
        return r < 0 ? kl_error_wrap(err, r, "configuration %s", d->digest) : 0;
}

static LayerJob *make_jobs(Pull *pull)
{
        LayerJob *jobs = ARENA_ARRAY(pull->arena, pull->config.n_layers + 1, LayerJob);

        for (size_t i = 0; jobs && i < pull->config.n_layers; i++)
                jobs[i] = (LayerJob){
                        .digest = pull->manifest.layers[i].digest,
                        .size = pull->manifest.layers[i].size,
                        .diff_id = pull->config.diff_ids[i],
                        .file_fd = -1,
                };
        return jobs;
}

static uint64_t compressed_size(const Pull *pull)
{
        uint64_t size = pull->documents_bytes;

        for (size_t i = 0; i < pull->manifest.n_layers; i++)
                size += pull->manifest.layers[i].size;
        return size;
}

/* "docker.io/library/busybox:latest" and "docker.io/library/busybox@sha256:…". */
static int make_names(const Pull *pull, char ***tags, char ***digests)
{
        int r = strv_addf(digests, "%s/%s@%s", pull->ref.host, pull->ref.repository, pull->target);

        if (r == 0 && pull->ref.tag)
                r = strv_addf(tags, "%s/%s:%s", pull->ref.host, pull->ref.repository,
                              pull->ref.tag);
        return r;
}

static int pull_layers(Pull *pull, const PullOptions *options, char ***ret_names, KlError **err)
{
        __attribute__((cleanup(task_end))) Task task = { .tmp_fd = -1 };
        KL_AUTOSTRV tags = NULL;
        KL_AUTOSTRV digests = NULL;
        TaskImage image = { .id = pull->manifest.config.digest,
                            .config = &pull->config,
                            .size_bytes = compressed_size(pull),
                            .pinned = options->pinned,
                            .jobs = make_jobs(pull),
                            .plan = pull->plan };
        int r;

        if (!image.jobs || make_names(pull, &tags, &digests) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        image.tags = tags;
        image.digests = digests;
        r = task_begin(&task, pull->layout, err);
        if (r == 0)
                r = task_run(&task, &image, err);
        for (size_t i = 0; r == 0 && tags && tags[i]; i++)
                r = strv_add(ret_names, tags[i]);
        for (size_t i = 0; r == 0 && digests[i]; i++)
                r = strv_add(ret_names, digests[i]);
        return r;
}

/* --- a tag that has not moved --- */

static bool record_has(const ImageRecord *record, const char *tag, const char *digest)
{
        return strv_contains(record->tags, tag) && strv_contains(record->digests, digest);
}

/*
 * Asks by HEAD what the tag of an image that is here means now: registries count no pull for that.
 * 1 when it is the same, 0 when it is not or is not known.
 */
static int is_unchanged(Pull *pull, char **ret_id, char ***ret_names, KlError **err)
{
        KL_AUTO(map_free) Map *records = NULL;
        KL_AUTOFREE char *tag = NULL, *path = NULL, *digest = NULL, *by_digest = NULL;
        const Buf *body;
        ImageRecord *record;
        bool known = false;
        int r = layout_load(pull->layout, NULL, NULL, &records, err);

        if (r < 0 || pull->ref.digest)
                return r < 0 ? r : 0;
        tag = image_ref_format(&pull->ref);
        path = str_format("manifests/%s", pull->ref.tag);
        if (!tag || !path)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        for (size_t i = 0; map_next(records, &i, NULL, &record);)
                known |= strv_contains(record->tags, tag);
        if (!known || session_get(&pull->session, path, true, 1, &body, &digest, NULL) < 0 ||
            !digest)
                return 0;
        by_digest = str_format("%s/%s@%s", pull->ref.host, pull->ref.repository, digest);
        for (size_t i = 0; by_digest && map_next(records, &i, NULL, &record);) {
                if (!record_has(record, tag, by_digest))
                        continue;
                *ret_id = strdup(record->image.id);
                r = strv_add(ret_names, tag);
                if (r == 0)
                        r = strv_add(ret_names, by_digest);
                return !*ret_id || r < 0 ? kl_error(err, -ENOMEM, NULL, "out of memory") : 1;
        }
        return 0;
}

static int pull_run(Pull *pull, const PullOptions *options, char **ret_id, char ***ret_names,
                    KlError **err)
{
        int r = session_start(&pull->session, pull->plan, err);

        if (r < 0)
                return r;
        status_progress(NULL, "resolving", 0, 0);
        r = is_unchanged(pull, ret_id, ret_names, err);
        if (r != 0)
                return r < 0 ? r : 0;
        r = resolve(pull, err);
        if (r < 0)
                return kl_error_wrap(err, r, "failed to resolve image");
        r = get_config(pull, err);
        if (r < 0)
                return r;
        session_end(&pull->session);
        r = pull_layers(pull, options, ret_names, err);
        if (r == 0)
                *ret_id = strdup(pull->manifest.config.digest);
        return r == 0 && !*ret_id ? kl_error(err, -ENOMEM, NULL, "out of memory") : r;
}

int task_pull(Layout *layout, const char *reference, const PullOptions *options, char **ret_id,
              char ***ret_names, KlError **err)
{
        __attribute__((cleanup(pull_deinit)))
        Pull pull = { .layout = layout,
                      .session = { .to_fd = -1, .child = { .fd = -1 } },
                      .arena = arena_new() };
        KL_AUTOFREE char *name = NULL;
        int r = image_ref_parse(reference, &pull.ref, err);

        if (r < 0)
                return r;
        name = image_ref_format(&pull.ref);
        if (!pull.arena || !name)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = registry_plan_new(options->registries, &pull.ref, options->auth, &pull.plan, err);
        if (r == 0) {
                pull.plan->stall_s = options->stall_s;
                r = pull_run(&pull, options, ret_id, ret_names, err);
        }
        return r < 0 ? kl_error_wrap(err, r, "failed to pull and unpack image \"%s\"", name) : 0;
}
