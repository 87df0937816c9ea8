/* SPDX-License-Identifier: Apache-2.0 */

/* From an image's verified configuration to its record in the store. */

#include "image/worker/task-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "image/worker/status-internal.h"

int task_begin(Task *task, Layout *layout, KlError **err)
{
        task->layout = layout;
        task->tmp_fd = -1;
        return layout_make_tmp(layout, &task->tmp_fd, task->tmp_name, err);
}

void task_end(Task *task)
{
        if (task->tmp_fd < 0)
                return;
        tree_remove_at(task->layout->tmp_fd, task->tmp_name);
        task->tmp_fd = kl_close(task->tmp_fd);
}

static char *const *copy_strv(Arena *arena, char *const *v)
{
        char **copy = ARENA_ARRAY(arena, strv_len(v) + 1, char *);

        for (size_t i = 0; copy && v && v[i]; i++) {
                copy[i] = arena_strdup(arena, v[i]);
                if (!copy[i])
                        return NULL;
        }
        return copy;
}

static int fill_record(ImageRecord *record, const TaskImage *from)
{
        const ImageConfig *c = from->config;
        Image *image = &record->image;
        Arena *arena = record->arena;
        int r = 0;

        image->id = arena_strdup(arena, from->id);
        image->size_bytes = from->size_bytes;
        image->pinned = from->pinned;
        image->user = arena_strdup(arena, c->user);
        image->working_dir = arena_strdup(arena, c->working_dir);
        image->stop_signal = arena_strdup(arena, c->stop_signal);
        image->architecture = arena_strdup(arena, c->architecture);
        image->os = arena_strdup(arena, c->os);
        image->env = copy_strv(arena, c->env);
        image->entrypoint = copy_strv(arena, c->entrypoint);
        image->cmd = copy_strv(arena, c->cmd);
        image->volumes = copy_strv(arena, c->volumes);
        if (!image->id || !image->user || !image->working_dir || !image->stop_signal ||
            !image->architecture || !image->os || !image->env || !image->entrypoint ||
            !image->cmd || !image->volumes)
                return -ENOMEM;
        for (size_t i = 0; r == 0 && from->tags && from->tags[i]; i++)
                r = image_record_add_tag(record, from->tags[i]);
        for (size_t i = 0; r == 0 && from->digests && from->digests[i]; i++)
                r = image_record_add_digest(record, from->digests[i]);
        return r;
}

static void fill_layers(const Task *task, const TaskImage *image, LayoutLayer *layers)
{
        for (size_t i = 0; i < image->config->n_layers; i++) {
                const LayerJob *job = &image->jobs[i];

                layers[i] = (LayoutLayer){
                        .diff_id = job->diff_id,
                        .tmp_dir_fd = job->done ? task->tmp_fd : -1,
                        .tmp_name = job->tmp_name,
                        .size_bytes = job->unpacked_bytes,
                };
        }
}

static int run_once(Task *task, const TaskImage *image, ImageRecord *record, KlError **err)
{
        KL_AUTOFREE LayoutLayer *layers = calloc(image->config->n_layers + 1, sizeof(*layers));
        LayerSet set = { task->layout, image->jobs,    image->config->n_layers,
                         task->tmp_fd, task->tmp_name, image->plan };
        LayoutCommit commit = { layers, image->config->n_layers, record };
        int r;

        if (!layers)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = layers_run(&set, err);
        fill_layers(task, image, layers);
        if (r < 0) {
                commit.record = NULL;
                layout_commit(task->layout, &commit, NULL);
                return r;
        }
        status_progress(NULL, "committing", image->size_bytes, image->size_bytes);
        r = layout_commit(task->layout, &commit, err);
        for (size_t i = 0; i < image->config->n_layers; i++)
                image->jobs[i].done = false;
        return r;
}

int task_run(Task *task, const TaskImage *image, KlError **err)
{
        for (int tries = 0; tries < TASK_COMMIT_TRIES; tries++) {
                KL_AUTO(image_record_free) ImageRecord *record = image_record_new();
                int r;

                if (!record || fill_record(record, image) < 0)
                        return kl_error(err, -ENOMEM, NULL, "out of memory");
                r = run_once(task, image, record, err);
                if (r <= 0)
                        return r;
        }
        return kl_error(err, -EAGAIN, NULL, "layers are being removed while they are used");
}
