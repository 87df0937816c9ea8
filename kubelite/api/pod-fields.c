/* SPDX-License-Identifier: Apache-2.0 */

/* The downward API: fields and resources of a pod as text. */

#include "api/pod-fields.h"

#include "api/quantity.h"
#include "base/str.h"

static void add_quoted(Buf *to, const char *text)
{
        buf_add_char(to, '"');
        for (; *text; text++) {
                if (*text == '\n')
                        buf_add_str(to, "\\n");
                else if (*text == '"' || *text == '\\')
                        buf_addf(to, "\\%c", *text);
                else
                        buf_add_char(to, *text);
        }
        buf_add_char(to, '"');
}

static int compare_keys(const void *a, const void *b)
{
        return strcmp(((const KeyValue *)a)->key, ((const KeyValue *)b)->key);
}

/* key="value" lines in key order, as upstream formats maps. */
static int add_map(const KeyValues *map, Buf *to, KlError **err)
{
        KL_AUTOFREE KeyValue *sorted = calloc(map->n + 1, sizeof(*sorted));

        if (!sorted)
                return kl_error_oom(err);
        if (map->n)
                memcpy(sorted, map->items, map->n * sizeof(*sorted));
        qsort(sorted, map->n, sizeof(*sorted), compare_keys);
        for (size_t i = 0; i < map->n; i++) {
                buf_addf(to, "%s%s=", i ? "\n" : "", sorted[i].key);
                add_quoted(to, sorted[i].value);
        }
        return 0;
}

static void add_joined(char *const *list, Buf *to)
{
        for (size_t i = 0; list && list[i]; i++)
                buf_addf(to, "%s%s", i ? "," : "", list[i]);
}

/* metadata.labels['key'] and the same of annotations; 1 if path is no such thing. */
static int add_subscript(const char *path, const char *name, const KeyValues *map, Buf *to)
{
        size_t n = strlen(name), len = strlen(path);
        char key[512];
        const char *value;

        if (strncmp(path, name, n) != 0 || strncmp(path + n, "['", 2) != 0 || len < n + 4 ||
            strcmp(path + len - 2, "']") != 0 || len - n - 4 >= sizeof(key))
                return 1;
        memcpy(key, path + n + 2, len - n - 4);
        key[len - n - 4] = '\0';
        value = key_values_get(map, key);
        buf_add_str(to, value ? value : "");
        return 0;
}

static int resolve_field(const Pod *pod, const PodFacts *facts, const char *path, Buf *to,
                         KlError **err)
{
        const struct {
                const char *path, *value;
        } simple[] = {
                { "metadata.name", pod->name },
                { "metadata.namespace", pod->namespace },
                { "metadata.uid", pod->uid },
                { "spec.nodeName", facts->node_name },
                { "spec.serviceAccountName", pod->service_account },
                { "status.hostIP", facts->host_ips ? facts->host_ips[0] : NULL },
                { "status.podIP", facts->pod_ips ? facts->pod_ips[0] : NULL },
        };

        for (size_t i = 0; i < ELEMENTS(simple); i++) {
                if (str_eq(path, simple[i].path)) {
                        buf_add_str(to, simple[i].value ? simple[i].value : "");
                        return 0;
                }
        }
        if (str_eq(path, "metadata.labels"))
                return add_map(&pod->labels, to, err);
        if (str_eq(path, "metadata.annotations"))
                return add_map(&pod->annotations, to, err);
        if (str_eq(path, "status.podIPs") || str_eq(path, "status.hostIPs")) {
                add_joined(path[7] == 'p' ? facts->pod_ips : facts->host_ips, to);
                return 0;
        }
        if (add_subscript(path, "metadata.labels", &pod->labels, to) == 0 ||
            add_subscript(path, "metadata.annotations", &pod->annotations, to) == 0)
                return 0;
        return kl_error(err, -EINVAL, NULL, "unsupported fieldPath: %s", path);
}

/* A limit that is not set is the node's allocatable amount; a request that is not set is 0. */
static int64_t resource_amount(const Container *c, const PodFacts *facts, const char *resource,
                               bool limit)
{
        const KeyValues *list = limit ? &c->resources.limits : &c->resources.requests;
        bool cpu = str_eq(resource, "cpu");
        int64_t value = cpu ? resource_milli(list, resource) : resource_value(list, resource);

        if (value > 0 || (value == 0 && !limit))
                return value;
        if (!limit)
                return 0;
        if (cpu)
                return facts->allocatable_cpu_milli;
        if (str_eq(resource, "memory"))
                return facts->allocatable_memory;
        return str_eq(resource, "ephemeral-storage") ? facts->allocatable_storage : 0;
}

static int resolve_resource(const Pod *pod, const PodFacts *facts, const FieldSelector *field,
                            const Container *container, Buf *to, KlError **err)
{
        const Container *c = field->container ? pod_container(pod, field->container) : container;
        bool limit = str_starts(field->resource, "limits.");
        const char *name = strchr(field->resource, '.');
        int64_t amount, divisor = 1;
        bool cpu;

        if (!c)
                return kl_error(err, -EINVAL, NULL, "container %s not found",
                                field->container ? field->container : "");
        if (!name || (!limit && !str_starts(field->resource, "requests.")))
                return kl_error(err, -EINVAL, NULL, "unsupported container resource : %s",
                                field->resource);
        name++;
        cpu = str_eq(name, "cpu");
        amount = resource_amount(c, facts, name, limit);
        if (field->divisor) {
                int r = cpu ? quantity_milli(field->divisor, &divisor)
                            : quantity_value(field->divisor, &divisor);

                if (r < 0)
                        return kl_error(err, r, NULL, "divisor '%s' is no quantity",
                                        field->divisor);
        } else if (cpu) {
                divisor = 1000;
        }
        if (divisor <= 0)
                divisor = cpu ? 1000 : 1;
        buf_addf(to, "%lld", (long long)(amount / divisor + (amount % divisor != 0)));
        return 0;
}

int pod_field_resolve(const Pod *pod, const PodFacts *facts, const FieldSelector *field,
                      const Container *container, Buf *to, KlError **err)
{
        if (field->field_path)
                return resolve_field(pod, facts, field->field_path, to, err);
        return resolve_resource(pod, facts, field, container, to, err);
}
