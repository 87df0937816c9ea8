/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A Document as the OCI runtime specification's config.json (1.2): the contract for one container,
 * readable by people and by other runtimes. Pure.
 */

#include "runtime/document-internal.h"

#include "base/str.h"
#include "codec/json.h"
#include "runtime/caps-internal.h"

#include <seccomp.h>
#include <sys/resource.h>

/* No JSON, so nothing that is can contain it. */
#define PROCESS_MARK "\1process\1"

static const char *const rlimit_names[] = {
        [RLIMIT_CPU] = "RLIMIT_CPU",           [RLIMIT_FSIZE] = "RLIMIT_FSIZE",
        [RLIMIT_DATA] = "RLIMIT_DATA",         [RLIMIT_STACK] = "RLIMIT_STACK",
        [RLIMIT_CORE] = "RLIMIT_CORE",         [RLIMIT_RSS] = "RLIMIT_RSS",
        [RLIMIT_NPROC] = "RLIMIT_NPROC",       [RLIMIT_NOFILE] = "RLIMIT_NOFILE",
        [RLIMIT_MEMLOCK] = "RLIMIT_MEMLOCK",   [RLIMIT_AS] = "RLIMIT_AS",
        [RLIMIT_LOCKS] = "RLIMIT_LOCKS",       [RLIMIT_SIGPENDING] = "RLIMIT_SIGPENDING",
        [RLIMIT_MSGQUEUE] = "RLIMIT_MSGQUEUE", [RLIMIT_NICE] = "RLIMIT_NICE",
        [RLIMIT_RTPRIO] = "RLIMIT_RTPRIO",     [RLIMIT_RTTIME] = "RLIMIT_RTTIME",
};

static const char *const mount_types[] = {
        [SHIM_MOUNT_BIND] = "bind",     [SHIM_MOUNT_PROC] = "proc",
        [SHIM_MOUNT_SYSFS] = "sysfs",   [SHIM_MOUNT_TMPFS] = "tmpfs",
        [SHIM_MOUNT_DEV] = "tmpfs",     [SHIM_MOUNT_DEVPTS] = "devpts",
        [SHIM_MOUNT_SHM] = "tmpfs",     [SHIM_MOUNT_MQUEUE] = "mqueue",
        [SHIM_MOUNT_CGROUP] = "cgroup",
};
_Static_assert(ELEMENTS(mount_types) == SHIM_MOUNT_KINDS, "each kind has a type");

static void put_caps(JsonWriter *w, const char *key, uint64_t caps)
{
        jw_karray(w, key);
        for (unsigned int i = 0; i < 64; i++)
                if (caps & CAP_BIT(i) && cap_name(i))
                        jw_str(w, cap_name(i));
        jw_end(w);
}

static void put_user(JsonWriter *w, const Document *d)
{
        jw_kobject(w, "user");
        jw_kint(w, "uid", d->user.run_as_user < 0 ? 0 : d->user.run_as_user);
        jw_kint(w, "gid", d->user.run_as_group < 0 ? 0 : d->user.run_as_group);
        jw_karray(w, "additionalGids");
        for (size_t i = 0; i < d->user.n_groups; i++)
                jw_uint(w, d->user.groups[i]);
        jw_end(w);
        /* Not resolved yet: names are looked up in the container's own files. */
        if (d->user.run_as_user < 0)
                jw_kstr_opt(w, "username", d->user.image_user);
        jw_end(w);
}

/* All of the process but user, terminal and arguments. */
static void put_process_rest(JsonWriter *w, const Document *d)
{
        jw_kstrv(w, "env", d->env);
        jw_kstr(w, "cwd", d->cwd);
        jw_kobject(w, "capabilities");
        put_caps(w, "bounding", d->caps);
        put_caps(w, "effective", d->caps);
        put_caps(w, "permitted", d->caps);
        jw_end(w);
        jw_karray(w, "rlimits");
        for (size_t i = 0; i < d->n_rlimits; i++) {
                const ShimRlimit *l = &d->rlimits[i];

                if (l->resource >= ELEMENTS(rlimit_names))
                        continue;
                jw_object(w);
                jw_kstr(w, "type", rlimit_names[l->resource]);
                jw_key(w, "soft");
                jw_uint(w, l->soft);
                jw_key(w, "hard");
                jw_uint(w, l->hard);
                jw_end(w);
        }
        jw_end(w);
        jw_kbool(w, "noNewPrivileges", d->no_new_privs);
        if (!str_empty(d->apparmor))
                jw_kstr(w, "apparmorProfile", d->apparmor);
        jw_kint(w, "oomScoreAdj", d->oom_score_adj);
}

/* Another runtime's is written by the shim, into the place of the mark. */
static void put_process(JsonWriter *w, const Document *d, const DocumentContext *c)
{
        if (c->bundle) {
                jw_key(w, "process");
                jw_raw(w, PROCESS_MARK, strlen(PROCESS_MARK));
                return;
        }
        jw_kobject(w, "process");
        if (d->tty)
                jw_kbool(w, "terminal", true);
        put_user(w, d);
        jw_kstrv(w, "args", d->args);
        put_process_rest(w, d);
        jw_end(w);
}

static void put_option(JsonWriter *w, uint32_t flags, uint32_t bit, const char *name)
{
        if (flags & bit)
                jw_str(w, name);
}

/* The pod's ids, as they are inside and on the host. */
static void put_id_maps(JsonWriter *w, const IdRange *ids)
{
        static const char *const keys[] = { "uidMappings", "gidMappings" };

        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                jw_karray(w, keys[i]);
                jw_object(w);
                jw_kint(w, "containerID", 0);
                jw_kint(w, "hostID", ids->first);
                jw_kint(w, "size", ids->count);
                jw_end(w);
                jw_end(w);
        }
}

/* What the shim attaches for another runtime. */
static bool is_attached(const DocumentMount *m, const DocumentContext *c)
{
        return c->bundle && (m->kind == SHIM_MOUNT_BIND || m->kind == SHIM_MOUNT_SHM);
}

static void put_mount(JsonWriter *w, const DocumentMount *m, size_t i, const DocumentContext *c)
{
        bool bind = m->kind == SHIM_MOUNT_BIND || is_attached(m, c);
        KL_AUTOSTRV options = m->options && !bind ? strv_split(m->options, ',') : NULL;
        const IdRange *ids = &c->ids;

        jw_object(w);
        jw_kstr(w, "destination", m->target);
        jw_kstr(w, "type", bind ? "bind" : mount_types[m->kind]);
        if (is_attached(m, c))
                jw_kstrf(w, "source", "%s/m/%zu", c->bundle, i);
        else
                jw_kstr_opt(w, "source", m->source);
        jw_karray(w, "options");
        if (bind) {
                jw_str(w, "rbind");
                jw_str(w, m->propagation == SHIM_PROPAGATION_SHARED  ? "rshared"
                          : m->propagation == SHIM_PROPAGATION_SLAVE ? "rslave"
                                                                     : "rprivate");
        }
        put_option(w, m->flags, SHIM_MOUNT_NOSUID, "nosuid");
        put_option(w, m->flags, SHIM_MOUNT_NODEV, "nodev");
        put_option(w, m->flags, SHIM_MOUNT_NOEXEC, "noexec");
        put_option(w, m->flags, SHIM_MOUNT_RO_RECURSIVE, "rro");
        jw_str(w, m->flags & SHIM_MOUNT_RO ? "ro" : "rw");
        put_option(w, m->flags, SHIM_MOUNT_IDMAP, "ridmap");
        for (char **p = options; p && *p; p++)
                jw_str(w, *p);
        jw_end(w);
        if (m->flags & SHIM_MOUNT_IDMAP)
                put_id_maps(w, ids);
        jw_end(w);
}

static void put_namespace(JsonWriter *w, const char *type, const char *path)
{
        jw_object(w);
        jw_kstr(w, "type", type);
        jw_kstr_opt(w, "path", path);
        jw_end(w);
}

static void put_namespaces(JsonWriter *w, const DocumentContext *c)
{
        jw_karray(w, "namespaces");
        put_namespace(w, "mount", NULL);
        put_namespace(w, "cgroup", NULL);
        if (!c->host_pid)
                put_namespace(w, "pid", c->pid_path);
        if (!c->host_network) {
                put_namespace(w, "network", c->netns_path);
                put_namespace(w, "uts", c->uts_path);
        }
        if (!c->host_ipc)
                put_namespace(w, "ipc", c->ipc_path);
        if (c->ids.count)
                put_namespace(w, "user", NULL);
        jw_end(w);
        if (c->ids.count)
                put_id_maps(w, &c->ids);
}

static void put_device_rule(JsonWriter *w, const DeviceRule *rule)
{
        jw_object(w);
        jw_kbool(w, "allow", true);
        jw_kstrf(w, "type", "%c", rule->type);
        if (rule->major >= 0)
                jw_kint(w, "major", rule->major);
        if (rule->minor >= 0)
                jw_kint(w, "minor", rule->minor);
        jw_kstr(w, "access", rule->access);
        jw_end(w);
}

/* Sizes as runtimes take them: "2MB". */
static void put_hugepages(JsonWriter *w, const Resources *res)
{
        jw_karray(w, "hugepageLimits");
        for (size_t i = 0; i < res->n_hugepages; i++) {
                uint64_t kib = res->hugepages[i].page_bytes / 1024;
                const char *unit = kib >= 1 << 20 ? "GB" : kib >= 1 << 10 ? "MB" : "KB";

                jw_object(w);
                jw_kstrf(w, "pageSize", "%llu%s",
                         (unsigned long long)(kib >= 1 << 20   ? kib >> 20
                                              : kib >= 1 << 10 ? kib >> 10
                                                               : kib),
                         unit);
                jw_kint(w, "limit", (int64_t)res->hugepages[i].limit_bytes);
                jw_end(w);
        }
        jw_end(w);
}

static void put_resources(JsonWriter *w, const Document *d, const DocumentContext *c)
{
        const Resources *res = &d->resources;

        jw_kobject(w, "resources");
        jw_karray(w, "devices");
        jw_object(w);
        jw_kbool(w, "allow", false);
        jw_kstr(w, "access", "rwm");
        jw_end(w);
        for (size_t i = 0; i < d->n_device_rules; i++)
                put_device_rule(w, &d->device_rules[i]);
        jw_end(w);
        jw_kobject(w, "cpu");
        if (res->cpu_shares)
                jw_kint(w, "shares", (int64_t)res->cpu_shares);
        if (res->cpu_quota_us > 0) {
                jw_kint(w, "quota", res->cpu_quota_us);
                jw_kint(w, "period", res->cpu_period_us ? (int64_t)res->cpu_period_us : 100000);
        }
        jw_end(w);
        if (res->memory_bytes > 0) {
                jw_kobject(w, "memory");
                jw_kint(w, "limit", res->memory_bytes);
                jw_kint(w, "swap", res->memory_bytes + res->swap_bytes);
                jw_end(w);
        }
        if (res->pids > 0) {
                jw_kobject(w, "pids");
                jw_kint(w, "limit", res->pids);
                jw_end(w);
        }
        /* Runtimes fail where the kernel has no such group; the group has its limits already. */
        if (!c->bundle)
                put_hugepages(w, res);
        jw_end(w);
}

static void put_action(JsonWriter *w, const char *key, const char *errno_key, uint32_t action)
{
        if (action == SCMP_ACT_ALLOW) {
                jw_kstr(w, key, "SCMP_ACT_ALLOW");
        } else if ((action & 0xffff0000U) == SCMP_ACT_ERRNO(0)) {
                jw_kstr(w, key, "SCMP_ACT_ERRNO");
                jw_kint(w, errno_key, action & 0xffff);
        } else if (action == SCMP_ACT_LOG) {
                jw_kstr(w, key, "SCMP_ACT_LOG");
        } else if (action == SCMP_ACT_TRAP) {
                jw_kstr(w, key, "SCMP_ACT_TRAP");
        } else if ((action & 0xffff0000U) == SCMP_ACT_TRACE(0)) {
                jw_kstr(w, key, "SCMP_ACT_TRACE");
                jw_kint(w, errno_key, action & 0xffff);
        } else {
                jw_kstr(w, key,
                        action == SCMP_ACT_KILL_PROCESS ? "SCMP_ACT_KILL_PROCESS"
                                                        : "SCMP_ACT_KILL_THREAD");
        }
}

static const char *operator_name(int op)
{
        static const char *const names[] = {
                [SCMP_CMP_NE] = "SCMP_CMP_NE",
                [SCMP_CMP_LT] = "SCMP_CMP_LT",
                [SCMP_CMP_LE] = "SCMP_CMP_LE",
                [SCMP_CMP_EQ] = "SCMP_CMP_EQ",
                [SCMP_CMP_GE] = "SCMP_CMP_GE",
                [SCMP_CMP_GT] = "SCMP_CMP_GT",
                [SCMP_CMP_MASKED_EQ] = "SCMP_CMP_MASKED_EQ",
        };

        return op > 0 && (size_t)op < ELEMENTS(names) ? names[op] : "";
}

static void put_seccomp(JsonWriter *w, const SeccompProfile *profile)
{
        jw_kobject(w, "seccomp");
        put_action(w, "defaultAction", "defaultErrnoRet", profile->default_action);
        jw_karray(w, "syscalls");
        for (size_t i = 0; i < profile->n_rules; i++) {
                const SeccompRule *rule = &profile->rules[i];

                if (!rule->names[0])
                        continue;
                jw_object(w);
                jw_kstrv(w, "names", rule->names);
                put_action(w, "action", "errnoRet", rule->action);
                jw_karray(w, "args");
                for (size_t k = 0; k < rule->n_args; k++) {
                        jw_object(w);
                        jw_kint(w, "index", rule->args[k].index);
                        jw_key(w, "value");
                        jw_uint(w, rule->args[k].value);
                        jw_key(w, "valueTwo");
                        jw_uint(w, rule->args[k].value_two);
                        jw_kstr(w, "op", operator_name(rule->args[k].op));
                        jw_end(w);
                }
                jw_end(w);
                jw_end(w);
        }
        jw_end(w);
        jw_end(w);
}

static void put_devices(JsonWriter *w, const Document *d)
{
        if (d->n_devices == 0)
                return;
        jw_karray(w, "devices");
        for (size_t i = 0; i < d->n_devices; i++) {
                const ShimDevice *dev = &d->devices[i];

                jw_object(w);
                jw_kstr(w, "path", dev->path);
                jw_kstrf(w, "type", "%c", dev->type);
                jw_kint(w, "major", dev->major);
                jw_kint(w, "minor", dev->minor);
                jw_kint(w, "fileMode", dev->mode);
                jw_kint(w, "uid", dev->uid);
                jw_kint(w, "gid", dev->gid);
                jw_end(w);
        }
        jw_end(w);
}

static void put_linux(JsonWriter *w, const Document *d, const DocumentContext *c,
                      const SeccompProfile *seccomp)
{
        bool shared = false;

        for (size_t i = 0; i < d->n_mounts; i++)
                shared |= d->mounts[i].propagation == SHIM_PROPAGATION_SHARED;
        jw_kobject(w, "linux");
        put_namespaces(w, c);
        jw_kstrf(w, "cgroupsPath", "%s/%s", c->cgroup_prefix ? c->cgroup_prefix : "",
                 c->cgroup_path);
        put_resources(w, d, c);
        put_devices(w, d);
        if (seccomp)
                put_seccomp(w, seccomp);
        jw_kstr(w, "rootfsPropagation", shared ? "rshared" : "rslave");
        jw_kstrv(w, "maskedPaths", d->masked_paths);
        jw_kstrv(w, "readonlyPaths", d->read_only_paths);
        jw_end(w);
}

static const char *seccomp_kind_name(SeccompKind kind)
{
        switch (kind) {
        case SECCOMP_RUNTIME_DEFAULT:
                return "RuntimeDefault";
        case SECCOMP_LOCALHOST:
                return "Localhost";
        case SECCOMP_UNCONFINED:
        default:
                return "Unconfined";
        }
}

int document_render(const Document *d, const DocumentContext *c, const SeccompProfile *seccomp,
                    Buf *to)
{
        JsonWriter writer = JSON_WRITER(to), *w = &writer;

        jw_object(w);
        jw_kstr(w, "ociVersion", "1.2.0");
        put_process(w, d, c);
        jw_kobject(w, "root");
        jw_kstr(w, "path", "rootfs");
        jw_kbool(w, "readonly", d->read_only_root);
        jw_end(w);
        /* Of a namespace that is joined, it is set already. */
        if (!c->host_network && !c->bundle)
                jw_kstr_opt(w, "hostname", c->hostname);
        jw_karray(w, "mounts");
        for (size_t i = 0; i < d->n_mounts; i++)
                put_mount(w, &d->mounts[i], i, c);
        jw_end(w);
        jw_kobject(w, "annotations");
        jw_kstr(w, "io.kubernetes.cri.container-type", "container");
        jw_kstr(w, "io.kubernetes.cri.container-name", d->name);
        jw_kstr(w, "io.kubernetes.cri.image-name", d->image);
        jw_kstr(w, "io.kubernetes.cri.sandbox-id", c->sandbox_id);
        jw_kstr(w, "io.kubernetes.cri.sandbox-name", c->pod_name);
        jw_kstr(w, "io.kubernetes.cri.sandbox-namespace", c->pod_namespace);
        jw_kstr(w, "io.kubernetes.cri.sandbox-uid", c->pod_uid);
        jw_kstr(w, "io.kubelite.seccomp", seccomp_kind_name(d->seccomp));
        jw_kstr_opt(w, "io.kubelite.seccomp-profile", d->seccomp_profile);
        jw_end(w);
        put_linux(w, d, c, seccomp);
        jw_end(w);
        return buf_error(to);
}

int document_render_parts(const Document *d, const DocumentContext *c,
                          const SeccompProfile *seccomp, DocumentParts *ret)
{
        KL_AUTOBUF whole = BUF_INIT;
        KL_AUTOBUF rest = BUF_INIT;
        JsonWriter w = JSON_WRITER(&rest);
        char *mark;

        *ret = (DocumentParts){ 0 };
        jw_object(&w);
        put_process_rest(&w, d);
        if (document_render(d, c, seccomp, &whole) < 0 || buf_error(&rest) < 0)
                return -ENOMEM;
        mark = strstr(buf_str(&whole), PROCESS_MARK);
        if (!mark)
                return -EINVAL;
        ret->head = strndup(whole.data, (size_t)(mark - whole.data));
        ret->tail = strdup(mark + strlen(PROCESS_MARK));
        /* Without the brace that begins the object, which was not ended. */
        ret->process_rest = strdup(buf_str(&rest) + 1);
        if (ret->head && ret->tail && ret->process_rest)
                return 0;
        document_parts_deinit(ret);
        return -ENOMEM;
}

void document_parts_deinit(DocumentParts *parts)
{
        free(parts->head);
        free(parts->tail);
        free(parts->process_rest);
        *parts = (DocumentParts){ 0 };
}
