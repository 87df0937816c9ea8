/* SPDX-License-Identifier: Apache-2.0 */

/* Decoding of pods: metadata, pod-level spec, and what was last seen of the status. */

#include "api/pod-internal.h"

#include "api/quantity.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "codec/json.h"

#define GRACE_DEFAULT_S 30
#define ID_MAX INT32_MAX /* uids and gids: upstream's 2^31 - 1 */

const char *key_values_get(const KeyValues *list, const char *key)
{
        for (size_t i = 0; i < list->n; i++)
                if (strcmp(list->items[i].key, key) == 0)
                        return list->items[i].value;
        return NULL;
}

int64_t resource_milli(const KeyValues *list, const char *name)
{
        const char *text = key_values_get(list, name);
        int64_t value;

        return text && quantity_milli(text, &value) == 0 ? value : -1;
}

int64_t resource_value(const KeyValues *list, const char *name)
{
        const char *text = key_values_get(list, name);
        int64_t value;

        return text && quantity_value(text, &value) == 0 ? value : -1;
}

const char *restart_policy_name(RestartPolicy policy)
{
        static const char *const names[] = { "Always", "OnFailure", "Never" };

        return names[policy];
}

const char *pull_policy_name(PullPolicy policy)
{
        static const char *const names[] = { "IfNotPresent", "Always", "Never" };

        return names[policy];
}

Pod *pod_free(Pod *pod)
{
        if (pod)
                arena_free(pod->arena);
        return NULL;
}

const Container *pod_container(const Pod *pod, const char *name)
{
        for (size_t i = 0; i < pod->n_containers; i++)
                if (strcmp(pod->containers[i].name, name) == 0)
                        return &pod->containers[i];
        return NULL;
}

const Volume *pod_volume(const Pod *pod, const char *name)
{
        for (size_t i = 0; i < pod->n_volumes; i++)
                if (strcmp(pod->volumes[i].name, name) == 0)
                        return &pod->volumes[i];
        return NULL;
}

int decode_key_values(const Decode *d, const Field *object, const char *key, KeyValues *ret)
{
        const Value *child;
        void *iter = NULL;
        const char *name;
        Field map;
        int r;

        r = field_object(object, key, &map, d->err);
        if (r != 0)
                return r < 0 ? r : 0;
        if (value_len(map.value) > POD_LIST_MAX)
                return field_error(&map, d->err, "more than %d entries", POD_LIST_MAX);
        ret->items = ARENA_ARRAY(d->arena, value_len(map.value) + 1, KeyValue);
        if (!ret->items)
                return kl_error_oom(d->err);
        while (value_next(map.value, &iter, &name, &child)) {
                KeyValue *kv = &ret->items[ret->n++];

                kv->key = arena_strdup(d->arena, name);
                KL_TRY(field_scalar(&map, name, d->arena, &kv->value, d->err));
                if (!kv->value)
                        kv->value = arena_strdup(d->arena, "");
                if (!kv->key || !kv->value)
                        return kl_error_oom(d->err);
        }
        return 0;
}

int decode_tristate(const Decode *d, const Field *object, const char *key, int *ret)
{
        Field f = field_get(object, key);
        bool value = false;

        KL_TRY(field_bool(object, key, &value, d->err));
        *ret = field_present(&f) ? value : -1;
        return 0;
}

int decode_name(const Decode *d, const Field *object, const char *key, char **ret)
{
        Field f = field_get(object, key);

        KL_TRY(field_str(object, key, d->arena, ret, d->err));
        if (str_empty(*ret))
                return field_error(&f, d->err, "is required");
        return 0;
}

int decode_seccomp(const Decode *d, const Field *security, SeccompProfile *ret)
{
        Field profile;
        int r = field_object(security, "seccompProfile", &profile, d->err);

        if (r != 0)
                return r < 0 ? r : 0;
        KL_TRY(decode_name(d, &profile, "type", &ret->type));
        return field_str(&profile, "localhostProfile", d->arena, &ret->localhost_profile, d->err);
}

static int decode_stamp(const Decode *d, const Field *object, const char *key, int64_t *ret_us)
{
        Field f = field_get(object, key);
        char *text = NULL;

        KL_TRY(field_str(object, key, d->arena, &text, d->err));
        if (text && time_parse_rfc3339(text, ret_us) < 0)
                return field_error(&f, d->err, "'%s' is no RFC 3339 time", text);
        return 0;
}

static int decode_metadata(const Decode *d, const Field *root, Pod *pod)
{
        Field meta = field_get(root, "metadata"), f;

        KL_TRY(decode_name(d, &meta, "name", &pod->name));
        f = field_get(&meta, "name");
        if (!name_is_dns1123_subdomain(pod->name))
                return field_error(&f, d->err, "'%s' is no DNS-1123 subdomain", pod->name);
        KL_TRY(field_str(&meta, "namespace", d->arena, &pod->namespace, d->err));
        if (str_empty(pod->namespace))
                pod->namespace = arena_strdup(d->arena, "default");
        f = field_get(&meta, "namespace");
        if (!name_is_dns1123_label(pod->namespace))
                return field_error(&f, d->err, "'%s' is no DNS-1123 label", pod->namespace);
        KL_TRY(field_str(&meta, "uid", d->arena, &pod->uid, d->err));
        f = field_get(&meta, "uid");
        if (pod->uid && (!name_is_dns1123_subdomain(pod->uid) || strlen(pod->uid) > 63))
                return field_error(&f, d->err, "'%s' cannot name a directory", pod->uid);
        KL_TRY(field_str(&meta, "resourceVersion", d->arena, &pod->resource_version, d->err));
        KL_TRY(field_int(&meta, "generation", 0, INT64_MAX, &pod->generation, d->err));
        KL_TRY(decode_key_values(d, &meta, "labels", &pod->labels));
        KL_TRY(decode_key_values(d, &meta, "annotations", &pod->annotations));
        KL_TRY(decode_stamp(d, &meta, "creationTimestamp", &pod->created_us));
        KL_TRY(decode_stamp(d, &meta, "deletionTimestamp", &pod->deleted_us));
        return field_int(&meta, "deletionGracePeriodSeconds", 0, INT64_MAX, &pod->deletion_grace_s,
                         d->err);
}

int decode_restart_policy(const Decode *d, const Field *owner, RestartPolicy *ret)
{
        static const RestartPolicy policies[] = { RESTART_ALWAYS, RESTART_ON_FAILURE,
                                                  RESTART_NEVER };
        Field f = field_get(owner, "restartPolicy");
        char *text = NULL;

        *ret = RESTART_ALWAYS;
        KL_TRY(field_str(owner, "restartPolicy", d->arena, &text, d->err));
        if (!text)
                return 0;
        for (size_t i = 0; i < ELEMENTS(policies); i++) {
                if (str_eq(text, restart_policy_name(policies[i]))) {
                        *ret = policies[i];
                        return 0;
                }
        }
        return field_error(&f, d->err, "'%s' is none of Always, OnFailure, Never", text);
}

static int decode_sysctls(const Decode *d, const Field *security, PodSecurity *ret)
{
        Field list;
        size_t n;

        KL_TRY(field_array(security, "sysctls", POD_LIST_MAX, &list, &n, d->err));
        ret->sysctls.items = ARENA_ARRAY(d->arena, n + 1, KeyValue);
        if (!ret->sysctls.items)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);
                KeyValue *kv = &ret->sysctls.items[ret->sysctls.n++];

                KL_TRY(decode_name(d, &f, "name", &kv->key));
                kv->value = arena_strdup(d->arena, "");
                KL_TRY(field_scalar(&f, "value", d->arena, &kv->value, d->err));
        }
        return 0;
}

static int decode_groups(const Decode *d, const Field *security, PodSecurity *ret)
{
        Field list;
        size_t n;

        KL_TRY(field_array(security, "supplementalGroups", POD_LIST_MAX, &list, &n, d->err));
        ret->supplemental_groups = ARENA_ARRAY(d->arena, n + 1, int64_t);
        if (!ret->supplemental_groups)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);
                int64_t gid = value_int(f.value, -1);

                if (gid < 0 || gid > ID_MAX)
                        return field_error(&f, d->err, "is no group id in 0-%d", ID_MAX);
                ret->supplemental_groups[ret->n_supplemental_groups++] = gid;
        }
        return 0;
}

static int decode_security(const Decode *d, const Field *spec, PodSecurity *ret)
{
        Field s;
        int r;

        *ret = (PodSecurity){
                .run_as_user = -1, .run_as_group = -1, .fs_group = -1, .run_as_non_root = -1
        };
        r = field_object(spec, "securityContext", &s, d->err);
        if (r != 0)
                return r < 0 ? r : 0;
        KL_TRY(field_int(&s, "runAsUser", 0, ID_MAX, &ret->run_as_user, d->err));
        KL_TRY(field_int(&s, "runAsGroup", 0, ID_MAX, &ret->run_as_group, d->err));
        KL_TRY(field_int(&s, "fsGroup", 0, ID_MAX, &ret->fs_group, d->err));
        KL_TRY(decode_tristate(d, &s, "runAsNonRoot", &ret->run_as_non_root));
        KL_TRY(field_str(&s, "supplementalGroupsPolicy", d->arena, &ret->supplemental_groups_policy,
                         d->err));
        KL_TRY(field_str(&s, "fsGroupChangePolicy", d->arena, &ret->fs_group_change_policy,
                         d->err));
        KL_TRY(decode_groups(d, &s, ret));
        KL_TRY(decode_sysctls(d, &s, ret));
        KL_TRY(decode_apparmor(d, &s, &ret->apparmor));
        KL_TRY(decode_selinux(d, &s, &ret->selinux_given));
        return decode_seccomp(d, &s, &ret->seccomp);
}

static int decode_dns(const Decode *d, const Field *spec, Pod *pod)
{
        Field dns, options;
        size_t n;
        int r;

        pod->dns_policy = arena_strdup(d->arena, "ClusterFirst");
        KL_TRY(field_str(spec, "dnsPolicy", d->arena, &pod->dns_policy, d->err));
        r = field_object(spec, "dnsConfig", &dns, d->err);
        if (r != 0)
                return r < 0 ? r : 0;
        KL_TRY(field_strv(&dns, "nameservers", d->arena, &pod->dns_nameservers, d->err));
        KL_TRY(field_strv(&dns, "searches", d->arena, &pod->dns_searches, d->err));
        KL_TRY(field_array(&dns, "options", POD_LIST_MAX, &options, &n, d->err));
        pod->dns_options.items = ARENA_ARRAY(d->arena, n + 1, KeyValue);
        if (!pod->dns_options.items)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&options, i);
                KeyValue *kv = &pod->dns_options.items[pod->dns_options.n++];

                KL_TRY(decode_name(d, &f, "name", &kv->key));
                KL_TRY(field_scalar(&f, "value", d->arena, &kv->value, d->err));
        }
        return 0;
}

static int decode_host_aliases(const Decode *d, const Field *spec, Pod *pod)
{
        Field list;
        size_t n;

        KL_TRY(field_array(spec, "hostAliases", POD_LIST_MAX, &list, &n, d->err));
        pod->host_aliases = ARENA_ARRAY(d->arena, n + 1, HostAlias);
        if (!pod->host_aliases)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);
                HostAlias *alias = &pod->host_aliases[pod->n_host_aliases++];

                KL_TRY(decode_name(d, &f, "ip", &alias->ip));
                KL_TRY(field_strv(&f, "hostnames", d->arena, &alias->hostnames, d->err));
        }
        return 0;
}

/* A list of objects of which one string member is wanted: imagePullSecrets, readinessGates. */
static int decode_member_list(const Decode *d, const Field *spec, const char *key,
                              const char *member, char ***ret)
{
        Field list;
        size_t n;
        char **v;

        KL_TRY(field_array(spec, key, POD_LIST_MAX, &list, &n, d->err));
        v = ARENA_ARRAY(d->arena, n + 1, char *);
        if (!v)
                return kl_error_oom(d->err);
        for (size_t i = 0, used = 0; i < n; i++) {
                Field f = field_at(&list, i);

                KL_TRY(field_str(&f, member, d->arena, &v[used], d->err));
                used += v[used] && *v[used];
        }
        *ret = v;
        return 0;
}

static int decode_names(const Decode *d, const Field *spec, Pod *pod)
{
        Field os = field_get(spec, "os");

        KL_TRY(field_str(spec, "nodeName", d->arena, &pod->node_name, d->err));
        pod->service_account = arena_strdup(d->arena, "");
        KL_TRY(field_str(spec, "serviceAccount", d->arena, &pod->service_account, d->err));
        KL_TRY(field_str(spec, "serviceAccountName", d->arena, &pod->service_account, d->err));
        KL_TRY(field_str(spec, "hostname", d->arena, &pod->hostname, d->err));
        KL_TRY(field_str(spec, "hostnameOverride", d->arena, &pod->hostname_override, d->err));
        KL_TRY(field_str(spec, "subdomain", d->arena, &pod->subdomain, d->err));
        KL_TRY(field_str(spec, "runtimeClassName", d->arena, &pod->runtime_class, d->err));
        KL_TRY(field_str(spec, "priorityClassName", d->arena, &pod->priority_class, d->err));
        KL_TRY(field_str(&os, "name", d->arena, &pod->os_name, d->err));
        KL_TRY(decode_key_values(d, spec, "nodeSelector", &pod->node_selector));
        KL_TRY(decode_quantities(d, spec, "overhead", &pod->overhead));
        KL_TRY(decode_member_list(d, spec, "imagePullSecrets", "name", &pod->image_pull_secrets));
        return decode_member_list(d, spec, "readinessGates", "conditionType",
                                  &pod->readiness_gates);
}

static int decode_host_modes(const Decode *d, const Field *spec, Pod *pod)
{
        Field priority = field_get(spec, "priority");

        pod->host_users = true;
        pod->enable_service_links = true;
        KL_TRY(field_bool(spec, "hostNetwork", &pod->host_network, d->err));
        KL_TRY(field_bool(spec, "hostPID", &pod->host_pid, d->err));
        KL_TRY(field_bool(spec, "hostIPC", &pod->host_ipc, d->err));
        KL_TRY(field_bool(spec, "hostUsers", &pod->host_users, d->err));
        KL_TRY(field_bool(spec, "shareProcessNamespace", &pod->share_pid, d->err));
        KL_TRY(field_bool(spec, "setHostnameAsFQDN", &pod->set_hostname_as_fqdn, d->err));
        KL_TRY(field_bool(spec, "enableServiceLinks", &pod->enable_service_links, d->err));
        pod->has_priority = field_present(&priority);
        KL_TRY(field_int(spec, "priority", INT32_MIN, INT32_MAX, &pod->priority, d->err));
        pod->grace_s = GRACE_DEFAULT_S;
        KL_TRY(field_int(spec, "terminationGracePeriodSeconds", 0, INT64_MAX / 1000, &pod->grace_s,
                         d->err));
        pod->active_deadline_s = -1;
        return field_int(spec, "activeDeadlineSeconds", 1, INT32_MAX, &pod->active_deadline_s,
                         d->err);
}

static int decode_spec(const Decode *d, const Field *spec, Pod *pod)
{
        Field resources = field_get(spec, "resources");

        KL_TRY(decode_names(d, spec, pod));
        KL_TRY(decode_placement(d, spec, pod));
        KL_TRY(decode_host_modes(d, spec, pod));
        KL_TRY(decode_restart_policy(d, spec, &pod->restart_policy));
        KL_TRY(decode_security(d, spec, &pod->security));
        KL_TRY(decode_dns(d, spec, pod));
        KL_TRY(decode_host_aliases(d, spec, pod));
        KL_TRY(decode_quantities(d, &resources, "requests", &pod->resources.requests));
        KL_TRY(decode_quantities(d, &resources, "limits", &pod->resources.limits));
        KL_TRY(decode_volumes(d, spec, pod));
        return decode_containers(d, spec, pod);
}

static int decode_seen_container(const Decode *d, const Field *f, SeenContainer *ret)
{
        Field last = field_get(f, "lastState");
        char *id = NULL;

        KL_TRY(decode_name(d, f, "name", &ret->name));
        KL_TRY(field_str(f, "containerID", d->arena, &id, d->err));
        ret->ran = !str_empty(id) || value_get(last.value, "terminated");
        return field_int(f, "restartCount", 0, INT32_MAX, &ret->restart_count, d->err);
}

static int decode_seen_containers(const Decode *d, const Field *status, Pod *pod)
{
        static const char *const lists[] = { "initContainerStatuses", "containerStatuses",
                                             "ephemeralContainerStatuses" };

        pod->seen_containers = ARENA_ARRAY(d->arena, pod->n_containers, SeenContainer);
        if (!pod->seen_containers)
                return kl_error_oom(d->err);
        for (size_t l = 0; l < ELEMENTS(lists); l++) {
                Field list;
                size_t n;

                KL_TRY(field_array(status, lists[l], POD_LIST_MAX, &list, &n, d->err));
                for (size_t i = 0; i < n && pod->n_seen_containers < pod->n_containers; i++) {
                        Field f = field_at(&list, i);

                        KL_TRY(decode_seen_container(
                                d, &f, &pod->seen_containers[pod->n_seen_containers++]));
                }
        }
        return 0;
}

static int decode_status(const Decode *d, const Field *root, Pod *pod)
{
        Field status = field_get(root, "status"), list;
        size_t n;

        KL_TRY(field_str(&status, "phase", d->arena, &pod->seen_phase, d->err));
        KL_TRY(field_str(&status, "reason", d->arena, &pod->seen_reason, d->err));
        KL_TRY(field_str(&status, "message", d->arena, &pod->seen_message, d->err));
        KL_TRY(decode_stamp(d, &status, "startTime", &pod->seen_start_us));
        KL_TRY(field_array(&status, "conditions", POD_LIST_MAX, &list, &n, d->err));
        pod->seen_conditions = ARENA_ARRAY(d->arena, n + 1, PodCondition);
        if (!pod->seen_conditions)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);
                PodCondition *c = &pod->seen_conditions[pod->n_seen_conditions++];

                KL_TRY(decode_name(d, &f, "type", &c->type));
                KL_TRY(decode_name(d, &f, "status", &c->status));
                KL_TRY(field_str(&f, "reason", d->arena, &c->reason, d->err));
                KL_TRY(field_str(&f, "message", d->arena, &c->message, d->err));
                KL_TRY(decode_stamp(d, &f, "lastTransitionTime", &c->transition_us));
        }
        return decode_seen_containers(d, &status, pod);
}

static int decode_hash(const Decode *d, const Field *spec, Pod *pod)
{
        KL_AUTOBUF text = BUF_INIT;

        if (json_print(spec->value, &text) < 0)
                return kl_error_oom(d->err);
        pod->hash = arena_format(d->arena, "%016llx",
                                 (unsigned long long)hash_fnv64(text.data, text.len));
        return pod->hash ? 0 : kl_error_oom(d->err);
}

/* What the API holds of it besides the status; who manages which field is of no use here. */
static int keep_json(const Decode *d, const Field *root, Pod *pod)
{
        const Value *meta = value_get(root->value, "metadata"), *child;
        KL_AUTOBUF text = BUF_INIT;
        JsonWriter w = JSON_WRITER(&text);
        const char *key;

        jw_object(&w);
        jw_kobject(&w, "metadata");
        for (void *it = NULL; value_next(meta, &it, &key, &child);) {
                if (str_eq(key, "managedFields"))
                        continue;
                jw_key(&w, key);
                jw_value(&w, child);
        }
        jw_end(&w);
        jw_key(&w, "spec");
        jw_value(&w, value_get(root->value, "spec"));
        if (buf_error(&text))
                return kl_error_oom(d->err);
        /* Without the brace that opens it, and the status can follow. */
        pod->json = arena_strndup(d->arena, text.data + 1, text.len - 1);
        return pod->json ? 0 : kl_error_oom(d->err);
}

static int decode_root(const Decode *d, const Field *root, Pod *pod)
{
        Field f = field_get(root, "kind"), spec;

        if (field_present(&f) && !str_eq(value_str(f.value), "Pod"))
                return field_error(&f, d->err, "'%s' is not Pod",
                                   value_str(f.value) ? value_str(f.value) : "?");
        f = field_get(root, "apiVersion");
        if (field_present(&f) && !str_eq(value_str(f.value), "v1"))
                return field_error(&f, d->err, "'%s' is not v1",
                                   value_str(f.value) ? value_str(f.value) : "?");
        KL_TRY(decode_metadata(d, root, pod));
        if (field_object(root, "spec", &spec, d->err) != 0)
                return field_error(&spec, d->err, "is required");
        KL_TRY(decode_spec(d, &spec, pod));
        KL_TRY(pod_check_security(&spec, pod, d->err));
        KL_TRY(pod_check_spec(&spec, pod, d->err));
        KL_TRY(decode_hash(d, &spec, pod));
        KL_TRY(keep_json(d, root, pod));
        return decode_status(d, root, pod);
}

int pod_decode(const Value *value, Pod **ret, KlError **err)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        Pod *pod = arena ? ARENA_NEW(arena, Pod) : NULL;
        Decode d = { .arena = arena, .err = err };
        Field root = field_root(value);

        if (!pod)
                return kl_error_oom(err);
        if (value_type(value) != VALUE_OBJECT)
                return kl_error(err, -EINVAL, NULL, "document: expected a map, got %s",
                                value_type_name(value_type(value)));
        pod->deletion_grace_s = -1;
        pod->source = arena_strdup(arena, "api");
        KL_TRY(decode_root(&d, &root, pod));
        pod->arena = KL_STEAL(arena);
        *ret = pod;
        return 0;
}
