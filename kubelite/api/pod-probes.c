/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Decoding of probes and lifecycle hooks, held to the rules of upstream's validation, since static
 * pods come here without having passed an API server.
 */

#include "api/pod-internal.h"

#include "base/str.h"

#include <ctype.h>
#include <signal.h>

#define HEADERS_MAX 128

const char *probe_kind_name(ProbeKind kind)
{
        static const char *const names[PROBE_KINDS] = { "Liveness", "Readiness", "Startup" };

        return names[kind];
}

/* --- ports --- */

/* IANA_SVC_NAME, RFC 6335: up to 15 of [a-z0-9-], a letter among them, no hyphen at an end or
 * beside another. */
static bool is_port_name(const char *s)
{
        size_t len = strlen(s);
        bool letter = false;

        if (len == 0 || len > 15 || s[0] == '-' || s[len - 1] == '-' || strstr(s, "--"))
                return false;
        for (; *s; s++) {
                if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s) && *s != '-')
                        return false;
                letter |= islower((unsigned char)*s) != 0;
        }
        return letter;
}

static uint16_t port_by_name(const Container *c, const char *name)
{
        for (size_t i = 0; i < c->n_ports; i++)
                if (str_eq(c->ports[i].name, name))
                        return c->ports[i].container_port;
        return 0;
}

/* A name that no port has is found out when it is used: upstream takes such pods. */
static int decode_handler_port(const Decode *d, const Field *f, const Container *c, Handler *ret)
{
        Field port = field_get(f, "port");
        uint64_t number;

        if (!field_present(&port))
                return field_error(&port, d->err, "is required");
        KL_TRY(field_scalar(f, "port", d->arena, &ret->port_name, d->err));
        if (value_type(port.value) == VALUE_STRING && is_port_name(ret->port_name)) {
                ret->port = port_by_name(c, ret->port_name);
                return 0;
        }
        if (str_to_u64(ret->port_name, 65535, &number) < 0 || number == 0)
                return field_error(&port, d->err,
                                   "'%s' is neither a port number nor the name of one",
                                   ret->port_name);
        ret->port = (uint16_t)number;
        return 0;
}

/* --- handlers --- */

static int decode_exec(const Decode *d, const Field *f, const Container *c, Handler *ret)
{
        Field command = field_get(f, "command");

        KL_TRY(field_strv(f, "command", d->arena, &ret->command, d->err));
        return ret->command && ret->command[0] ? 0 : field_error(&command, d->err, "is required");
}

static int decode_headers(const Decode *d, const Field *f, Handler *ret)
{
        Field list;
        size_t n;

        KL_TRY(field_array(f, "httpHeaders", HEADERS_MAX, &list, &n, d->err));
        ret->headers = ARENA_ARRAY(d->arena, n + 1, HttpHeader);
        if (!ret->headers)
                return kl_error_oom(d->err);
        for (size_t i = 0; i < n; i++) {
                Field item = field_at(&list, i), name = field_get(&item, "name");
                char *texts[2] = { NULL, arena_strdup(d->arena, "") };
                HttpHeader *header = &ret->headers[ret->n_headers++];

                KL_TRY(decode_name(d, &item, "name", &texts[0]));
                KL_TRY(field_str(&item, "value", d->arena, &texts[1], d->err));
                *header = (HttpHeader){ texts[0], "" };
                if (!http_headers_are_valid(header, 1))
                        return field_error(&name, d->err, "'%s' is no name of an HTTP header",
                                           texts[0]);
                /* A value that cannot be sent fails the request: upstream takes such pods. */
                header->value = texts[1] ? texts[1] : "";
        }
        return 0;
}

static int decode_http(const Decode *d, const Field *f, const Container *c, Handler *ret)
{
        Field scheme_field = field_get(f, "scheme");
        char *scheme = NULL;

        KL_TRY(field_str(f, "path", d->arena, &ret->path, d->err));
        if (str_empty(ret->path))
                ret->path = arena_strdup(d->arena, "/");
        KL_TRY(field_str(f, "scheme", d->arena, &scheme, d->err));
        ret->https = str_eq(scheme, "HTTPS");
        if (!str_empty(scheme) && !ret->https && !str_eq(scheme, "HTTP"))
                return field_error(&scheme_field, d->err, "'%s' is none of HTTP, HTTPS", scheme);
        KL_TRY(field_str(f, "host", d->arena, &ret->host, d->err));
        KL_TRY(decode_headers(d, f, ret));
        return decode_handler_port(d, f, c, ret);
}

static int decode_tcp(const Decode *d, const Field *f, const Container *c, Handler *ret)
{
        KL_TRY(field_str(f, "host", d->arena, &ret->host, d->err));
        return decode_handler_port(d, f, c, ret);
}

static int decode_grpc(const Decode *d, const Field *f, const Container *c, Handler *ret)
{
        Field port = field_get(f, "port");
        int64_t number = 0;

        if (!field_present(&port))
                return field_error(&port, d->err, "is required");
        KL_TRY(field_int(f, "port", 1, 65535, &number, d->err));
        ret->port = (uint16_t)number;
        ret->service = arena_strdup(d->arena, "");
        return field_str(f, "service", d->arena, &ret->service, d->err);
}

static int decode_sleep(const Decode *d, const Field *f, const Container *c, Handler *ret)
{
        Field seconds = field_get(f, "seconds");

        if (!field_present(&seconds))
                return field_error(&seconds, d->err, "is required");
        return field_int(f, "seconds", 0, INT32_MAX, &ret->sleep_s, d->err);
}

static const struct {
        const char *key;
        bool probe, hook;
        int (*decode)(const Decode *d, const Field *f, const Container *c, Handler *ret);
} handlers[] = {
        [HANDLER_EXEC] = { "exec", true, true, decode_exec },
        [HANDLER_HTTP] = { "httpGet", true, true, decode_http },
        [HANDLER_TCP] = { "tcpSocket", true, true, decode_tcp },
        [HANDLER_GRPC] = { "grpc", true, false, decode_grpc },
        [HANDLER_SLEEP] = { "sleep", false, true, decode_sleep },
};

static int decode_handler(const Decode *d, const Field *f, bool hook, const Container *c,
                          Handler *ret)
{
        bool found = false;

        for (size_t i = 0; i < ELEMENTS(handlers); i++) {
                Field one;
                int r = field_object(f, handlers[i].key, &one, d->err);

                if (r < 0)
                        return r;
                if (r > 0 || !(hook ? handlers[i].hook : handlers[i].probe))
                        continue;
                if (found)
                        return field_error(&one, d->err, "there is another handler already");
                found = true;
                ret->kind = (HandlerKind)i;
                KL_TRY(handlers[i].decode(d, &one, c, ret));
        }
        return found ? 0
                     : field_error(f, d->err, "has no handler: one of exec, httpGet, tcpSocket, %s",
                                   hook ? "sleep" : "grpc");
}

/* --- probes --- */

/* 0 stands for the default, as the API server has it. */
static int decode_count(const Decode *d, const Field *f, const char *key, int64_t fallback,
                        int64_t *ret)
{
        *ret = 0;
        KL_TRY(field_int(f, key, 0, INT32_MAX, ret, d->err));
        if (*ret == 0)
                *ret = fallback;
        return 0;
}

static int check_probe(const Decode *d, const Field *f, ProbeKind kind, const Probe *probe)
{
        Field threshold = field_get(f, "successThreshold"),
              grace = field_get(f, "terminationGracePeriodSeconds");

        if (kind != PROBE_READINESS && probe->success_threshold != 1)
                return field_error(&threshold, d->err, "must be 1");
        if (kind == PROBE_READINESS && field_present(&grace))
                return field_error(&grace, d->err, "must not be set for readinessProbes");
        return 0;
}

static int decode_probe(const Decode *d, const Field *container, ProbeKind kind, Container *c)
{
        static const char *const keys[PROBE_KINDS] = { "livenessProbe", "readinessProbe",
                                                       "startupProbe" };
        Probe *probe;
        Field f;
        int r = field_object(container, keys[kind], &f, d->err);

        if (r != 0)
                return r < 0 ? r : 0;
        if (c->kind == CONTAINER_EPHEMERAL)
                return field_error(&f, d->err, "cannot be set for an ephemeral container");
        if (c->kind == CONTAINER_INIT && !c->sidecar)
                return field_error(&f, d->err,
                                   "may not be set for init containers without "
                                   "restartPolicy=Always");
        probe = ARENA_NEW(d->arena, Probe);
        if (!probe)
                return kl_error_oom(d->err);
        probe->grace_s = -1;
        KL_TRY(decode_handler(d, &f, false, c, &probe->handler));
        KL_TRY(decode_count(d, &f, "initialDelaySeconds", 0, &probe->initial_delay_s));
        KL_TRY(decode_count(d, &f, "timeoutSeconds", 1, &probe->timeout_s));
        KL_TRY(decode_count(d, &f, "periodSeconds", 10, &probe->period_s));
        KL_TRY(decode_count(d, &f, "successThreshold", 1, &probe->success_threshold));
        KL_TRY(decode_count(d, &f, "failureThreshold", 3, &probe->failure_threshold));
        KL_TRY(field_int(&f, "terminationGracePeriodSeconds", 1, INT64_MAX / 1000, &probe->grace_s,
                         d->err));
        c->probes[kind] = probe;
        return check_probe(d, &f, kind, probe);
}

/* --- hooks --- */

static int decode_hook(const Decode *d, const Field *lifecycle, const char *key, const Pod *pod,
                       const Container *c, Handler **ret)
{
        Handler *handler;
        Field f;
        int r = field_object(lifecycle, key, &f, d->err);

        if (r != 0)
                return r < 0 ? r : 0;
        handler = ARENA_NEW(d->arena, Handler);
        if (!handler)
                return kl_error_oom(d->err);
        KL_TRY(decode_handler(d, &f, true, c, handler));
        if (handler->kind == HANDLER_SLEEP && handler->sleep_s > pod->grace_s) {
                Field sleep = field_get(&f, "sleep"), seconds = field_get(&sleep, "seconds");

                return field_error(&seconds, d->err,
                                   "must be non-negative and less than "
                                   "terminationGracePeriodSeconds (%lld)",
                                   (long long)pod->grace_s);
        }
        *ret = handler;
        return 0;
}

/* "SIGTERM", "SIGRTMIN+3", "SIGRTMAX-2". */
static bool is_signal(const char *name)
{
        static const char *const aliases[] = { "CLD", "IO", "IOT" };
        uint64_t offset;

        if (!str_starts(name, "SIG"))
                return false;
        name += 3;
        if (str_eq(name, "RTMIN") || str_eq(name, "RTMAX"))
                return true;
        if (str_starts(name, "RTMIN+") || str_starts(name, "RTMAX-"))
                return str_to_u64(name + 6, 15, &offset) == 0;
        for (int signo = 1; signo < NSIG; signo++)
                if (str_eq(name, sigabbrev_np(signo)))
                        return true;
        for (size_t i = 0; i < ELEMENTS(aliases); i++)
                if (str_eq(name, aliases[i]))
                        return true;
        return false;
}

static int decode_stop_signal(const Decode *d, const Field *lifecycle, Lifecycle *ret)
{
        Field f = field_get(lifecycle, "stopSignal");

        KL_TRY(field_str(lifecycle, "stopSignal", d->arena, &ret->stop_signal, d->err));
        if (ret->stop_signal && !is_signal(ret->stop_signal))
                return field_error(&f, d->err, "'%s' is no signal", ret->stop_signal);
        return 0;
}

static int decode_lifecycle(const Decode *d, const Field *container, const Pod *pod, Container *c)
{
        Field f;
        int r = field_object(container, "lifecycle", &f, d->err);

        if (r != 0)
                return r < 0 ? r : 0;
        if (c->kind == CONTAINER_EPHEMERAL)
                return field_error(&f, d->err, "cannot be set for an ephemeral container");
        if (c->kind == CONTAINER_INIT && !c->sidecar)
                return field_error(&f, d->err,
                                   "may not be set for init containers without "
                                   "restartPolicy=Always");
        KL_TRY(decode_hook(d, &f, "postStart", pod, c, &c->lifecycle.post_start));
        KL_TRY(decode_hook(d, &f, "preStop", pod, c, &c->lifecycle.pre_stop));
        return decode_stop_signal(d, &f, &c->lifecycle);
}

int decode_probes_and_hooks(const Decode *d, const Field *container, const Pod *pod, Container *c)
{
        for (int kind = 0; kind < PROBE_KINDS; kind++)
                KL_TRY(decode_probe(d, container, (ProbeKind)kind, c));
        return decode_lifecycle(d, container, pod, c);
}
