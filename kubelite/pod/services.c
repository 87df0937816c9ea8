/* SPDX-License-Identifier: Apache-2.0 */

/* Service variables, as upstream's pkg/kubelet/envvars makes them: the Docker-link form too. */

#include "pod/services.h"

#include "base/log.h"
#include "base/map.h"
#include "base/str.h"

#include <ctype.h>

#define MASTER_NAMESPACE "default"
#define MASTER_NAME "kubernetes"
#define PORTS_MAX 256

typedef struct ServicePort {
        char *name, *protocol;
        int64_t port;
} ServicePort;

typedef struct Service {
        char *namespace, *name, *ip;
        ServicePort *ports;
        size_t n_ports;
} Service;

struct Services {
        ApiWatch *watch;
        Map *all; /* "ns/name" -> Service */
        bool known;
        void (*changed)(void *data);
        void *data;
};

static void service_free(void *data)
{
        Service *s = data;

        for (size_t i = 0; i < s->n_ports; i++) {
                free(s->ports[i].name);
                free(s->ports[i].protocol);
        }
        free(s->ports);
        free(s->namespace);
        free(s->name);
        free(s->ip);
        free(s);
}

static char *copy_or(const char *text, const char *fallback)
{
        return strdup(text ? text : fallback);
}

/* NULL for a service without an address (headless, external name), and when out of memory. */
static Service *service_decode(const ApiEvent *event)
{
        const Value *spec = value_get(event->object, "spec"), *ports = value_get(spec, "ports");
        const char *ip = value_get_str(spec, "clusterIP");
        size_t n = value_len(ports) < PORTS_MAX ? value_len(ports) : PORTS_MAX;
        Service *s;

        if (str_empty(ip) || str_eq(ip, "None"))
                return NULL;
        s = calloc(1, sizeof(*s));
        if (!s)
                return NULL;
        s->namespace = strdup(event->namespace);
        s->name = strdup(event->name);
        s->ip = strdup(ip);
        s->ports = calloc(n + 1, sizeof(*s->ports));
        for (size_t i = 0; s->ports && i < n; i++) {
                const Value *port = value_at(ports, i);

                s->n_ports++;
                s->ports[i].name = copy_or(value_get_str(port, "name"), "");
                s->ports[i].protocol = copy_or(value_get_str(port, "protocol"), "TCP");
                s->ports[i].port = value_int(value_get(port, "port"), 0);
                if (!s->ports[i].name || !s->ports[i].protocol)
                        break;
        }
        if (s->namespace && s->name && s->ip && s->ports && s->n_ports == n)
                return s;
        service_free(s);
        return NULL;
}

static void on_event(ApiWatch *watch, const ApiEvent *event, void *data)
{
        Services *services = data;
        char key[512];
        Service *s;

        if (event->type == API_EVENT_SYNCED) {
                bool first = !services->known;

                services->known = true;
                if (first)
                        services->changed(services->data);
                return;
        }
        if (event->type == API_EVENT_ERROR) {
                log_warning(NULL, "Services cannot be watched at the moment: %s", event->message);
                return;
        }
        snprintf(key, sizeof(key), "%s/%s", event->namespace, event->name);
        s = event->type == API_EVENT_SET ? service_decode(event) : NULL;
        if (!s)
                map_remove(services->all, key);
        else if (map_set(services->all, key, s) < 0)
                service_free(s);
}

int services_new(ApiClient *api, void (*changed)(void *data), void *data, Services **ret,
                 KlError **err)
{
        KL_AUTO(services_free) Services *s = calloc(1, sizeof(*s));
        ApiWatchSpec spec = { .path = "/api/v1/services", .func = on_event, .data = s };

        if (!s || !(s->all = map_new(service_free)))
                return kl_error_oom(err);
        s->changed = changed;
        s->data = data;
        KL_TRY(api_watch(api, &spec, &s->watch, err));
        *ret = KL_STEAL(s);
        return 0;
}

Services *services_free(Services *services)
{
        if (!services)
                return NULL;
        api_watch_free(services->watch);
        map_free(services->all);
        free(services);
        return NULL;
}

bool services_known(const Services *services)
{
        return services->known;
}

/* "my-svc" -> "MY_SVC"; to be freed. */
static char *variable_name(const char *name)
{
        char *out = strdup(name);

        for (char *p = out; p && *p; p++)
                *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        return out;
}

static char *lower_case(const char *text)
{
        char *out = strdup(text);

        for (char *p = out; p && *p; p++)
                *p = (char)tolower((unsigned char)*p);
        return out;
}

static int add_port_links(const Service *s, const char *prefix, size_t i, char ***env)
{
        const ServicePort *p = &s->ports[i];
        KL_AUTOFREE char *protocol = lower_case(p->protocol);
        int r = protocol ? 0 : -ENOMEM;
        long long port = (long long)p->port;

        if (r == 0 && i == 0)
                r = strv_addf(env, "%s_PORT=%s://%s:%lld", prefix, protocol, s->ip, port);
        if (r == 0)
                r = strv_addf(env, "%s_PORT_%lld_%s=%s://%s:%lld", prefix, port, p->protocol,
                              protocol, s->ip, port);
        if (r == 0)
                r = strv_addf(env, "%s_PORT_%lld_%s_PROTO=%s", prefix, port, p->protocol, protocol);
        if (r == 0)
                r = strv_addf(env, "%s_PORT_%lld_%s_PORT=%lld", prefix, port, p->protocol, port);
        if (r == 0)
                r = strv_addf(env, "%s_PORT_%lld_%s_ADDR=%s", prefix, port, p->protocol, s->ip);
        return r;
}

static int add_service(const Service *s, char ***env)
{
        KL_AUTOFREE char *prefix = variable_name(s->name);
        int r = prefix ? 0 : -ENOMEM;

        if (r == 0)
                r = strv_addf(env, "%s_SERVICE_HOST=%s", prefix, s->ip);
        if (r == 0 && s->n_ports)
                r = strv_addf(env, "%s_SERVICE_PORT=%lld", prefix, (long long)s->ports[0].port);
        for (size_t i = 0; r == 0 && i < s->n_ports; i++) {
                KL_AUTOFREE char *name = variable_name(s->ports[i].name);

                if (!name)
                        return -ENOMEM;
                if (*name)
                        r = strv_addf(env, "%s_SERVICE_PORT_%s=%lld", prefix, name,
                                      (long long)s->ports[i].port);
                if (r == 0)
                        r = add_port_links(s, prefix, i, env);
        }
        return r;
}

static bool is_master(const Service *s)
{
        return str_eq(s->namespace, MASTER_NAMESPACE) && str_eq(s->name, MASTER_NAME);
}

char **services_environment(const Services *services, const Pod *pod)
{
        KL_AUTOSTRV env = calloc(1, sizeof(*env));
        Service *s;

        for (size_t i = 0; env && services && map_next(services->all, &i, NULL, &s);) {
                bool linked = pod->enable_service_links && str_eq(s->namespace, pod->namespace);

                if ((is_master(s) || linked) && add_service(s, &env) < 0)
                        return NULL;
        }
        return KL_STEAL(env);
}
