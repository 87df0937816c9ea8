/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_METRICS_METRICS_H
#define KUBELITE_METRICS_METRICS_H

#include "metrics/families.h"

/*
 * What the daemon counts of itself, for /metrics and /metrics/probes: counters, gauges and
 * histograms with label values. The families are a table (families.h, families.c); a room counts
 * where something happens:
 *
 *     metric_add(METRIC_STARTED_PODS, 1);
 *     metric_add(METRIC_RUNTIME_OPERATIONS, 1, "start_container");
 *     metric_observe(METRIC_POD_WORKER_DURATION, seconds, "sync");
 *
 * with one string for each of the family's labels, in the table's order (an assertion counts them).
 * Counting takes a look-up in a hash table and never fails: what finds no memory or is over the
 * limit is left out. The registry is process-wide, unlike anything else here, so that
 * counting needs no way through ten callers; what is read out of it only ever describes.
 */

/* Label values come from clusters, so their number is bounded. Over it, new series of the family
 * are not made, and METRIC_SERIES_DROPPED counts what they would have been told. */
#define METRIC_SERIES_MAX 4096
#define METRIC_LABEL_VALUE_MAX 512

#define metric_add(id, n, ...) metrics_change(id, METRIC_CHANGE_ADD, n, METRIC_VALUES(__VA_ARGS__))
#define metric_set(id, value, ...)                                                                 \
        metrics_change(id, METRIC_CHANGE_SET, value, METRIC_VALUES(__VA_ARGS__))
/* Of a histogram. */
#define metric_observe(id, value, ...)                                                             \
        metrics_change(id, METRIC_CHANGE_OBSERVE, value, METRIC_VALUES(__VA_ARGS__))

/* Forgets the series whose label has this value ("pod_uid", uid), of one family or (METRIC_COUNT)
 * of all: for what does not exist any more. */
void metric_forget(MetricId id, const char *label, const char *value);
/* Forgets all series of a family: before its gauges are set anew. */
void metric_clear(MetricId id);

/* --- behind the macros --- */

typedef enum MetricChange {
        METRIC_CHANGE_ADD,
        METRIC_CHANGE_SET,
        METRIC_CHANGE_OBSERVE,
} MetricChange;

#define METRIC_VALUES(...) ((const char *const[METRIC_LABELS_MAX + 1]){ __VA_ARGS__ })

void metrics_change(MetricId id, MetricChange change, double value, const char *const *labels);

/* --- reading --- */

/* Of one series; 0 if there is none. A histogram's is its count. */
#define metric_value(id, ...) metrics_read(id, METRIC_VALUES(__VA_ARGS__))
double metrics_read(MetricId id, const char *const *labels);

/* All families of a page, sorted by name, in the text exposition format. Errors are the buffer's.
 */
void metrics_write(MetricPage page, Buf *to);

/* Forgets everything, for tests. */
void metrics_reset(void);

#endif
