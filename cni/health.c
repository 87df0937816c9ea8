/* SPDX-License-Identifier: Apache-2.0 */

/*
 * STATUS: from version 1.1.0 plugins tell whether they can take an ADD. One round asks each plugin
 * of the configuration in use in turn; the first that fails decides. Between two rounds the last
 * answer holds.
 */

#include "cni/cni-internal.h"

#include "base/log.h"
#include "base/str.h"

struct CniHealth {
        Cni *cni;
        CniConfig *config; /* under question */
        size_t at;
        Worker *worker;
        Timer *timer;
        char *message; /* NULL: well */
};

static void health_step(CniHealth *h);

CniHealth *cni_health_free(CniHealth *h)
{
        if (!h)
                return NULL;
        worker_free(h->worker);
        timer_free(h->timer);
        cni_config_free(h->config);
        free(h->message);
        free(h);
        return NULL;
}

const char *cni_health_message(const Cni *cni)
{
        return cni->health->message;
}

static void health_end(CniHealth *h, const KlError *err)
{
        char *message = err ? strdup(kl_error_msg(err)) : NULL;
        bool changed = !str_eq(message, h->message);

        free(h->message);
        h->message = message;
        h->config = cni_config_free(h->config);
        timer_start(h->timer, message ? CNI_STATUS_RETRY_MS : CNI_STATUS_INTERVAL_MS);
        if (changed && message)
                log_warning(NULL, "The pods' network is not ready: %s", message);
        if (changed && h->cni->changed)
                h->cni->changed(h->cni->data);
}

static void on_status(Worker *worker, WorkerResult *result, void *data)
{
        CniHealth *h = data;
        KL_AUTOERR err = NULL;
        int r = cni_outcome(result, CNI_QUERY_TIMEOUT_MS, &err);

        if (r < 0)
                cni_wrap_plugin(&err, r, cni_config_plugin(h->config, h->at), "STATUS");
        h->worker = worker_free(worker);
        h->at++;
        if (r < 0)
                health_end(h, err);
        else
                health_step(h);
}

static void health_step(CniHealth *h)
{
        const Value *plugin = cni_config_plugin(h->config, h->at);
        CniInvocation inv = { .verb = "STATUS",
                              .plugin = plugin,
                              .network = h->config->name,
                              .version = cni_version_highest(h->config->versions),
                              .timeout_ms = CNI_QUERY_TIMEOUT_MS };
        KL_AUTOERR err = NULL;
        int r;

        if (h->at == h->config->n_plugins) {
                health_end(h, NULL);
                return;
        }
        r = cni_invoke(h->cni, &inv, on_status, h, &h->worker, &err);
        if (r < 0) {
                cni_wrap_plugin(&err, r, plugin, inv.verb);
                health_end(h, err);
        }
}

static void health_start(CniHealth *h)
{
        const CniConfig *config = h->cni->config;
        KL_AUTOERR err = NULL;

        h->worker = worker_free(h->worker);
        h->config = cni_config_free(h->config);
        h->at = 0;
        timer_stop(h->timer);
        if (!config || cni_version_highest(config->versions) < CNI_1_1_0) {
                free(KL_STEAL(h->message));
                return;
        }
        if (cni_config_parse(config->text, strlen(config->text), true, NULL, &h->config, &err) < 0)
                health_end(h, err);
        else
                health_step(h);
}

static void on_timer(Timer *timer, void *data)
{
        health_start(data);
}

/* Until a network of version 1.1.0 has answered for the first time it is not ready. */
void cni_health_check(Cni *cni)
{
        CniHealth *h = cni->health;

        if (cni->config && cni_version_highest(cni->config->versions) >= CNI_1_1_0 && !h->message)
                h->message = strdup("cni plugin not initialized");
        if (cni->config && cni_version_highest(cni->config->versions) >= CNI_1_1_0)
                timer_start(h->timer, 0);
        else
                health_start(h);
}

int cni_health_new(Cni *cni, KlError **err)
{
        CniHealth *h = calloc(1, sizeof(*h));

        if (!h)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        cni->health = h;
        h->cni = cni;
        h->timer = timer_new(cni->loop, on_timer, h);
        return h->timer ? 0 : kl_error(err, -ENOMEM, NULL, "out of memory");
}
