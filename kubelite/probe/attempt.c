/* SPDX-License-Identifier: Apache-2.0 */

/* What all kinds of attempts have in common: the deadline, and telling once. */

#include "probe/probe-internal.h"

#include "base/clock.h"
#include "base/str.h"

#include <ctype.h>
#include <stdarg.h>

/* --- the prober --- */

/* "v1.36.2" -> "1.36". */
static int minor_version(const char *version, char *buf, size_t size)
{
        const char *dot;

        if (*version == 'v')
                version++;
        dot = strchr(version, '.');
        if (!dot)
                return -EINVAL;
        dot++;
        dot += strspn(dot, "0123456789");
        snprintf(buf, size, "%.*s", (int)(dot - version), version);
        return 0;
}

int prober_new(Loop *loop, const char *version, Prober **ret, KlError **err)
{
        KL_AUTO(prober_free) Prober *prober = calloc(1, sizeof(*prober));
        TlsSpec tls = { .insecure_skip_verify = true };
        char minor[32];

        if (!prober)
                return kl_error_oom(err);
        if (minor_version(version, minor, sizeof(minor)) < 0)
                return kl_error(err, -EINVAL, NULL, "'%s' is no version of Kubernetes", version);
        prober->loop = loop;
        prober->started_ms = time_monotonic_ms();
        prober->probe_agent = str_format("kube-probe/%s", minor);
        prober->lifecycle_agent = str_format("kube-lifecycle/%s", minor);
        if (!prober->probe_agent || !prober->lifecycle_agent)
                return kl_error_oom(err);
        KL_TRY(tls_context_new(&tls, &prober->tls, err));
        *ret = KL_STEAL(prober);
        return 0;
}

Prober *prober_free(Prober *prober)
{
        if (!prober)
                return NULL;
        tls_context_unref(prober->tls);
        free(prober->probe_agent);
        free(prober->lifecycle_agent);
        free(prober);
        return NULL;
}

uint64_t prober_age_ms(const Prober *prober)
{
        return time_monotonic_ms() - prober->started_ms;
}

/* --- telling --- */

void attempt_tell_result(Attempt *a, const AttemptResult *result)
{
        if (a->told)
                return;
        a->told = true;
        timer_stop(a->deadline);
        a->done(a, result, a->data);
}

void attempt_tell(Attempt *a, ProbeOutcome outcome, const char *output)
{
        AttemptResult result = { .outcome = outcome, .output = output };

        attempt_tell_result(a, &result);
}

void attempt_tellf(Attempt *a, ProbeOutcome outcome, const char *format, ...)
{
        KL_AUTOBUF text = BUF_INIT;
        va_list args;

        va_start(args, format);
        buf_vaddf(&text, format, args);
        va_end(args);
        attempt_tell(a, outcome, buf_str(&text));
}

static void on_deadline(Timer *timer, void *data)
{
        Attempt *a = data;

        a->ops->timed_out(a);
}

static void on_failing(Deferred *deferred, void *data)
{
        Attempt *a = data;

        attempt_tell(a, PROBE_UNKNOWN, a->failure ? a->failure : "out of memory");
}

/* --- starting --- */

int attempt_start(Prober *prober, const AttemptSpec *spec, Attempt **ret, KlError **err)
{
        static const AttemptOps *const kinds[] = {
                [HANDLER_EXEC] = &attempt_exec,   [HANDLER_HTTP] = &attempt_http,
                [HANDLER_TCP] = &attempt_tcp,     [HANDLER_GRPC] = &attempt_grpc,
                [HANDLER_SLEEP] = &attempt_sleep,
        };
        const AttemptOps *ops = kinds[spec->handler->kind];
        KL_AUTO(attempt_free) Attempt *a = calloc(1, ops->size);
        KL_AUTOERR failure = NULL;

        if (!a)
                return kl_error_oom(err);
        a->ops = ops;
        a->prober = prober;
        a->hook = spec->hook;
        a->timeout_ms = spec->timeout_ms;
        a->done = spec->done;
        a->data = spec->data;
        a->deadline = timer_new(prober->loop, on_deadline, a);
        a->failing = deferred_new(prober->loop, on_failing, a);
        if (!a->deadline || !a->failing)
                return kl_error_oom(err);
        if (ops->start(a, spec, &failure) < 0) {
                ops->stop(a);
                a->failure = strdup(kl_error_msg(failure));
                deferred_schedule(a->failing);
        } else if (spec->timeout_ms) {
                timer_start(a->deadline, spec->timeout_ms + ops->slack_ms);
        }
        *ret = KL_STEAL(a);
        return 0;
}

Attempt *attempt_free(Attempt *a)
{
        if (!a)
                return NULL;
        a->ops->stop(a);
        timer_free(a->deadline);
        deferred_free(a->failing);
        free(a->failure);
        free(a);
        return NULL;
}

/* --- addresses --- */

int attempt_host(const AttemptSpec *spec, const char **ret, KlError **err)
{
        *ret = !str_empty(spec->handler->host) ? spec->handler->host : spec->pod_ip;
        if (str_empty(*ret))
                return kl_error(err, -EADDRNOTAVAIL, NULL, "the pod has no address");
        return 0;
}

int attempt_port(const AttemptSpec *spec, KlError **err)
{
        const Handler *h = spec->handler;

        if (h->port == 0)
                return kl_error(err, -EINVAL, NULL, "strconv.Atoi: parsing \"%s\": invalid syntax",
                                h->port_name ? h->port_name : "");
        return 0;
}

void host_port_format(const char *host, uint16_t port, char ret[static HOST_PORT_MAX])
{
        snprintf(ret, HOST_PORT_MAX, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

void dial_error_format(const KlError *err, const char *host_port, char *buf, size_t size)
{
        char text[128];

        switch (err->code) {
        case -ECONNREFUSED:
        case -EHOSTUNREACH:
        case -ENETUNREACH:
        case -EACCES:
        case -EPERM:
                snprintf(text, sizeof(text), "%s", strerror(-err->code));
                text[0] = (char)tolower((unsigned char)text[0]);
                snprintf(buf, size, "dial tcp %s: connect: %s", host_port, text);
                break;
        case -ETIMEDOUT:
                snprintf(buf, size, "dial tcp %s: i/o timeout", host_port);
                break;
        case -ECONNRESET:
                snprintf(buf, size, "EOF");
                break;
        default:
                snprintf(buf, size, "%s", err->msg);
        }
}
