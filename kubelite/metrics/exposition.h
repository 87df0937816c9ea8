/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_METRICS_EXPOSITION_H
#define KUBELITE_METRICS_EXPOSITION_H

#include "base/buf.h"

#include <stdint.h>

/*
 * The Prometheus text exposition format, version 0.0.4. Errors are those of the buffer. A family's
 * samples follow its head, all in one place; that is the caller's business.
 */
#define EXPO_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

typedef enum ExpoType {
        EXPO_COUNTER,
        EXPO_GAUGE,
        EXPO_HISTOGRAM,
} ExpoType;

void expo_family(Buf *to, const char *name, const char *help, ExpoType type);

/* A sample: begin, any number of labels, end. suffix may be "". Values are escaped; bytes that are
 * no UTF-8 become U+FFFD. */
typedef struct ExpoSample {
        Buf *to;
        bool has_labels;
} ExpoSample;

ExpoSample expo_begin(Buf *to, const char *name, const char *suffix);
void expo_label(ExpoSample *sample, const char *label, const char *value);
/* time_ms 0: no timestamp. */
void expo_end(ExpoSample *sample, double value, int64_t time_ms);
void expo_end_u64(ExpoSample *sample, uint64_t value, int64_t time_ms);

/* As Prometheus reads it: whole numbers without an exponent, else the shortest text that gives the
 * same double; "+Inf", "-Inf", "NaN". */
#define EXPO_VALUE_SIZE 32
void expo_format(double value, char ret[static EXPO_VALUE_SIZE]);

#endif
