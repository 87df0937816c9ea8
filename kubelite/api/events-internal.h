/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_API_EVENTS_INTERNAL_H
#define KUBELITE_API_EVENTS_INTERNAL_H

#include "api/events.h"

#include <stdint.h>

/*
 * What upstream's event correlator decides, without I/O: which event a new one counts up, what is
 * aggregated, what is spam. Times are monotonic milliseconds.
 */
#define EVENTS_SIMILAR_MAX 10
#define EVENTS_WINDOW_MS (600U * 1000)
#define EVENTS_BURST 25
#define EVENTS_REFILL_MS (300U * 1000)
#define EVENTS_KNOWN_MAX 2048 /* events, aggregates, objects: each; the oldest go */

typedef struct Correlator Correlator;

Correlator *correlator_new(void);
Correlator *correlator_free(Correlator *correlator);
KL_DEFINE_CLEANUP(Correlator *, correlator_free);

/* Whether the message is to be replaced by the aggregate's, and *ret_key (to be freed) is what
 * identifies the event that is to be counted. NULL when out of memory. */
bool correlator_aggregate(Correlator *correlator, const EventObject *object, const char *type,
                          const char *reason, const char *message, uint64_t now_ms, char **ret_key);
/* Takes a token of the object; false: spam. */
bool correlator_admit(Correlator *correlator, const EventObject *object, uint64_t now_ms);
/* Forgets what is old. */
void correlator_sweep(Correlator *correlator, uint64_t now_ms);
size_t correlator_size(const Correlator *correlator);

#endif
