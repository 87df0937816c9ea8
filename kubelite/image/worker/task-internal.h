/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_TASK_INTERNAL_H
#define KUBELITE_IMAGE_TASK_INTERNAL_H

#include "image/layout-internal.h"
#include "image/manifest-internal.h"
#include "image/worker/layers-internal.h"

/* What pull and import have in common: an image's documents are there, its layers are to come. */

/* A layer that disappears between the look and the commit is fetched again, so often. */
#define TASK_COMMIT_TRIES 3

typedef struct Task {
        Layout *layout;
        int tmp_fd;
        char tmp_name[33];
} Task;

int task_begin(Task *task, Layout *layout, KlError **err);
/* Removes what is left in the temporary directory. */
void task_end(Task *task);

typedef struct TaskImage {
        const char *id;
        const ImageConfig *config;
        uint64_t size_bytes;
        char *const *tags;    /* may be NULL */
        char *const *digests; /* may be NULL */
        bool pinned;
        LayerJob *jobs; /* one a diff id */
        const RegistryPlan *plan;
} TaskImage;

/* Fetches, unpacks, commits. What was good is kept even when another layer failed. */
int task_run(Task *task, const TaskImage *image, KlError **err);

typedef struct PullOptions {
        const char *registries; /* or NULL */
        unsigned int stall_s;   /* 0: the default */
        const ImageAuth *auth;  /* or NULL */
        bool pinned;
} PullOptions;

int task_pull(Layout *layout, const char *reference, const PullOptions *options, char **ret_id,
              char ***ret_names, KlError **err);

/* path: archive or layout directory; fd: an open archive, when path is NULL. */
int task_import(Layout *layout, const char *path, int fd, bool pinned, char ***ret_names,
                KlError **err);

#endif
