/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Handlers of RuntimeClasses: other OCI runtimes, by name and program. Their containers are
 * compiled as all others; the shim has the runtime make them from the OCI document
 * (shim/handler.c).
 */

#include "runtime/runtime-internal.h"

#include "base/str.h"

int handlers_copy(char *const *handlers, char ***ret, KlError **err)
{
        for (size_t i = 0; handlers && handlers[i]; i++) {
                const char *path = strchr(handlers[i], '=');
                KL_AUTOFREE char *name =
                        path ? strndup(handlers[i], (size_t)(path - handlers[i])) : NULL;

                if (!path || path[1] != '/' || !name_is_dns1123_label(name))
                        return kl_error(err, -EINVAL, NULL,
                                        "runtime handler \"%s\": expected NAME=/PATH/OF/PROGRAM",
                                        handlers[i]);
                if (strv_add(ret, handlers[i]) < 0)
                        return kl_error_oom(err);
        }
        return 0;
}

const char *handler_program(const Runtime *runtime, const char *name)
{
        size_t len = strlen(name);

        for (char **h = runtime->handlers; h && *h; h++)
                if (strncmp(*h, name, len) == 0 && (*h)[len] == '=')
                        return *h + len + 1;
        return NULL;
}

bool runtime_has_handler(const Runtime *runtime, const char *name)
{
        return str_empty(name) || handler_program(runtime, name);
}

int handler_check(const Runtime *runtime, const SandboxSpec *spec, KlError **err)
{
        if (!runtime_has_handler(runtime, spec->handler))
                return kl_error(err, -EOPNOTSUPP, "FailedCreatePodSandBox",
                                "failed to get sandbox runtime: no runtime for \"%s\" is "
                                "configured",
                                spec->handler);
        if (!str_empty(spec->handler) && spec->user_namespace)
                return kl_error(err, -EOPNOTSUPP, "FailedCreatePodSandBox",
                                "the runtime handler \"%s\" does not support user namespaces",
                                spec->handler);
        return 0;
}

int handler_context(const Sandbox *s, const ContainerSpec *spec, Arena *arena, DocumentContext *ret,
                    KlError **err)
{
        const Container *target =
                str_empty(spec->pid_target) ? NULL : container_find(s, spec->pid_target);
        pid_t holder = target ? target->pid : s->init_pid;

        if (str_empty(s->spec.handler))
                return 0;
        ret->bundle =
                arena_format(arena, "%s/" SHIM_CONTAINERS_NAME "/%s/bundle", s->dir, spec->id);
        ret->ipc_path = arena_format(arena, "%s/" SHIM_IPC_PIN_NAME, s->dir);
        ret->uts_path = arena_format(arena, "%s/" SHIM_UTS_PIN_NAME, s->dir);
        if (!ret->bundle || !ret->ipc_path || !ret->uts_path)
                return kl_error_oom(err);
        if (holder > 0)
                snprintf(ret->pid_path, sizeof(ret->pid_path), "/proc/%d/ns/pid", holder);
        return 0;
}

int handler_render(Container *c, const DocumentContext *context, const char *profile, size_t len,
                   KlError **err)
{
        SeccompProfile *seccomp = NULL;
        int r = 0;

        if (str_empty(c->sandbox->spec.handler))
                return 0;
        if (c->document->seccomp == SECCOMP_LOCALHOST)
                r = seccomp_parse_profile(profile, len, c->document->caps, c->arena, &seccomp, err);
        else if (c->document->seccomp == SECCOMP_RUNTIME_DEFAULT &&
                 !(seccomp = seccomp_default_profile(c->arena, c->document->caps)))
                r = kl_error_oom(err);
        if (r == 0 && document_render_parts(c->document, context, seccomp, &c->parts) < 0)
                r = kl_error_oom(err);
        return r;
}

void handler_digest(Container *c)
{
        const Sandbox *s = c->sandbox;
        ShimStart *start = &c->digest->start;

        if (str_empty(s->spec.handler))
                return;
        start->handler = handler_program(s->runtime, s->spec.handler);
        start->config_head = c->parts.head;
        start->config_tail = c->parts.tail;
        start->process_rest = c->parts.process_rest;
}
