/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NODE_SYSTEM_OOM_H
#define KUBELITE_NODE_SYSTEM_OOM_H

#include "api/events.h"
#include "loop/loop.h"

#include <sys/types.h>

/*
 * Tells of processes that the kernel killed because the machine, not a group's limit, was out of
 * memory: event SystemOOM on the Node. Where the kernel's log may not be read, nothing is told.
 */
typedef struct SystemOom SystemOom;

/* node_name outlives it. */
int system_oom_new(Loop *loop, EventRecorder *events, const char *node_name, SystemOom **ret,
                   KlError **err);
SystemOom *system_oom_free(SystemOom *watch);
KL_DEFINE_CLEANUP(SystemOom *, system_oom_free);

#define OOM_TASK_SIZE 64

/* A record of /dev/kmsg; true if it tells of such a kill (Linux 5.0's "oom-kill:" line). */
bool system_oom_parse(const char *record, char ret_task[static OOM_TASK_SIZE], pid_t *ret_pid);

#endif
