/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_API_QUANTITY_H
#define KUBELITE_API_QUANTITY_H

#include <stdint.h>

/*
 * resource.Quantity ("100m", "1.5Gi", "2e3"), rounded up as upstream's Value() and MilliValue() do,
 * and saturating at INT64_MAX. 0, or -EINVAL.
 */
int quantity_value(const char *text, int64_t *ret);
int quantity_milli(const char *text, int64_t *ret);

/* Canonical text: decimal SI for cpu ("1500m", "2"), binary SI where exact ("24684084Ki"). */
#define QUANTITY_SIZE 32
void quantity_format_milli(int64_t milli, char ret[static QUANTITY_SIZE]);
void quantity_format_bytes(int64_t bytes, char ret[static QUANTITY_SIZE]);

#endif
