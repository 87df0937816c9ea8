/* SPDX-License-Identifier: Apache-2.0 */

/* Decoding of a pod's containers. */

#include "api/pod-internal.h"

#include "api/quantity.h"
#include "base/str.h"

#define ID_MAX INT32_MAX

static int decode_port(const Decode *d, const Field *f, ContainerPort *port)
{
        Field number = field_get(f, "containerPort"), protocol = field_get(f, "protocol");
        int64_t value = 0;

        if (!field_present(&number))
                return field_error(&number, d->err, "is required");
        KL_TRY(field_int(f, "containerPort", 1, 65535, &value, d->err));
        port->container_port = (uint16_t)value;
        value = 0;
        KL_TRY(field_int(f, "hostPort", 0, 65535, &value, d->err));
        port->host_port = (uint16_t)value;
        port->protocol = arena_strdup(d->arena, "TCP");
        KL_TRY(field_str(f, "protocol", d->arena, &port->protocol, d->err));
        if (!str_eq(port->protocol, "TCP") && !str_eq(port->protocol, "UDP") &&
            !str_eq(port->protocol, "SCTP"))
                return field_error(&protocol, d->err, "'%s' is none of TCP, UDP, SCTP",
                                   port->protocol);
        KL_TRY(field_str(f, "hostIP", d->arena, &port->host_ip, d->err));
        return field_str(f, "name", d->arena, &port->name, d->err);
}

static int decode_ports(const Decode *d, const Field *container, Container *c)
{
        Field list;
        size_t n;

        KL_TRY(field_array(container, "ports", POD_LIST_MAX, &list, &n, d->err));
        c->ports = ARENA_ARRAY(d->arena, n + 1, ContainerPort);
        if (!c->ports)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);

                KL_TRY(decode_port(d, &f, &c->ports[c->n_ports++]));
        }
        return 0;
}

static int decode_mount(const Decode *d, const Field *f, const Pod *pod, VolumeMount *mount)
{
        Field name = field_get(f, "name"), path = field_get(f, "mountPath");

        KL_TRY(decode_name(d, f, "name", &mount->name));
        if (!pod_volume(pod, mount->name))
                return field_error(&name, d->err, "there is no volume '%s'", mount->name);
        KL_TRY(decode_name(d, f, "mountPath", &mount->mount_path));
        if (strchr(mount->mount_path, ':'))
                return field_error(&path, d->err, "must not contain ':'");
        KL_TRY(field_str(f, "subPath", d->arena, &mount->sub_path, d->err));
        KL_TRY(field_str(f, "subPathExpr", d->arena, &mount->sub_path_expr, d->err));
        KL_TRY(field_bool(f, "readOnly", &mount->read_only, d->err));
        KL_TRY(field_str(f, "recursiveReadOnly", d->arena, &mount->recursive_read_only, d->err));
        return field_str(f, "mountPropagation", d->arena, &mount->mount_propagation, d->err);
}

static int decode_mounts(const Decode *d, const Field *container, const Pod *pod, Container *c)
{
        Field list;
        size_t n;

        KL_TRY(field_array(container, "volumeMounts", POD_LIST_MAX, &list, &n, d->err));
        c->mounts = ARENA_ARRAY(d->arena, n + 1, VolumeMount);
        if (!c->mounts)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);

                KL_TRY(decode_mount(d, &f, pod, &c->mounts[c->n_mounts++]));
        }
        return 0;
}

int decode_quantities(const Decode *d, const Field *resources, const char *key, KeyValues *ret)
{
        Field map = field_get(resources, key);
        int64_t value;

        KL_TRY(decode_key_values(d, resources, key, ret));
        for (size_t i = 0; i < ret->n; i++) {
                Field f = field_get(&map, ret->items[i].key);

                if (quantity_milli(ret->items[i].value, &value) < 0 || value < 0)
                        return field_error(&f, d->err, "'%s' is no quantity", ret->items[i].value);
        }
        return 0;
}

static int decode_container_security(const Decode *d, const Field *container, SecurityContext *ret)
{
        Field s, caps;
        int r;

        *ret = (SecurityContext){
                .run_as_user = -1,
                .run_as_group = -1,
                .run_as_non_root = -1,
                .privileged = -1,
                .allow_privilege_escalation = -1,
                .read_only_root_filesystem = -1,
        };
        r = field_object(container, "securityContext", &s, d->err);
        if (r != 0)
                return r < 0 ? r : 0;
        KL_TRY(field_int(&s, "runAsUser", 0, ID_MAX, &ret->run_as_user, d->err));
        KL_TRY(field_int(&s, "runAsGroup", 0, ID_MAX, &ret->run_as_group, d->err));
        KL_TRY(decode_tristate(d, &s, "runAsNonRoot", &ret->run_as_non_root));
        KL_TRY(decode_tristate(d, &s, "privileged", &ret->privileged));
        KL_TRY(decode_tristate(d, &s, "allowPrivilegeEscalation",
                               &ret->allow_privilege_escalation));
        KL_TRY(decode_tristate(d, &s, "readOnlyRootFilesystem", &ret->read_only_root_filesystem));
        KL_TRY(field_str(&s, "procMount", d->arena, &ret->proc_mount, d->err));
        KL_TRY(decode_seccomp(d, &s, &ret->seccomp));
        KL_TRY(decode_apparmor(d, &s, &ret->apparmor));
        KL_TRY(decode_selinux(d, &s, &ret->selinux_given));
        r = field_object(&s, "capabilities", &caps, d->err);
        if (r != 0)
                return r < 0 ? r : 0;
        KL_TRY(field_strv(&caps, "add", d->arena, &ret->cap_add, d->err));
        return field_strv(&caps, "drop", d->arena, &ret->cap_drop, d->err);
}

/* Upstream's default: Always for :latest and no tag, IfNotPresent otherwise. */
static PullPolicy default_pull_policy(const char *image)
{
        const char *name = strrchr(image, '/'), *tag;

        if (strchr(image, '@'))
                return PULL_IF_NOT_PRESENT;
        tag = strrchr(name ? name : image, ':');
        return !tag || str_eq(tag, ":latest") ? PULL_ALWAYS : PULL_IF_NOT_PRESENT;
}

static int decode_pull_policy(const Decode *d, const Field *f, Container *c)
{
        Field policy = field_get(f, "imagePullPolicy");
        char *text = NULL;

        KL_TRY(field_str(f, "imagePullPolicy", d->arena, &text, d->err));
        if (str_empty(text))
                c->pull_policy = default_pull_policy(c->image);
        else if (str_eq(text, "Always"))
                c->pull_policy = PULL_ALWAYS;
        else if (str_eq(text, "Never"))
                c->pull_policy = PULL_NEVER;
        else if (str_eq(text, "IfNotPresent"))
                c->pull_policy = PULL_IF_NOT_PRESENT;
        else
                return field_error(&policy, d->err, "'%s' is none of Always, IfNotPresent, Never",
                                   text);
        return 0;
}

static int decode_termination(const Decode *d, const Field *f, Container *c)
{
        char *policy = NULL;

        c->termination_message_path = arena_strdup(d->arena, "/dev/termination-log");
        KL_TRY(field_str(f, "terminationMessagePath", d->arena, &c->termination_message_path,
                         d->err));
        KL_TRY(field_str(f, "terminationMessagePolicy", d->arena, &policy, d->err));
        c->termination_fallback_to_logs = str_eq(policy, "FallbackToLogsOnError");
        return 0;
}

static int decode_exit_codes(const Decode *d, const Field *rule, RestartRuleSpec *ret)
{
        Field codes, values, operator;
        char *text = NULL;
        size_t n;
        int r = field_object(rule, "exitCodes", &codes, d->err);

        if (r != 0)
                return r < 0 ? r : field_error(&codes, d->err, "is required");
        operator= field_get(&codes, "operator");
        KL_TRY(decode_name(d, &codes, "operator", &text));
        ret->not_in = str_eq(text, "NotIn");
        if (!ret->not_in && !str_eq(text, "In"))
                return field_error(&operator, d->err, "'%s' is none of In, NotIn", text);
        KL_TRY(field_array(&codes, "values", POD_RESTART_CODES_MAX, &values, &n, d->err));
        if (n == 0)
                return field_error(&values, d->err, "at least one exit code is needed");
        ret->exit_codes = ARENA_ARRAY(d->arena, n, int64_t);
        if (!ret->exit_codes)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&values, i);
                int64_t code = value_int(f.value, -1);

                if (value_type(f.value) != VALUE_INT || code < 0 || code > INT32_MAX)
                        return field_error(&f, d->err, "is no exit code");
                ret->exit_codes[ret->n_exit_codes++] = code;
        }
        return 0;
}

static int decode_restart_rule(const Decode *d, const Field *f, RestartRuleSpec *ret)
{
        Field action = field_get(f, "action");
        char *text = NULL;

        KL_TRY(decode_name(d, f, "action", &text));
        ret->all_containers = str_eq(text, "RestartAllContainers");
        if (!ret->all_containers && !str_eq(text, "Restart"))
                return field_error(&action, d->err, "'%s' is none of Restart, RestartAllContainers",
                                   text);
        return decode_exit_codes(d, f, ret);
}

static int decode_restart_rules(const Decode *d, const Field *container, Container *c)
{
        Field list;
        size_t n;

        KL_TRY(field_array(container, "restartPolicyRules", POD_RESTART_RULES_MAX, &list, &n,
                           d->err));
        if (n == 0)
                return 0;
        if (!c->has_restart_policy)
                return field_error(&list, d->err,
                                   "must specify restartPolicy when restart rules are used");
        c->restart_rules = ARENA_ARRAY(d->arena, n, RestartRuleSpec);
        if (!c->restart_rules)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i);

                KL_TRY(decode_restart_rule(d, &f, &c->restart_rules[c->n_restart_rules++]));
        }
        return 0;
}

static int decode_restart(const Decode *d, const Field *f, Container *c)
{
        Field policy = field_get(f, "restartPolicy"), rules = field_get(f, "restartPolicyRules");

        c->has_restart_policy = field_present(&policy);
        if (c->kind == CONTAINER_EPHEMERAL && (c->has_restart_policy || field_present(&rules)))
                return field_error(c->has_restart_policy ? &policy : &rules, d->err,
                                   "cannot be set for an ephemeral container");
        KL_TRY(decode_restart_policy(d, f, &c->restart_policy));
        c->sidecar = c->kind == CONTAINER_INIT && c->has_restart_policy &&
                     c->restart_policy == RESTART_ALWAYS;
        return decode_restart_rules(d, f, c);
}

static int decode_container(const Decode *d, const Field *f, const Pod *pod, Container *c)
{
        Field name = field_get(f, "name"), resources = field_get(f, "resources");

        KL_TRY(decode_name(d, f, "name", &c->name));
        if (!name_is_dns1123_label(c->name))
                return field_error(&name, d->err, "'%s' is no DNS-1123 label", c->name);
        KL_TRY(decode_name(d, f, "image", &c->image));
        KL_TRY(field_str(f, "workingDir", d->arena, &c->working_dir, d->err));
        KL_TRY(field_strv(f, "command", d->arena, &c->command, d->err));
        KL_TRY(field_strv(f, "args", d->arena, &c->args, d->err));
        KL_TRY(field_str(f, "targetContainerName", d->arena, &c->target_container, d->err));
        KL_TRY(field_bool(f, "stdin", &c->stdin_open, d->err));
        KL_TRY(field_bool(f, "stdinOnce", &c->stdin_once, d->err));
        KL_TRY(field_bool(f, "tty", &c->tty, d->err));
        KL_TRY(decode_ports(d, f, c));
        KL_TRY(decode_environment(d, f, c));
        KL_TRY(decode_mounts(d, f, pod, c));
        KL_TRY(decode_quantities(d, &resources, "requests", &c->resources.requests));
        KL_TRY(decode_quantities(d, &resources, "limits", &c->resources.limits));
        KL_TRY(decode_container_security(d, f, &c->security));
        KL_TRY(decode_pull_policy(d, f, c));
        KL_TRY(decode_termination(d, f, c));
        KL_TRY(decode_restart(d, f, c));
        KL_TRY(decode_probes_and_hooks(d, f, pod, c));
        /* Upstream restarts a container of a running pod when its image changed, for nothing else.
         */
        c->hash = arena_format(d->arena, "%08x%08x", hash_fnv32(c->name, strlen(c->name)),
                               hash_fnv32(c->image, strlen(c->image)));
        return c->hash ? 0 : kl_error_oom(d->err);
}

/* Requests default to limits, as the API server does it for pods that pass through it. */
static int default_requests(const Decode *d, ResourceRequirements *r)
{
        KeyValue *merged = ARENA_ARRAY(d->arena, r->requests.n + r->limits.n + 1, KeyValue);
        size_t n = r->requests.n;

        if (!merged)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++)
                merged[i] = r->requests.items[i];
        for (size_t i = 0; i < r->limits.n; i++)
                if (!key_values_get(&r->requests, r->limits.items[i].key))
                        merged[n++] = r->limits.items[i];
        r->requests = (KeyValues){ merged, n };
        return 0;
}

static int decode_container_list(const Decode *d, const Field *spec, const char *key,
                                 ContainerKind kind, Pod *pod, size_t *ret_n)
{
        Field list;
        size_t n;

        KL_TRY(field_array(spec, key, POD_CONTAINERS_MAX, &list, &n, d->err));
        if (pod->n_containers + n > POD_CONTAINERS_MAX)
                return field_error(&list, d->err, "more than %d containers", POD_CONTAINERS_MAX);
        for (size_t i = 0; i < n; i++) {
                Field f = field_at(&list, i), name = field_get(&f, "name");
                Container *c = &pod->containers[pod->n_containers];

                c->kind = kind;
                KL_TRY(decode_container(d, &f, pod, c));
                if (pod_container(pod, c->name))
                        return field_error(&name, d->err, "'%s' is there twice", c->name);
                KL_TRY(default_requests(d, &c->resources));
                pod->n_containers++;
        }
        *ret_n = n;
        return 0;
}

/* On the host's network a container's ports are the host's, as the API server fills them in. */
static void default_host_ports(Pod *pod)
{
        for (size_t i = 0; pod->host_network && i < pod->n_containers; i++) {
                Container *c = &pod->containers[i];

                for (size_t p = 0; p < c->n_ports; p++)
                        if (!c->ports[p].host_port)
                                c->ports[p].host_port = c->ports[p].container_port;
        }
}

int decode_containers(const Decode *d, const Field *spec, Pod *pod)
{
        Field init = field_get(spec, "initContainers"), main = field_get(spec, "containers"),
              ephemeral = field_get(spec, "ephemeralContainers");
        size_t n = value_len(init.value) + value_len(main.value) + value_len(ephemeral.value);

        if (n > POD_CONTAINERS_MAX)
                return field_error(&main, d->err, "%zu containers, at most %d are allowed", n,
                                   POD_CONTAINERS_MAX);
        pod->containers = ARENA_ARRAY(d->arena, n + 1, Container);
        if (!pod->containers)
                return kl_error_oom(d->err);
        KL_TRY(decode_container_list(d, spec, "initContainers", CONTAINER_INIT, pod, &pod->n_init));
        KL_TRY(decode_container_list(d, spec, "containers", CONTAINER_MAIN, pod, &pod->n_main));
        KL_TRY(decode_container_list(d, spec, "ephemeralContainers", CONTAINER_EPHEMERAL, pod,
                                     &pod->n_ephemeral));
        default_host_ports(pod);
        if (pod->n_main == 0)
                return field_error(&main, d->err, "a pod needs at least one container");
        return 0;
}
