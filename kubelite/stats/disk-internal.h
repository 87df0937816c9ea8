/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_STATS_DISK_INTERNAL_H
#define KUBELITE_STATS_DISK_INTERNAL_H

#include "stats/disk.h"

/* disk-measure.c; blocks. 0 or -errno. */
int disk_measure(const DiskPath *path, DiskUsage *ret);

/* For tests. */
void disk_service_set_deadlines(DiskService *service, uint64_t batch_ms, uint64_t slow_ms);

#endif
