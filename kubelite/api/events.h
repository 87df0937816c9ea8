/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_API_EVENTS_H
#define KUBELITE_API_EVENTS_H

#include "api/client.h"

/*
 * Kubernetes events (core/v1), as upstream's recorder makes them: equal events (object, type,
 * reason, message, field path) within 10 minutes are one event whose count grows by patch; more
 * than 10 events of one object and reason are aggregated ("(combined from similar events): …"); per
 * object a token bucket of 25 events refilled at one per 5 minutes drops spam. A queue of
 * EVENTS_QUEUE_MAX; when it is full the oldest goes and one warning is logged per minute. Sent
 * after statuses, never critical.
 */
#define EVENTS_QUEUE_MAX 512

typedef struct EventRecorder EventRecorder;

typedef struct EventObject {
        const char *api_version; /* "v1" */
        const char *kind;        /* "Pod", "Node" */
        const char *namespace;   /* "" for a Node: the event goes to "default" */
        const char *name;
        const char *uid;
        const char *resource_version; /* or NULL */
        const char *field_path;       /* "spec.containers{c}", or NULL */
} EventObject;

/* client may be NULL (standalone node): events are logged only. component: "kubelet". */
int event_recorder_new(Loop *loop, ApiClient *client, const char *component, const char *host,
                       EventRecorder **ret, KlError **err);
EventRecorder *event_recorder_free(EventRecorder *recorder);
KL_DEFINE_CLEANUP(EventRecorder *, event_recorder_free);

/* type: "Normal" or "Warning". Everything is copied. */
void event_emit(EventRecorder *recorder, const EventObject *object, const char *type,
                const char *reason, const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
