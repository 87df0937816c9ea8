/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_STATUS_INTERNAL_H
#define KUBELITE_IMAGE_STATUS_INTERNAL_H

#include "base/error.h"

#include <stdint.h>

/*
 * What kubelite-image tells who started it, on standard output, one line each:
 *
 *     P <layer digest or -> <phase> <done bytes> <total bytes>
 *     R {"id": …, "names": […]}         the last line, done
 *     E {"code", "reason", "message"}   the last line, failed
 *
 * At most STATUS_LINE_MAX bytes a line; progress comes at most each STATUS_INTERVAL_MS per layer,
 * but for the first and the last of a phase.
 */
#define STATUS_LINE_MAX (256U << 10)
#define STATUS_INTERVAL_MS 100

void status_progress(const char *layer, const char *phase, uint64_t done, uint64_t total);
void status_result(const char *id, char *const *names);
void status_error(const KlError *err);

#endif
