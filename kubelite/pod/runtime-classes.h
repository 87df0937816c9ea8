/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_RUNTIME_CLASSES_H
#define KUBELITE_POD_RUNTIME_CLASSES_H

#include "api/client.h"

/*
 * The cluster's RuntimeClasses: which handler a class stands for. They are followed from the moment
 * that the first pod names one. Without an API server a class is its handler.
 */
typedef struct RuntimeClasses RuntimeClasses;

/* api may be NULL; changed: called when classes became known or changed. */
int runtime_classes_new(ApiClient *api, void (*changed)(void *data), void *data,
                        RuntimeClasses **ret, KlError **err);
RuntimeClasses *runtime_classes_free(RuntimeClasses *classes);
KL_DEFINE_CLEANUP(RuntimeClasses *, runtime_classes_free);

/* The handler of a class, borrowed until the next change; "" is the embedded runtime. 1: not known
 * yet, `changed` follows. -ENOENT with upstream's message. */
int runtime_classes_find(RuntimeClasses *classes, const char *name, const char **ret,
                         KlError **err);

#endif
