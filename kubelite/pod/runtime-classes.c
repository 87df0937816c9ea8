/* SPDX-License-Identifier: Apache-2.0 */

#include "pod/runtime-classes.h"

#include "base/log.h"
#include "base/map.h"
#include "base/str.h"

#define CLASSES_PATH "/apis/node.k8s.io/v1/runtimeclasses"

struct RuntimeClasses {
        ApiClient *api;
        ApiWatch *watch; /* NULL until the first pod asks */
        Map *handlers;   /* by class */
        bool known;
        void (*changed)(void *data);
        void *data;
};

static void set_class(RuntimeClasses *c, const ApiEvent *event)
{
        const char *handler = value_get_str(event->object, "handler");
        char *copy = event->type == API_EVENT_SET && handler ? strdup(handler) : NULL;

        if (!copy)
                map_remove(c->handlers, event->name);
        else if (map_set(c->handlers, event->name, copy) < 0)
                free(copy);
}

static void on_event(ApiWatch *watch, const ApiEvent *event, void *data)
{
        RuntimeClasses *c = data;

        switch (event->type) {
        case API_EVENT_SET:
        case API_EVENT_DELETED:
                set_class(c, event);
                break;
        case API_EVENT_SYNCED:
                c->known = true;
                break;
        case API_EVENT_ERROR:
                log_warning(NULL, "RuntimeClasses cannot be watched at the moment: %s",
                            event->message);
                return;
        }
        if (c->known)
                c->changed(c->data);
}

int runtime_classes_find(RuntimeClasses *c, const char *name, const char **ret, KlError **err)
{
        ApiWatchSpec spec = { .path = CLASSES_PATH, .func = on_event, .data = c };

        if (!c->api) {
                *ret = name;
                return 0;
        }
        if (!c->watch)
                KL_TRY(api_watch(c->api, &spec, &c->watch, err));
        if (!c->known)
                return 1;
        *ret = map_get(c->handlers, name);
        return *ret ? 0
                    : kl_error(err, -ENOENT, NULL,
                               "failed to get RuntimeClass \"%s\": "
                               "runtimeclass.node.k8s.io \"%s\" not found",
                               name, name);
}

int runtime_classes_new(ApiClient *api, void (*changed)(void *data), void *data,
                        RuntimeClasses **ret, KlError **err)
{
        KL_AUTO(runtime_classes_free) RuntimeClasses *c = calloc(1, sizeof(*c));

        if (!c || !(c->handlers = map_new(free)))
                return kl_error_oom(err);
        c->api = api;
        c->changed = changed;
        c->data = data;
        *ret = KL_STEAL(c);
        return 0;
}

RuntimeClasses *runtime_classes_free(RuntimeClasses *c)
{
        if (!c)
                return NULL;
        api_watch_free(c->watch);
        map_free(c->handlers);
        free(c);
        return NULL;
}
