/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The compiler from pods to runtime specs. The node's own files of a pod live beneath
 * <root-dir>/pods/<uid>/: etc-hosts and resolv.conf, and a termination file per container run.
 */

#include "pod/compile.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/sysctl-names.h"
#include "pod/environment.h"
#include "pod/status.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define CONFIG_ERROR "CreateContainerConfigError"
#define HOST_FILE_MAX (1U << 20)
#define SUPPLEMENTARY_MAX 1024

char *compile_log_dir(const PodContext *context, const Pod *pod, Arena *arena)
{
        return arena_format(arena, "%s/%s_%s_%s", context->log_dir, pod->namespace, pod->name,
                            pod->uid);
}

char *compile_log_path(const PodContext *context, const Pod *pod, const char *container,
                       unsigned int attempt, Arena *arena)
{
        const char *dir = compile_log_dir(context, pod, arena);

        return dir ? arena_format(arena, "%s/%s/%u.log", dir, container, attempt) : NULL;
}

static char *pod_dir(const PodContext *context, const Pod *pod, Arena *arena)
{
        return arena_format(arena, "%s/pods/%s", context->root_dir, pod->uid);
}

char *compile_log_link(const PodContext *context, const Pod *pod, const char *container,
                       const char *id, Arena *arena)
{
        return arena_format(arena, "%s/%s_%s_%s-%s.log", context->log_links_dir, pod->name,
                            pod->namespace, container, id);
}

char *compile_termination_path(const PodContext *context, const Pod *pod, const char *container,
                               const char *id, Arena *arena)
{
        return arena_format(arena, "%s/pods/%s/containers/%s/%.8s", context->root_dir, pod->uid,
                            container, id);
}

/* Files of the node's own, for all containers of the pod. */
static int add_pod_files(const CompileInput *in, Compiled *out, FileSpec *files, KlError **err)
{
        KL_AUTOFREE char *hostname = NULL;
        KL_AUTOFREE char *domain = NULL;
        KL_AUTOFREE char *resolv = NULL;
        KL_AUTOFREE char *hosts_text = NULL;
        KL_AUTOBUF text = BUF_INIT;
        DnsSettings dns = in->context->dns;
        const char *dir = pod_dir(in->context, in->pod, out->arena);

        if (!dir)
                return kl_error_oom(err);
        KL_TRY(files_hostname(in->pod, dns.cluster_domain, &hostname, &domain, err));
        if (!str_empty(in->context->resolv_conf))
                file_read(in->context->resolv_conf, HOST_FILE_MAX, &resolv, NULL);
        dns.host_resolv = resolv;
        dns.no_resolver = str_empty(in->context->resolv_conf);
        files_resolv_conf(in->pod, &dns, &out->dns_notes, &text);
        files[0] = (FileSpec){ FILE_TEXT, arena_format(out->arena, "%s/resolv.conf", dir),
                               arena_strdup(out->arena, buf_str(&text)) };
        buf_clear(&text);
        if (in->pod->host_network)
                file_read("/etc/hosts", HOST_FILE_MAX, &hosts_text, NULL);
        files_hosts(in->pod, hostname, domain, in->pod_ips, hosts_text, &text);
        files[1] = (FileSpec){ FILE_TEXT, arena_format(out->arena, "%s/etc-hosts", dir),
                               arena_strdup(out->arena, buf_str(&text)) };
        for (size_t i = 0; i < 2; i++)
                if (!files[i].path || !files[i].text)
                        return kl_error_oom(err);
        return 0;
}

/* --- the sandbox --- */

int compile_sandbox(const PodContext *context, const Pod *pod, const char *id, unsigned int attempt,
                    Arena *arena, SandboxSpec *ret, KlError **err)
{
        static const QosClass classes[] = {
                [POD_GUARANTEED] = QOS_GUARANTEED,
                [POD_BURSTABLE] = QOS_BURSTABLE,
                [POD_BEST_EFFORT] = QOS_BEST_EFFORT,
        };
        KL_AUTOFREE char *hostname = NULL;
        KL_AUTOFREE char *domain = NULL;
        Sysctl *sysctls = ARENA_ARRAY(arena, pod->security.sysctls.n + 1, Sysctl);

        if (!sysctls)
                return kl_error_oom(err);
        KL_TRY(files_hostname(pod, context->dns.cluster_domain, &hostname, &domain, err));
        for (size_t i = 0; i < pod->security.sysctls.n; i++) {
                char *name = arena_strdup(arena, pod->security.sysctls.items[i].key);

                if (!name)
                        return kl_error_oom(err);
                sysctl_name_to_dots(name);
                sysctl_name_to_path(name);
                sysctls[i] = (Sysctl){ name, pod->security.sysctls.items[i].value };
        }
        *ret = (SandboxSpec){
                .id = id,
                .pod_uid = pod->uid,
                .pod_namespace = pod->namespace,
                .pod_name = pod->name,
                .attempt = attempt,
                .hostname = arena_strdup(arena, hostname),
                .host_network = pod->host_network,
                .host_pid = pod->host_pid,
                .host_ipc = pod->host_ipc,
                .share_pid = pod->share_pid,
                .user_namespace = !pod->host_users,
                .sysctls = sysctls,
                .n_sysctls = pod->security.sysctls.n,
                .qos = classes[pod_qos(pod)],
                .resources = compile_pod_resources(context, pod),
                .log_dir = compile_log_dir(context, pod, arena),
        };
        return ret->hostname && ret->log_dir ? 0 : kl_error_oom(err);
}

/* --- mounts --- */

typedef struct MountBuild {
        const CompileInput *in;
        Compiled *out;
        MountSpec *mounts;
        KlError **err;
} MountBuild;

static MountSpec *mount_next(MountBuild *b)
{
        MountSpec *m = &b->mounts[b->out->spec.n_mounts++];

        m->source_fd = -1;
        return m;
}

static int propagation_of(const VolumeMount *vm, MountPropagation *ret, KlError **err)
{
        *ret = PROPAGATION_NONE;
        if (str_eq(vm->mount_propagation, "HostToContainer"))
                *ret = PROPAGATION_HOST_TO_CONTAINER;
        else if (str_eq(vm->mount_propagation, "Bidirectional"))
                *ret = PROPAGATION_BIDIRECTIONAL;
        else if (vm->mount_propagation && !str_eq(vm->mount_propagation, "None"))
                return kl_error(err, -EINVAL, CONFIG_ERROR, "invalid MountPropagation mode: \"%s\"",
                                vm->mount_propagation);
        return 0;
}

static int add_volume_mount(MountBuild *b, const VolumeMount *vm)
{
        KL_AUTOFREE char *expanded = NULL;
        MountSpec *m = mount_next(b);
        int r;

        m->sub_path = str_empty(vm->sub_path) ? NULL : vm->sub_path;
        if (!str_empty(vm->sub_path_expr)) {
                KL_TRY(environment_expand_strict(vm->sub_path_expr, b->in->env, &expanded, b->err));
                m->sub_path = arena_strdup(b->out->arena, expanded);
                if (!m->sub_path)
                        return kl_error_oom(b->err);
        }
        r = pod_volume_source(b->in->volumes, vm->name, &m->source, &m->source_fd, b->err);
        if (r < 0) {
                if (b->err)
                        kl_error_default_reason(*b->err, CONFIG_ERROR);
                return r;
        }
        m->read_only = vm->read_only;
        m->recursive_read_only = vm->read_only && vm->recursive_read_only &&
                                 !str_eq(vm->recursive_read_only, "Disabled");
        m->target = vm->mount_path[0] == '/' ? vm->mount_path
                                             : arena_format(b->out->arena, "/%s", vm->mount_path);
        return propagation_of(vm, &m->propagation, b->err);
}

static bool has_mount_at(const Container *c, const char *path)
{
        for (size_t i = 0; i < c->n_mounts; i++)
                if (str_eq(c->mounts[i].mount_path, path))
                        return true;
        return false;
}

/* Files of the node's own, unless the pod mounts something there itself. */
static int add_pod_file(MountBuild *b, const char *name, const char *target)
{
        const char *dir = pod_dir(b->in->context, b->in->pod, b->out->arena);
        MountSpec *m;

        if (has_mount_at(b->in->container, target))
                return 0;
        m = mount_next(b);
        m->source = dir ? arena_format(b->out->arena, "%s/%s", dir, name) : NULL;
        m->target = target;
        return m->source ? 0 : kl_error_oom(b->err);
}

static int add_termination_file(MountBuild *b, FileSpec *file)
{
        const CompileInput *in = b->in;
        const Container *c = in->container;
        MountSpec *m;

        if (str_empty(c->termination_message_path) || has_mount_at(c, c->termination_message_path))
                return 0;
        *file = (FileSpec){
                FILE_FRESH,
                compile_termination_path(in->context, in->pod, c->name, in->id, b->out->arena), NULL
        };
        if (!file->path)
                return kl_error_oom(b->err);
        b->out->spec.n_files++;
        m = mount_next(b);
        m->source = file->path;
        m->target = c->termination_message_path;
        return 0;
}

static int add_mounts(MountBuild *b)
{
        const Container *c = b->in->container;
        FileSpec *files = ARENA_ARRAY(b->out->arena, 4, FileSpec);

        b->mounts = ARENA_ARRAY(b->out->arena, c->n_mounts + 4, MountSpec);
        if (!b->mounts || !files)
                return kl_error_oom(b->err);
        b->out->spec.mounts = b->mounts;
        b->out->spec.files = files;
        KL_TRY(add_pod_files(b->in, b->out, files, b->err));
        /* /var/log/containers/<pod>_<ns>_<container>-<id>.log, where log collectors look. */
        files[2] = (FileSpec){ FILE_LINK,
                               compile_log_link(b->in->context, b->in->pod, c->name, b->in->id,
                                                b->out->arena),
                               b->out->spec.log_path };
        if (!files[2].path)
                return kl_error_oom(b->err);
        b->out->spec.n_files = 3;
        for (size_t i = 0; i < c->n_mounts; i++)
                KL_TRY(add_volume_mount(b, &c->mounts[i]));
        KL_TRY(add_pod_file(b, "etc-hosts", "/etc/hosts"));
        KL_TRY(add_pod_file(b, "resolv.conf", "/etc/resolv.conf"));
        return add_termination_file(b, &files[3]);
}

/* --- identity and privilege --- */

static int64_t first_set(int64_t a, int64_t b)
{
        return a >= 0 ? a : b;
}

static int add_groups(const CompileInput *in, Compiled *out, KlError **err)
{
        const PodSecurity *ps = &in->pod->security;
        uint32_t *groups;
        size_t n = 0;

        if (ps->n_supplemental_groups > SUPPLEMENTARY_MAX)
                return kl_error(err, -EINVAL, CONFIG_ERROR, "more than %d supplemental groups",
                                SUPPLEMENTARY_MAX);
        groups = ARENA_ARRAY(out->arena, ps->n_supplemental_groups + 1, uint32_t);
        if (!groups)
                return kl_error_oom(err);
        for (size_t i = 0; i < ps->n_supplemental_groups; i++)
                groups[n++] = (uint32_t)ps->supplemental_groups[i];
        if (ps->fs_group >= 0)
                groups[n++] = (uint32_t)ps->fs_group;
        out->spec.supplementary_groups = groups;
        out->spec.n_supplementary_groups = n;
        out->spec.strict_groups = str_eq(ps->supplemental_groups_policy, "Strict");
        return 0;
}

static int add_seccomp(const CompileInput *in, ContainerSpec *spec, KlError **err)
{
        const SeccompProfile *p = &in->container->security.seccomp;

        if (!p->type)
                p = &in->pod->security.seccomp;
        if (!p->type)
                spec->seccomp =
                        in->context->seccomp_default ? SECCOMP_RUNTIME_DEFAULT : SECCOMP_UNCONFINED;
        else if (str_eq(p->type, "RuntimeDefault"))
                spec->seccomp = SECCOMP_RUNTIME_DEFAULT;
        else if (str_eq(p->type, "Unconfined"))
                spec->seccomp = SECCOMP_UNCONFINED;
        else if (!str_eq(p->type, "Localhost"))
                return kl_error(err, -EINVAL, CONFIG_ERROR, "invalid seccomp profile type '%s'",
                                p->type);
        else if (str_empty(p->localhost_profile))
                /* Never unconfined by mistake: CVE-2023-2431. */
                return kl_error(
                        err, -EINVAL, CONFIG_ERROR,
                        "localhostProfile must be set if seccompProfile type is Localhost.");
        else
                spec->seccomp = SECCOMP_LOCALHOST;
        spec->seccomp_profile = p->localhost_profile;
        return 0;
}

static void add_apparmor(const CompileInput *in, ContainerSpec *spec)
{
        AppArmorProfile profile = pod_apparmor(in->pod, in->container);

        if (str_eq(profile.type, "Localhost"))
                spec->apparmor = profile.localhost_profile;
        else if (str_eq(profile.type, "RuntimeDefault"))
                spec->apparmor = APPARMOR_DEFAULT;
}

static int add_security(const CompileInput *in, Compiled *out, KlError **err)
{
        const SecurityContext *sc = &in->container->security;
        const PodSecurity *ps = &in->pod->security;
        ContainerSpec *spec = &out->spec;
        int non_root = sc->run_as_non_root >= 0 ? sc->run_as_non_root : ps->run_as_non_root;

        spec->run_as_user = first_set(sc->run_as_user, ps->run_as_user);
        spec->run_as_group = first_set(sc->run_as_group, ps->run_as_group);
        spec->run_as_non_root = non_root == 1;
        spec->privileged = sc->privileged == 1;
        spec->allow_privilege_escalation = sc->allow_privilege_escalation != 0;
        spec->read_only_root = sc->read_only_root_filesystem == 1;
        spec->cap_add = sc->cap_add;
        spec->cap_drop = sc->cap_drop;
        spec->unmasked_proc = str_eq(sc->proc_mount, "Unmasked");
        add_apparmor(in, spec);
        if (spec->run_as_non_root && spec->run_as_user == 0)
                return kl_error(err, -EPERM, CONFIG_ERROR,
                                "container's runAsUser breaks non-root policy (pod: \"%s_%s(%s)\", "
                                "container: %s)",
                                in->pod->name, in->pod->namespace, in->pod->uid,
                                in->container->name);
        KL_TRY(add_groups(in, out, err));
        return add_seccomp(in, spec, err);
}

/*
 * runAsNonRoot without runAsUser depends on the image: a number decides now, a name is refused
 * because it could mean 0 (upstream's verifyRunAsNonRoot).
 */
static int check_non_root(const CompileInput *in, const ContainerSpec *spec, KlError **err)
{
        const char *user = in->image->user ? in->image->user : "";
        size_t n = strcspn(user, ":");
        KL_AUTOFREE char *name = strndup(user, n);
        uint64_t uid = 0;

        if (!spec->run_as_non_root || spec->run_as_user >= 0)
                return 0;
        if (!name)
                return kl_error_oom(err);
        if (n > 0 && str_to_u64(name, UINT32_MAX, &uid) < 0)
                return kl_error(err, -EPERM, CONFIG_ERROR,
                                "container has runAsNonRoot and image has non-numeric user (%s), "
                                "cannot verify user is non-root (pod: \"%s_%s(%s)\", container: "
                                "%s)",
                                name, in->pod->name, in->pod->namespace, in->pod->uid,
                                in->container->name);
        if (uid == 0)
                return kl_error(err, -EPERM, CONFIG_ERROR,
                                "container has runAsNonRoot and image will run as root (pod: "
                                "\"%s_%s(%s)\", container: %s)",
                                in->pod->name, in->pod->namespace, in->pod->uid,
                                in->container->name);
        return 0;
}

/* --- the environment --- */

static int add_environment(const CompileInput *in, Compiled *out, KlError **err)
{
        char node_name[HOST_NAME_MAX + 1] = "";
        KL_AUTOFREE char *hostname = NULL;
        KL_AUTOFREE char *domain = NULL;
        KL_AUTOSTRV list = NULL;
        size_t n = 0;
        char **env;

        KL_TRY(files_hostname(in->pod, in->context->dns.cluster_domain, &hostname, &domain, err));
        if (in->pod->host_network)
                gethostname(node_name, sizeof(node_name) - 1);
        list = environment_complete(in->pod->host_network ? node_name : hostname, in->image->env,
                                    in->env);
        env = list ? ARENA_ARRAY(out->arena, strv_len(list) + 1, char *) : NULL;
        if (!env)
                return kl_error_oom(err);
        for (char **e = list; *e; e++) {
                env[n] = arena_strdup(out->arena, *e);
                if (!env[n++])
                        return kl_error_oom(err);
        }
        out->spec.env = env;
        return 0;
}

/* --- the command --- */

/* command replaces the entrypoint and the image's arguments, args only the latter. */
static int add_args(const CompileInput *in, Compiled *out, KlError **err)
{
        const Container *c = in->container;
        bool own_command = c->command && c->command[0], own_args = c->args && c->args[0];
        char *const *head = own_command ? c->command : in->image->entrypoint;
        char *const *tail = own_args ? c->args : own_command ? NULL : in->image->cmd;
        KL_AUTOSTRV first = NULL;
        KL_AUTOSTRV second = NULL;
        size_t n = 0;
        char **args;

        /* Only what the pod says is expanded; the image's words are taken as they are. */
        first = own_command ? environment_expand_all(head, in->env) : strv_copy(head);
        second = own_args ? environment_expand_all(tail, in->env) : strv_copy(tail);
        if (!first || !second)
                return kl_error_oom(err);
        args = ARENA_ARRAY(out->arena, strv_len(first) + strv_len(second) + 1, char *);
        if (!args)
                return kl_error_oom(err);
        for (char **a = first; *a; a++)
                args[n++] = arena_strdup(out->arena, *a);
        for (char **a = second; *a; a++)
                args[n++] = arena_strdup(out->arena, *a);
        if (n == 0)
                return kl_error(err, -EINVAL, "CreateContainerError",
                                "no command specified: neither the image nor the pod names one");
        out->spec.args = args;
        return 0;
}

static int compile_into(const CompileInput *in, Compiled *out, KlError **err)
{
        const Container *c = in->container;
        ContainerSpec *spec = &out->spec;
        MountBuild mounts = { .in = in, .out = out, .err = err };
        const char *cwd = str_empty(c->working_dir) ? in->image->working_dir : c->working_dir;

        *spec = (ContainerSpec){
                .id = in->id,
                .name = c->name,
                .attempt = in->attempt,
                .image = c->image,
                .image_id = in->image->id,
                .image_ref = in->image->digests && in->image->digests[0] ? in->image->digests[0]
                                                                         : in->image->id,
                .spec_hash = c->hash,
                .layers = in->image->layers,
                .cwd = str_empty(cwd) ? "/" : cwd,
                .image_user = in->image->user,
                .volumes = in->image->volumes,
                .resources = compile_container_resources(in->context, in->pod, c),
                .oom_score_adj = compile_oom_score_adj(in->context, in->pod, c),
                .tty = c->tty,
                .stdin_open = c->stdin_open,
                .stdin_once = c->stdin_once,
                .stop_signal = in->container->lifecycle.stop_signal
                                       ? in->container->lifecycle.stop_signal
                                       : in->image->stop_signal,
                .pid_target = in->pid_target,
                .log_path =
                        compile_log_path(in->context, in->pod, c->name, in->attempt, out->arena),
                .log_max_bytes = in->context->log_max_bytes,
        };
        if (!spec->log_path)
                return kl_error_oom(err);
        KL_TRY(add_security(in, out, err));
        KL_TRY(check_non_root(in, spec, err));
        KL_TRY(add_environment(in, out, err));
        KL_TRY(add_args(in, out, err));
        return add_mounts(&mounts);
}

int compile_container(const CompileInput *in, Compiled *ret, KlError **err)
{
        Compiled out = { .arena = arena_new() };
        int r;

        if (!out.arena)
                return kl_error_oom(err);
        r = compile_into(in, &out, err);
        if (r < 0) {
                compiled_deinit(&out);
                return r;
        }
        *ret = out;
        return 0;
}

void compiled_deinit(Compiled *compiled)
{
        dns_notes_deinit(&compiled->dns_notes);
        arena_free(compiled->arena);
        *compiled = (Compiled){ 0 };
}
