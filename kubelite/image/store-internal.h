/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_STORE_INTERNAL_H
#define KUBELITE_IMAGE_STORE_INTERNAL_H

#include "base/list.h"
#include "image/layout-internal.h"
#include "loop/worker.h"

/* The daemon's view of the store; shared by store.c and job.c. */

/* Workers at once, whatever the configuration allows: the node's other workers need room too. */
#define STORE_PARALLEL_MAX 16

struct ImageStore {
        Loop *loop;
        Layout *layout;
        int lock_fd;
        char *layers_dir, *worker_path, *registries;
        unsigned int max_parallel;
        void (*changed)(void *data);
        void *data;

        Map *records;
        ImageRecord **sorted; /* by first tag; rebuilt on change */
        size_t n_sorted;

        List tasks;    /* Task: running and waiting pulls and imports */
        List removals; /* Removal: running and waiting */
        unsigned int n_running;
        Worker *cleaner;
        Deferred *start; /* looks for tasks that may start */
};

/* Reads the records again (after a worker changed them) and tells who wants to know. */
int store_reload(ImageStore *store, KlError **err);

/* Removals run before pulls: a pull that finds its image there must not lose it. */
bool store_is_removing(const ImageStore *store);

/* job.c */
void store_start_tasks(ImageStore *store);
void store_free_tasks(ImageStore *store);

#endif
