/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Validation of a decoded pod: what upstream's API server refuses (pkg/apis/core/validation), so
 * that a manifest in the static pod directory is held to the same. Security is in pod-security.c.
 */

#include "api/pod-internal.h"

#include "base/buf.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <ctype.h>

#define HOSTNAME_OVERRIDE_MAX 64
#define PORT_NAME_MAX 15
#define ENV_FILE_KEY_MAX 128

static bool is_address(const char *text)
{
        unsigned char raw[sizeof(struct in6_addr)];

        return inet_pton(AF_INET, text, raw) == 1 || inet_pton(AF_INET6, text, raw) == 1;
}

/* A member that has to be one of the values, or absent or empty. */
static int check_enum(const Field *object, const char *key, const char *value,
                      const char *const *values, KlError **err)
{
        Field f = field_get(object, key);
        KL_AUTOBUF list = BUF_INIT;

        if (str_empty(value))
                return 0;
        for (size_t i = 0; values[i]; i++) {
                if (str_eq(value, values[i]))
                        return 0;
                buf_addf(&list, "%s\"%s\"", i ? ", " : "", values[i]);
        }
        return field_error(&f, err, "Unsupported value: \"%s\": supported values: %s", value,
                           buf_str(&list));
}

/* --- names and network files --- */

static int check_label(const Field *spec, const char *key, const char *value, KlError **err)
{
        Field f = field_get(spec, key);

        if (str_empty(value) || name_is_dns1123_label(value))
                return 0;
        return field_error(&f, err, "'%s' is no DNS-1123 label", value);
}

static int check_hostname_override(const Field *spec, const Pod *pod, KlError **err)
{
        const char *name = pod->hostname_override;
        Field f = field_get(spec, "hostnameOverride");

        if (!name)
                return 0;
        if (!name_is_dns1123_subdomain(name) || strlen(name) > HOSTNAME_OVERRIDE_MAX)
                return field_error(&f, err,
                                   "'%s' is no DNS-1123 subdomain of at most %d characters", name,
                                   HOSTNAME_OVERRIDE_MAX);
        if (pod->host_network)
                return field_error(&f, err, "Forbidden: may not be set when hostNetwork is true");
        if (pod->set_hostname_as_fqdn)
                return field_error(&f, err,
                                   "Forbidden: may not be set when setHostnameAsFQDN is true");
        return 0;
}

/* As subdomains, with underscores, a closing dot, and the root alone. */
static bool is_search_domain(const char *text)
{
        size_t n = strlen(text);
        KL_AUTOFREE char *copy = strndup(text, n > 1 && text[n - 1] == '.' ? n - 1 : n);

        if (!copy || str_eq(text, "."))
                return copy;
        for (char *p = copy; *p; p++)
                if (*p == '_')
                        *p = 'x';
        return name_is_dns1123_subdomain(copy);
}

static int check_dns(const Field *spec, const Pod *pod, KlError **err)
{
        static const char *const policies[] = { "ClusterFirstWithHostNet", "ClusterFirst",
                                                "Default", "None", NULL };
        Field config = field_get(spec, "dnsConfig"), servers = field_get(&config, "nameservers"),
              searches = field_get(&config, "searches");

        KL_TRY(check_enum(spec, "dnsPolicy", pod->dns_policy, policies, err));
        if (str_eq(pod->dns_policy, "None") && (!pod->dns_nameservers || !*pod->dns_nameservers))
                return field_error(&servers, err,
                                   "must provide at least one DNS nameserver when `dnsPolicy` is "
                                   "None");
        for (size_t i = 0; pod->dns_nameservers && pod->dns_nameservers[i]; i++) {
                Field f = field_at(&servers, i);

                if (!is_address(pod->dns_nameservers[i]))
                        return field_error(&f, err, "'%s' is no IP address",
                                           pod->dns_nameservers[i]);
        }
        for (size_t i = 0; pod->dns_searches && pod->dns_searches[i]; i++) {
                Field f = field_at(&searches, i);

                if (!is_search_domain(pod->dns_searches[i]))
                        return field_error(&f, err, "'%s' is no DNS-1123 subdomain",
                                           pod->dns_searches[i]);
        }
        return 0;
}

static int check_aliases(const Field *spec, const Pod *pod, KlError **err)
{
        Field list = field_get(spec, "hostAliases");

        for (size_t i = 0; i < pod->n_host_aliases; i++) {
                const HostAlias *alias = &pod->host_aliases[i];
                Field f = field_at(&list, i), ip = field_get(&f, "ip"),
                      names = field_get(&f, "hostnames");

                if (!is_address(alias->ip))
                        return field_error(&ip, err, "'%s' is no IP address", alias->ip);
                for (size_t k = 0; alias->hostnames && alias->hostnames[k]; k++) {
                        Field name = field_at(&names, k);

                        if (!name_is_dns1123_subdomain(alias->hostnames[k]))
                                return field_error(&name, err, "'%s' is no DNS-1123 subdomain",
                                                   alias->hostnames[k]);
                }
        }
        return 0;
}

/* --- containers --- */

/* pkg/util/validation: IsValidPortName. */
static bool is_port_name(const char *name)
{
        size_t n = strlen(name);
        bool letter = false;

        if (n == 0 || n > PORT_NAME_MAX || name[0] == '-' || name[n - 1] == '-' ||
            strstr(name, "--"))
                return false;
        for (; *name; name++) {
                if (!islower((unsigned char)*name) && !isdigit((unsigned char)*name) &&
                    *name != '-')
                        return false;
                letter |= *name >= 'a' && *name <= 'z';
        }
        return letter;
}

static bool is_host_port_taken(const Pod *pod, const Container *c, size_t port)
{
        const ContainerPort *mine = &c->ports[port];

        for (const Container *other = pod->containers; other <= c; other++) {
                size_t n = other == c ? port : other->n_ports;

                /* Init containers end before others need the port. */
                if (other != c && other->kind == CONTAINER_INIT && !other->sidecar)
                        continue;
                for (size_t i = 0; i < n; i++) {
                        const ContainerPort *p = &other->ports[i];

                        if (p->host_port == mine->host_port &&
                            str_eq(p->protocol, mine->protocol) &&
                            str_eq(p->host_ip ? p->host_ip : "",
                                   mine->host_ip ? mine->host_ip : ""))
                                return true;
                }
        }
        return false;
}

static int check_port(const Field *f, const Pod *pod, const Container *c, size_t i, KlError **err)
{
        const ContainerPort *p = &c->ports[i];
        Field name = field_get(f, "name"), host = field_get(f, "hostPort"),
              ip = field_get(f, "hostIP");

        if (!str_empty(p->name) && !is_port_name(p->name))
                return field_error(&name, err,
                                   "'%s' is no port name: at most 15 of a-z, 0-9 and single '-', "
                                   "and a letter among them",
                                   p->name);
        for (size_t k = 0; !str_empty(p->name) && k < i; k++)
                if (str_eq(c->ports[k].name, p->name))
                        return field_error(&name, err, "Duplicate value: \"%s\"", p->name);
        if (!str_empty(p->host_ip) && !is_address(p->host_ip))
                return field_error(&ip, err, "'%s' is no IP address", p->host_ip);
        if (pod->host_network && p->host_port != p->container_port)
                return field_error(&host, err,
                                   "must match `containerPort` when `hostNetwork` is true");
        if (p->host_port && is_host_port_taken(pod, c, i))
                return field_error(&host, err, "Duplicate value: \"%s/%s/%u\"", p->protocol,
                                   p->host_ip ? p->host_ip : "", p->host_port);
        return 0;
}

static bool has_dots(const char *path)
{
        for (; *path; path += strcspn(path, "/"), path += strspn(path, "/"))
                if (strncmp(path, "..", 2) == 0 && (path[2] == '/' || !path[2]))
                        return true;
        return false;
}

static int check_sub_path(const Field *mount, const char *key, const char *path, KlError **err)
{
        Field f = field_get(mount, key);

        if (str_empty(path))
                return 0;
        if (path[0] == '/')
                return field_error(&f, err, "must be a relative path");
        return has_dots(path) ? field_error(&f, err, "must not contain '..'") : 0;
}

static int check_mount(const Field *f, const Container *c, size_t i, KlError **err)
{
        static const char *const propagations[] = { "Bidirectional", "HostToContainer", "None",
                                                    NULL };
        static const char *const recursive[] = { "Disabled", "Enabled", "IfPossible", NULL };
        const VolumeMount *m = &c->mounts[i];
        Field path = field_get(f, "mountPath"), expr = field_get(f, "subPathExpr"),
              ro = field_get(f, "recursiveReadOnly");
        bool is_recursive =
                !str_empty(m->recursive_read_only) && !str_eq(m->recursive_read_only, "Disabled");

        for (size_t k = 0; k < i; k++)
                if (str_eq(c->mounts[k].mount_path, m->mount_path))
                        return field_error(&path, err, "must be unique");
        KL_TRY(check_enum(f, "mountPropagation", m->mount_propagation, propagations, err));
        KL_TRY(check_enum(f, "recursiveReadOnly", m->recursive_read_only, recursive, err));
        if (is_recursive && !m->read_only)
                return field_error(&ro, err, "may only be specified when readOnly is true");
        if (is_recursive && !str_empty(m->mount_propagation) &&
            !str_eq(m->mount_propagation, "None"))
                return field_error(&ro, err,
                                   "may only be specified when mountPropagation is None or not "
                                   "specified");
        if (!str_empty(m->sub_path) && !str_empty(m->sub_path_expr))
                return field_error(&expr, err, "subPathExpr and subPath are mutually exclusive");
        KL_TRY(check_sub_path(f, "subPath", m->sub_path, err));
        return check_sub_path(f, "subPathExpr", m->sub_path_expr, err);
}

/* --- environment --- */

bool env_name_is_valid(const char *name)
{
        for (const char *p = name; *p; p++)
                if (*p < 0x20 || *p > 0x7e || *p == '=')
                        return false;
        return *name;
}

static bool is_field_path(const char *path)
{
        static const char *const paths[] = {
                "metadata.name",           "metadata.namespace", "metadata.uid",   "spec.nodeName",
                "spec.serviceAccountName", "status.hostIP",      "status.hostIPs", "status.podIP",
                "status.podIPs",
        };
        static const char *const maps[] = { "metadata.labels['", "metadata.annotations['" };
        size_t n = strlen(path);

        for (size_t i = 0; i < ELEMENTS(paths); i++)
                if (str_eq(path, paths[i]))
                        return true;
        for (size_t i = 0; i < ELEMENTS(maps); i++)
                if (str_starts(path, maps[i]) && n > strlen(maps[i]) + 2 &&
                    str_eq(path + n - 2, "']"))
                        return true;
        return false;
}

static bool is_resource(const char *name)
{
        static const char *const names[] = {
                "limits.cpu",   "limits.memory",   "limits.ephemeral-storage",
                "requests.cpu", "requests.memory", "requests.ephemeral-storage",
        };

        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (str_eq(name, names[i]))
                        return true;
        return str_starts(name, "limits.hugepages-") || str_starts(name, "requests.hugepages-");
}

static int check_field_ref(const Field *from, const Pod *pod, const FieldSelector *field,
                           KlError **err)
{
        Field ref = field_get(from, field->field_path ? "fieldRef" : "resourceFieldRef"),
              path = field_get(&ref, "fieldPath"), resource = field_get(&ref, "resource"),
              container = field_get(&ref, "containerName");

        if (field->field_path && !is_field_path(field->field_path))
                return field_error(&path, err, "Unsupported value: \"%s\"", field->field_path);
        if (field->field_path)
                return 0;
        if (!is_resource(field->resource))
                return field_error(&resource, err, "Unsupported value: \"%s\"", field->resource);
        if (field->container && !pod_container(pod, field->container))
                return field_error(&container, err, "there is no container '%s'", field->container);
        return 0;
}

static int check_file_ref(const Field *from, const Pod *pod, const EnvVar *v, KlError **err)
{
        Field ref = field_get(from, "fileKeyRef"), volume = field_get(&ref, "volumeName"),
              path = field_get(&ref, "path"), key = field_get(&ref, "key");
        const Volume *found = pod_volume(pod, v->object);

        if (!found)
                return field_error(&volume, err, "there is no volume '%s'", v->object);
        if (found->kind != VOLUME_EMPTY_DIR)
                return field_error(&volume, err, "'%s' is no emptyDir", v->object);
        if (v->path[0] == '/')
                return field_error(&path, err, "must be a relative path");
        if (has_dots(v->path))
                return field_error(&path, err, "must not contain '..'");
        if (!env_name_is_valid(v->key) || strlen(v->key) > ENV_FILE_KEY_MAX)
                return field_error(&key, err,
                                   "is no name of a variable: 1 to %d printable ASCII characters "
                                   "other than '='",
                                   ENV_FILE_KEY_MAX);
        return 0;
}

static int check_env(const Field *f, const Pod *pod, const EnvVar *v, KlError **err)
{
        Field name = field_get(f, "name"), from = field_get(f, "valueFrom");

        if (!env_name_is_valid(v->name))
                return field_error(&name, err,
                                   "a valid environment variable name must consist only of "
                                   "printable ASCII characters other than '='");
        if (v->source == ENV_FIELD)
                return check_field_ref(&from, pod, &v->field, err);
        return v->source == ENV_FILE ? check_file_ref(&from, pod, v, err) : 0;
}

static int check_container(const Field *f, const Pod *pod, const Container *c, KlError **err)
{
        static const char *const policies[] = { "FallbackToLogsOnError", "File", NULL };
        Field ports = field_get(f, "ports"), mounts = field_get(f, "volumeMounts"),
              env = field_get(f, "env"), policy = field_get(f, "terminationMessagePolicy");

        KL_TRY(check_enum(f, "terminationMessagePolicy", value_str(policy.value), policies, err));
        for (size_t i = 0; i < c->n_ports; i++) {
                Field p = field_at(&ports, i);

                KL_TRY(check_port(&p, pod, c, i, err));
        }
        for (size_t i = 0; i < c->n_mounts; i++) {
                Field m = field_at(&mounts, i);

                KL_TRY(check_mount(&m, c, i, err));
        }
        for (size_t i = 0; i < c->n_env; i++) {
                Field v = field_at(&env, i);

                KL_TRY(check_env(&v, pod, &c->env[i], err));
        }
        return 0;
}

int pod_check_spec(const Field *spec, const Pod *pod, KlError **err)
{
        static const char *const lists[] = { "initContainers", "containers",
                                             "ephemeralContainers" };
        const size_t lengths[] = { pod->n_init, pod->n_main, pod->n_ephemeral };
        const Container *c = pod->containers;

        KL_TRY(check_label(spec, "hostname", pod->hostname, err));
        KL_TRY(check_label(spec, "subdomain", pod->subdomain, err));
        KL_TRY(check_hostname_override(spec, pod, err));
        KL_TRY(check_dns(spec, pod, err));
        KL_TRY(check_aliases(spec, pod, err));
        for (size_t l = 0; l < ELEMENTS(lists); l++) {
                Field list = field_get(spec, lists[l]);

                for (size_t i = 0; i < lengths[l]; i++, c++) {
                        Field f = field_at(&list, i);

                        KL_TRY(check_container(&f, pod, c, err));
                }
        }
        return 0;
}
