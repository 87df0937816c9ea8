/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sets of volumes. Each volume is set up on its own; the set is ready when all are. A volume that
 * failed is tried again after a back-off that the whole set shares; one that waits for an object of
 * the API goes on when that comes.
 */

#include "volume/volume-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define RETRY_MIN_MS 500
#define RETRY_MAX_MS 122000
#define TMPFS_MAGIC_NUMBER 0x01021994

int volumes_new(Loop *loop, const VolumesOptions *options, Volumes **ret, KlError **err)
{
        Volumes *v = calloc(1, sizeof(*v));

        if (!v || !(v->root_dir = strdup(options->root_dir))) {
                free(v);
                return kl_error_oom(err);
        }
        v->loop = loop;
        v->objects = options->objects;
        v->client = options->client;
        *ret = v;
        return 0;
}

Volumes *volumes_free(Volumes *volumes)
{
        if (!volumes)
                return NULL;
        worker_free(volumes->collector);
        free(volumes->root_dir);
        free(volumes);
        return NULL;
}

const VolumeOps *volume_ops(const Volume *volume)
{
        switch (volume->kind) {
        case VOLUME_EMPTY_DIR:
                return &empty_dir_ops;
        case VOLUME_HOST_PATH:
                return &host_path_ops;
        case VOLUME_CONFIG_MAP:
        case VOLUME_SECRET:
        case VOLUME_DOWNWARD_API:
        case VOLUME_PROJECTED:
                return &projected_ops;
        case VOLUME_UNSUPPORTED:
                return NULL;
        }
        return NULL;
}

static const char *plugin_name(const Volume *volume)
{
        switch (volume->kind) {
        case VOLUME_EMPTY_DIR:
                return "empty-dir";
        case VOLUME_CONFIG_MAP:
                return "configmap";
        case VOLUME_SECRET:
                return "secret";
        case VOLUME_DOWNWARD_API:
                return "downward-api";
        case VOLUME_PROJECTED:
                return "projected";
        case VOLUME_HOST_PATH:
        case VOLUME_UNSUPPORTED:
                return NULL;
        }
        return NULL;
}

/* --- results of single volumes --- */

void setup_ready(VolumeSetup *s)
{
        free(s->error);
        s->error = NULL;
        s->state = SETUP_READY;
        deferred_schedule(s->set->turn);
}

void setup_failed(VolumeSetup *s, const char *format, ...)
{
        KL_AUTOBUF text = BUF_INIT;
        va_list args;

        buf_addf(&text, "MountVolume.SetUp failed for volume \"%s\" : ", s->volume->name);
        va_start(args, format);
        buf_vaddf(&text, format, args);
        va_end(args);
        free(s->error);
        s->error = buf_steal(&text);
        s->state = SETUP_FAILED;
        deferred_schedule(s->set->turn);
}

void setup_start_worker(VolumeSetup *s, const char *name, WorkerBody body, WorkerFunc done)
{
        KL_AUTOERR err = NULL;
        WorkerSpec spec = {
                .name = name,
                .body = body,
                .body_arg = s,
                .deadline_ms = SETUP_DEADLINE_MS,
                .done = done,
                .data = s,
        };

        if (worker_start(s->set->volumes->loop, &spec, &s->worker, &err) < 0)
                setup_failed(s, "%s", kl_error_msg(err));
}

int setup_make_dir(const VolumeSetup *s, mode_t mode)
{
        int r = dir_make_all(s->path, 0750);

        if (r == 0 && chmod(s->path, mode) < 0)
                r = -errno;
        if (r < 0)
                dprintf(STDERR_FILENO, "make '%s': %s", s->path, strerror(-r));
        return r;
}

int setup_mount_tmpfs(const VolumeSetup *s, const char *options)
{
        struct statfs fs;

        if (statfs(s->path, &fs) == 0 && fs.f_type == TMPFS_MAGIC_NUMBER &&
            path_is_mount(AT_FDCWD, s->path))
                return 0;
        if (mount("tmpfs", s->path, "tmpfs", MS_NODEV | MS_NOSUID, options) < 0) {
                int r = -errno;

                dprintf(STDERR_FILENO, "mount a tmpfs: %s", strerror(-r));
                return r;
        }
        return 0;
}

/* --- the set --- */

static void set_tell(PodVolumes *set, VolumesState state)
{
        set->state = state;
        set->func(set, set->data);
}

static void set_start_pending(PodVolumes *set)
{
        for (size_t i = 0; i < set->n_setups; i++) {
                VolumeSetup *s = &set->setups[i];
                const VolumeOps *ops = volume_ops(s->volume);

                if (s->state == SETUP_READY || s->worker)
                        continue;
                if (!ops)
                        setup_failed(s, "volumes of type %s are not supported by this node",
                                     s->volume->type);
                else
                        ops->start(s);
        }
}

static void schedule_retry(PodVolumes *set)
{
        if (timer_active(set->retry))
                return;
        set->retry_ms = set->retry_ms ? set->retry_ms * 2 : RETRY_MIN_MS;
        if (set->retry_ms > RETRY_MAX_MS)
                set->retry_ms = RETRY_MAX_MS;
        set->failures++;
        timer_start(set->retry, set->retry_ms);
}

static void on_turn(Deferred *turn, void *data)
{
        PodVolumes *set = data;
        size_t ready = 0;
        const char *error = NULL;

        if (set->teardown || set->state == VOLUMES_GONE)
                return;
        for (size_t i = 0; i < set->n_setups; i++) {
                ready += set->setups[i].state == SETUP_READY;
                if (set->setups[i].state == SETUP_FAILED && !error)
                        error = set->setups[i].error;
        }
        free(set->message);
        set->message = error ? strdup(error) : NULL;
        if (error) {
                schedule_retry(set);
                set_tell(set, VOLUMES_FAILED);
                return;
        }
        /* Once ready, a set stays ready: a failing refresh keeps what is there. */
        if (ready == set->n_setups && set->state != VOLUMES_READY)
                set_tell(set, VOLUMES_READY);
}

static void on_retry(Timer *timer, void *data)
{
        PodVolumes *set = data;

        if (!set->teardown)
                set_start_pending(set);
}

static int setup_init(PodVolumes *set, const Volume *volume, VolumeSetup *s, KlError **err)
{
        const char *plugin = plugin_name(volume);

        s->set = set;
        s->volume = volume;
        s->fd = -1;
        if (plugin)
                s->path = str_format("%s/pods/%s/volumes/kubernetes.io~%s/%s",
                                     set->volumes->root_dir, set->pod->uid, plugin, volume->name);
        else
                s->path = strdup(volume->host_path ? volume->host_path : "");
        s->refs = calloc(volume->n_sources + 1, sizeof(*s->refs));
        s->tokens = calloc(volume->n_sources + 1, sizeof(*s->tokens));
        return s->path && s->refs && s->tokens ? 0 : kl_error_oom(err);
}

static void setup_deinit(VolumeSetup *s)
{
        worker_free(s->worker);
        payload_free(s->payload);
        for (size_t i = 0; i < s->volume->n_sources; i++) {
                if (s->refs)
                        object_ref_free(s->refs[i]);
                if (s->tokens)
                        token_free(s->tokens[i]);
        }
        free(s->refs);
        free(s->tokens);
        free(s->path);
        free(s->error);
        kl_close(s->fd);
}

int pod_volumes_new(Volumes *volumes, const Pod *pod, const PodFacts *facts, VolumesFunc func,
                    void *data, PodVolumes **ret, KlError **err)
{
        KL_AUTO(pod_volumes_free) PodVolumes *set = calloc(1, sizeof(*set));

        if (!set)
                return kl_error_oom(err);
        set->volumes = volumes;
        set->pod = pod;
        set->facts = facts;
        set->func = func;
        set->data = data;
        set->setups = calloc(pod->n_volumes + 1, sizeof(*set->setups));
        set->retry = timer_new(volumes->loop, on_retry, set);
        set->turn = deferred_new(volumes->loop, on_turn, set);
        if (!set->setups || !set->retry || !set->turn)
                return kl_error_oom(err);
        for (size_t i = 0; i < pod->n_volumes; i++) {
                set->n_setups++;
                KL_TRY(setup_init(set, &pod->volumes[i], &set->setups[i], err));
        }
        set_start_pending(set);
        deferred_schedule(set->turn);
        *ret = KL_STEAL(set);
        return 0;
}

PodVolumes *pod_volumes_free(PodVolumes *set)
{
        if (!set)
                return NULL;
        for (size_t i = 0; i < set->n_setups; i++)
                setup_deinit(&set->setups[i]);
        free(set->setups);
        timer_free(set->retry);
        deferred_free(set->turn);
        worker_free(set->teardown);
        free(set->message);
        free(set);
        return NULL;
}

void pod_volumes_update(PodVolumes *set, const Pod *pod, const PodFacts *facts)
{
        set->pod = pod;
        set->facts = facts;
        for (size_t i = 0; i < set->n_setups; i++) {
                VolumeSetup *s = &set->setups[i];
                const Volume *volume = pod_volume(pod, s->volume->name);
                const VolumeOps *ops;

                /* A pod's volumes never change in the API; without its volume the old text is kept
                 * from use. */
                if (!volume || volume->n_sources != s->volume->n_sources)
                        continue;
                s->volume = volume;
                ops = volume_ops(volume);
                if (ops && ops->refresh && s->state == SETUP_READY && !set->teardown)
                        ops->refresh(s);
        }
}

VolumesState pod_volumes_state(const PodVolumes *set)
{
        return set->state;
}

const char *pod_volumes_message(const PodVolumes *set, unsigned int *ret_failures)
{
        *ret_failures = set->failures;
        return set->message;
}

static const VolumeSetup *find_setup(const PodVolumes *set, const char *name)
{
        for (size_t i = 0; set && i < set->n_setups; i++)
                if (str_eq(set->setups[i].volume->name, name))
                        return &set->setups[i];
        return NULL;
}

const char *pod_volume_path(const PodVolumes *set, const char *name)
{
        const VolumeSetup *s = find_setup(set, name);

        return s && s->state == SETUP_READY ? s->path : NULL;
}

int pod_volume_source(const PodVolumes *set, const char *name, const char **ret_path, int *ret_fd,
                      KlError **err)
{
        const VolumeSetup *s = find_setup(set, name);

        if (!s || s->state != SETUP_READY)
                return kl_error(err, -ENOENT, NULL, "volume '%s' is not set up", name);
        *ret_path = s->path;
        *ret_fd = s->fd;
        return 0;
}
