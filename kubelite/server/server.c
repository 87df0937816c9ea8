/* SPDX-License-Identifier: Apache-2.0 */

/* Puts the parts of the kubelet API together, and keeps its port and its files under watch. */

#include "server/server-internal.h"

#include "base/log.h"
#include "base/str.h"

#include <assert.h>
#include <malloc.h>

#define TRIM_AFTER_CONNECTIONS 64

static int start_listening(KubeletServer *s, KlError **err)
{
        const KubeletConfig *config = s->options.config;
        KL_AUTOFREE char *cert = NULL;
        KL_AUTOFREE char *key = NULL;
        ServerTls tls = {
                .min_version = config->tls_min_version,
                .cipher_suites = config->tls_cipher_suites,
                .ask_client_cert = !str_empty(config->client_ca_file),
        };
        HttpServerSpec spec = {
                .address = config->address,
                .port = (uint16_t)config->port,
                .tls = &tls,
                .stall_ms = (uint64_t)config->streaming_connection_idle_timeout_us / 1000,
                .request = server_on_request,
                .data = s,
        };
        int r;

        KL_TRY(server_certificate_load(s, &cert, &key, err));
        tls.cert_pem = cert;
        tls.key_pem = key;
        r = http_server_new(s->loop, &spec, &s->http, err);
        if (key)
                explicit_bzero(key, strlen(key));
        return r;
}

static bool is_port_trouble(int code)
{
        return code == -EADDRINUSE || code == -EADDRNOTAVAIL;
}

static int try_listening(KubeletServer *s, KlError **err)
{
        KL_AUTOERR reason = NULL;
        int r = start_listening(s, &reason);

        if (r == 0) {
                log_info(NULL, "The kubelet API listens on port %lld",
                         (long long)s->options.config->port);
                return 0;
        }
        if (!is_port_trouble(r))
                return kl_error_move(err, &reason);
        if (!s->port_failed)
                log_error(NULL, "The kubelet API is not served yet: %s", kl_error_msg(reason));
        s->port_failed = true;
        timer_start(s->retry, SERVER_RETRY_MS);
        return 0;
}

static void on_retry(Timer *timer, void *data)
{
        KubeletServer *s = data;
        KL_AUTOERR err = NULL;

        if (try_listening(s, &err) == 0)
                return;
        log_error(NULL, "The kubelet API is not served: %s", kl_error_msg(err));
        timer_start(s->retry, SERVER_RETRY_MS);
}

/* What a burst of connections needed goes back to the system when it is over. */
static void give_memory_back(KubeletServer *s)
{
        size_t n = s->http ? listener_connections(http_server_listener(s->http)) : 0;

        if (n > s->peak)
                s->peak = n;
        if (n * 4 > s->peak || s->peak < TRIM_AFTER_CONNECTIONS)
                return;
        s->peak = n;
        malloc_trim(0);
}

static void on_check(Timer *timer, void *data)
{
        KubeletServer *s = data;

        server_certificate_check(s);
        auth_reload(s->auth);
        give_memory_back(s);
        timer_start(timer, SERVER_CHECK_FILES_MS);
}

static int name_files(KubeletServer *s, KlError **err)
{
        const KubeletConfig *config = s->options.config;

        s->self_signed =
                str_empty(config->tls_cert_file) && str_empty(config->tls_private_key_file);
        s->cert_file = s->self_signed ? str_format("%s/kubelet.crt", s->options.cert_dir)
                                      : strdup(config->tls_cert_file);
        s->key_file = s->self_signed ? str_format("%s/kubelet.key", s->options.cert_dir)
                                     : strdup(config->tls_private_key_file);
        return s->cert_file && s->key_file ? 0 : kl_error_oom(err);
}

static int start_auth(KubeletServer *s, KlError **err)
{
        const KubeletConfig *config = s->options.config;
        AuthOptions options = {
                .api = s->options.api,
                .node_name = s->options.node_name,
                .client_ca_file = config->client_ca_file,
                .anonymous = config->anonymous_auth,
                .webhook_authn = config->webhook_auth,
                .always_allow = str_eq(config->authorization_mode, "AlwaysAllow"),
                .token_ttl_ms = (uint64_t)config->webhook_auth_cache_ttl_us / 1000,
                .allow_ttl_ms = (uint64_t)config->cache_authorized_ttl_us / 1000,
                .deny_ttl_ms = (uint64_t)config->cache_unauthorized_ttl_us / 1000,
        };

        return auth_new(s->loop, &options, &s->auth, err);
}

int kubelet_server_new(Loop *loop, const KubeletServerOptions *options, KubeletServer **ret,
                       KlError **err)
{
        static char *no_addresses[] = { NULL };
        KL_AUTO(kubelet_server_free) KubeletServer *s = calloc(1, sizeof(*s));

        if (!s)
                return kl_error_oom(err);
        list_init(&s->streams);
        list_init(&s->dead_streams);
        s->loop = loop;
        s->options = *options;
        s->addresses = strv_copy(options->addresses ? options->addresses : no_addresses);
        s->retry = timer_new(loop, on_retry, s);
        s->check = timer_new(loop, on_check, s);
        s->streams_sweep = deferred_new(loop, server_streams_sweep, s);
        if (!s->addresses || !s->retry || !s->check || !s->streams_sweep)
                return kl_error_oom(err);
        KL_TRY(name_files(s, err));
        KL_TRY(start_auth(s, err));
        KL_TRY(log_service_new(loop, options->log_dir, &s->logs, err));
        KL_TRY(try_listening(s, err));
        timer_start(s->check, SERVER_CHECK_FILES_MS);
        *ret = KL_STEAL(s);
        return 0;
}

KubeletServer *kubelet_server_free(KubeletServer *s)
{
        if (!s)
                return NULL;
        server_streams_stop(s);
        http_server_free(s->http);
        assert(s->n_requests == 0);
        deferred_free(s->streams_sweep);
        log_service_free(s->logs);
        auth_free(s->auth);
        timer_free(s->retry);
        timer_free(s->check);
        for (size_t i = 0; i < s->n_extra; i++)
                free(s->extra[i].segment);
        strv_free(s->addresses);
        free(s->cert_file);
        free(s->key_file);
        free(s);
        return NULL;
}

int kubelet_server_handle(KubeletServer *s, const char *segment, ServerHandlerFunc func, void *data)
{
        size_t i = 0;

        while (i < s->n_extra && !str_eq(s->extra[i].segment, segment))
                i++;
        if (i == SERVER_EXTRA_HANDLERS_MAX)
                return -ENOBUFS;
        if (i == s->n_extra) {
                s->extra[i].segment = strdup(segment);
                if (!s->extra[i].segment)
                        return -ENOMEM;
                s->n_extra++;
        }
        s->extra[i].handler = (ExtraHandler){ func, data };
        return 0;
}
