/* SPDX-License-Identifier: Apache-2.0 */

/*
 * configMap, secret, downwardAPI and projected volumes: files gathered from sources, written by
 * the atomic writer whenever one of them changes. A source that goes missing or is refused later
 * leaves the files as they are.
 */

#include "volume/volume-internal.h"

#include "base/log.h"
#include "base/str.h"

#define FILES_MAX 65536

struct Payload {
        AtomicFile *files;
        size_t n;
        int64_t gid;
        uint64_t hash;
        bool fresh;   /* the volume is not there yet */
        bool waiting; /* a source has not answered yet */
};

Payload *payload_free(Payload *p)
{
        if (!p)
                return NULL;
        for (size_t i = 0; i < p->n; i++) {
                free(p->files[i].path);
                free((char *)(uintptr_t)p->files[i].data);
        }
        free(p->files);
        free(p);
        return NULL;
}
KL_DEFINE_CLEANUP(Payload *, payload_free);

/* A later source wins over an earlier one with the same path. */
static int payload_add(Payload *p, const char *path, const char *data, size_t len, uint32_t mode,
                       int64_t uid, KlError **err)
{
        char *path_copy = strdup(path), *data_copy = malloc(len + 1);
        AtomicFile *slot = NULL, *grown;

        for (size_t i = 0; i < p->n; i++)
                if (str_eq(p->files[i].path, path))
                        slot = &p->files[i];
        if (!slot && p->n < FILES_MAX) {
                grown = reallocarray(p->files, p->n + 1, sizeof(*grown));
                if (grown) {
                        p->files = grown;
                        slot = &grown[p->n++];
                        *slot = (AtomicFile){ 0 };
                }
        }
        if (!slot || !path_copy || !data_copy) {
                free(path_copy);
                free(data_copy);
                return kl_error_oom(err);
        }
        memcpy(data_copy, data, len);
        data_copy[len] = '\0';
        free(slot->path);
        free((char *)(uintptr_t)slot->data);
        *slot = (AtomicFile){ path_copy, data_copy, len, mode, uid };
        return 0;
}

/* --- sources --- */

static int add_object_items(VolumeSetup *s, const Projection *source, const ObjectRef *ref,
                            Payload *to, KlError **err)
{
        bool secret = source->kind == PROJECTION_SECRET;
        const ObjectEntry *entries;
        size_t n = object_ref_entries(ref, &entries);

        for (size_t i = 0; !source->n_items && i < n; i++)
                KL_TRY(payload_add(to, entries[i].key, entries[i].data, entries[i].len,
                                   s->volume->default_mode, -1, err));
        for (size_t i = 0; i < source->n_items; i++) {
                const KeyToPath *item = &source->items[i];
                const ObjectEntry *e = object_ref_entry(ref, item->key);

                if (!e && source->optional)
                        continue;
                if (!e)
                        return kl_error(err, -ENOENT, NULL,
                                        secret ? "references non-existent secret key: %s"
                                               : "configmap references non-existent config key: %s",
                                        item->key);
                KL_TRY(payload_add(to, item->path, e->data, e->len,
                                   item->mode >= 0 ? (uint32_t)item->mode : s->volume->default_mode,
                                   -1, err));
        }
        return 0;
}

static int add_object(VolumeSetup *s, size_t index, Payload *to, KlError **err)
{
        const Projection *source = &s->volume->sources[index];
        const ObjectRef *ref = s->refs[index];

        switch (object_ref_state(ref)) {
        case OBJECT_UNKNOWN:
                to->waiting = true;
                return 0;
        case OBJECT_PRESENT:
                return add_object_items(s, source, ref, to, err);
        case OBJECT_MISSING:
                if (source->optional)
                        return 0;
                break;
        case OBJECT_FAILED:
                break;
        }
        return kl_error(err, -ENOENT, NULL, "%s", object_ref_message(ref));
}

static int add_downward(VolumeSetup *s, const Projection *source, Payload *to, KlError **err)
{
        for (size_t i = 0; i < source->n_downward; i++) {
                const DownwardItem *item = &source->downward[i];
                KL_AUTOBUF text = BUF_INIT;

                KL_TRY(pod_field_resolve(s->set->pod, s->set->facts, &item->from, NULL, &text,
                                         err));
                if (buf_error(&text))
                        return kl_error_oom(err);
                KL_TRY(payload_add(to, item->path, buf_str(&text), text.len,
                                   item->mode >= 0 ? (uint32_t)item->mode : s->volume->default_mode,
                                   -1, err));
        }
        return 0;
}

/* The one user that all containers run as, or -1: the token is given to it alone. */
static int64_t common_user(const Pod *pod)
{
        int64_t user = -1;

        for (size_t i = 0; i < pod->n_containers; i++) {
                int64_t own = pod->containers[i].security.run_as_user;

                if (own < 0)
                        own = pod->security.run_as_user;
                if (own < 0 || (i > 0 && own != user))
                        return -1;
                user = own;
        }
        return user;
}

static int add_token(VolumeSetup *s, size_t index, Payload *to, KlError **err)
{
        const Projection *source = &s->volume->sources[index];
        int64_t user = common_user(s->set->pod);
        uint32_t mode = s->volume->default_mode;
        const char *text = token_text(s->tokens[index]);

        if (!text && !*token_error(s->tokens[index])) {
                to->waiting = true;
                return 0;
        }
        if (!text)
                return kl_error(err, -ENOENT, NULL, "%s", token_error(s->tokens[index]));
        if (user >= 0 || s->set->pod->security.fs_group >= 0)
                mode = 0600;
        return payload_add(to, source->path, text, strlen(text), mode, user, err);
}

static int gather(VolumeSetup *s, Payload *to, KlError **err)
{
        for (size_t i = 0; i < s->volume->n_sources; i++) {
                const Projection *source = &s->volume->sources[i];

                switch (source->kind) {
                case PROJECTION_CONFIG_MAP:
                case PROJECTION_SECRET:
                        KL_TRY(add_object(s, i, to, err));
                        break;
                case PROJECTION_DOWNWARD_API:
                        KL_TRY(add_downward(s, source, to, err));
                        break;
                case PROJECTION_TOKEN:
                        KL_TRY(add_token(s, i, to, err));
                        break;
                case PROJECTION_UNSUPPORTED:
                        return kl_error(err, -EOPNOTSUPP, NULL,
                                        "projections of %s are not supported by this node",
                                        source->type);
                }
        }
        return 0;
}

/* --- the volume --- */

/* Secrets and tokens never reach a disk. */
static bool needs_tmpfs(const Volume *volume)
{
        return volume->kind == VOLUME_SECRET || volume->kind == VOLUME_PROJECTED;
}

/* So that a change of the pod that does not concern the volume costs no worker. */
static uint64_t payload_hash(const Payload *p)
{
        uint64_t hash = p->n;

        for (size_t i = 0; i < p->n; i++) {
                const AtomicFile *f = &p->files[i];
                uint64_t parts[] = { hash, hash_fnv64(f->path, strlen(f->path)),
                                     hash_fnv64(f->data, f->len), f->mode, (uint64_t)f->uid };

                hash = hash_fnv64(parts, sizeof(parts));
        }
        return hash;
}

static int projected_body(void *arg)
{
        const VolumeSetup *s = arg;
        const Payload *p = s->payload;
        KL_AUTOERR err = NULL;

        if (p->fresh && (setup_make_dir(s, 0755) < 0 ||
                         (needs_tmpfs(s->volume) && setup_mount_tmpfs(s, "mode=0755") < 0)))
                return 1;
        if (atomic_write(s->path, p->files, p->n, p->gid, &err) == 0)
                return 0;
        dprintf(STDERR_FILENO, "%s", kl_error_msg(err));
        return 1;
}

static void projected_write(VolumeSetup *s);

/* What is mounted stays as it is when an update fails. */
static void projected_failed(VolumeSetup *s, const char *why)
{
        if (s->state == SETUP_READY)
                log_warning(s->set->pod->name, "Volume '%s' keeps its old content: %s",
                            s->volume->name, why);
        else
                setup_failed(s, "%s", why);
}

static void on_written(Worker *worker, WorkerResult *result, void *data)
{
        VolumeSetup *s = data;
        char how[128];

        s->worker = worker_free(s->worker);
        if (result->status == 0) {
                s->written = s->payload->hash;
                setup_ready(s);
        } else {
                worker_describe(result, SETUP_DEADLINE_MS, how, sizeof(how));
                projected_failed(s, result->errors_len ? result->errors : how);
        }
        s->payload = payload_free(s->payload);
        if (s->again)
                projected_write(s);
}

static void projected_write(VolumeSetup *s)
{
        KL_AUTO(payload_free) Payload *payload = NULL;
        KL_AUTOERR err = NULL;
        int r;

        s->again = s->worker != NULL;
        if (s->again)
                return;
        payload = calloc(1, sizeof(*payload));
        r = payload ? gather(s, payload, &err) : kl_error_oom(&err);
        if (r < 0) {
                projected_failed(s, kl_error_msg(err));
                return;
        }
        if (payload->waiting)
                return;
        payload->gid = s->set->pod->security.fs_group;
        payload->fresh = s->state != SETUP_READY;
        payload->hash = payload_hash(payload);
        if (!payload->fresh && payload->hash == s->written)
                return;
        payload_free(s->payload);
        s->payload = KL_STEAL(payload);
        setup_start_worker(s, "volume files", projected_body, on_written);
}

static void on_object(ObjectRef *ref, void *data)
{
        projected_write(data);
}

static void on_token(void *data)
{
        projected_write(data);
}

static int reference_sources(VolumeSetup *s, KlError **err)
{
        const Pod *pod = s->set->pod;
        Volumes *volumes = s->set->volumes;

        for (size_t i = 0; i < s->volume->n_sources; i++) {
                const Projection *source = &s->volume->sources[i];
                bool secret = source->kind == PROJECTION_SECRET;

                if ((secret || source->kind == PROJECTION_CONFIG_MAP) && !s->refs[i])
                        KL_TRY(object_ref_new(
                                volumes->objects, secret ? OBJECT_SECRET : OBJECT_CONFIG_MAP,
                                pod->namespace, source->object, on_object, s, &s->refs[i], err));
                if (source->kind == PROJECTION_TOKEN && !s->tokens[i])
                        KL_TRY(token_new(volumes, pod, source, on_token, s, &s->tokens[i], err));
        }
        return 0;
}

static void projected_start(VolumeSetup *s)
{
        KL_AUTOERR err = NULL;

        if (reference_sources(s, &err) < 0)
                setup_failed(s, "%s", kl_error_msg(err));
        else
                projected_write(s);
}

const VolumeOps projected_ops = {
        .start = projected_start,
        .refresh = projected_write,
};
