/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The registry protocol (OCI distribution 1.1, docker registry v2), as far as reading goes.
 *
 * Credentials go to the origin (scheme, host, port) of the endpoint that they belong to and to the
 * token server that it names, and nowhere else: a redirect to another origin is followed without.
 */

#include "image/worker/registry-internal.h"

#include "base/clock.h"
#include "base/str.h"

#include <curl/curl.h>
#include <time.h>

/* --- set-up --- */

static int decode_endpoint(const Field *field, Arena *arena, Endpoint *ret, KlError **err)
{
        const struct {
                const char *key;
                const char **to;
        } texts[] = {
                { "base", &ret->base },
                { "repository", &ret->repository },
                { "namespace", &ret->host_argument },
                { "username", &ret->credentials.username },
                { "password", &ret->credentials.password },
                { "identityToken", &ret->credentials.identity_token },
                { "registryToken", &ret->credentials.registry_token },
                { "ca", &ret->tls.ca },
                { "cert", &ret->tls.cert },
                { "key", &ret->tls.key },
        };
        char *authorization = NULL;
        int r = field_bool(field, "insecure", &ret->tls.insecure, err);

        if (r == 0)
                r = field_bool(field, "fallback", &ret->fallback, err);
        for (size_t i = 0; i < ELEMENTS(texts) && r == 0; i++) {
                char *text = NULL;

                r = field_str(field, texts[i].key, arena, &text, err);
                *texts[i].to = text;
        }
        if (r == 0)
                r = field_str(field, "authorization", arena, &authorization, err);
        if (r == 0 && (!ret->base || !ret->repository))
                r = field_error(field, err, "has no address");
        if (r == 0 && authorization)
                ret->authorization = strdup(authorization);
        return r;
}

int registry_init(Registry *registry, const Value *document, Arena *arena, KlError **err)
{
        Field root = field_root(document), list;
        char *name = NULL;
        int64_t stall = 0, preferred = 0;
        int r = field_array(&root, "endpoints", REGISTRY_ENDPOINTS_MAX, &list,
                            &registry->n_endpoints, err);

        for (size_t i = 0; r == 0 && i < registry->n_endpoints; i++) {
                Field endpoint = field_at(&list, i);

                r = decode_endpoint(&endpoint, arena, &registry->endpoints[i], err);
        }
        if (r == 0)
                r = field_int(&root, "stallSeconds", 0, 86400, &stall, err);
        if (r == 0 && registry->n_endpoints > 0)
                r = field_int(&root, "preferred", 0, (int64_t)registry->n_endpoints - 1, &preferred,
                              err);
        if (r == 0)
                r = field_str(&root, "name", arena, &name, err);
        if (r < 0)
                return r;
        registry->name = name;
        registry->stall_s = (unsigned int)stall;
        registry->preferred = (size_t)preferred;
        return http_new(&registry->http, err);
}

void registry_deinit(Registry *registry)
{
        for (size_t i = 0; i < REGISTRY_ENDPOINTS_MAX; i++)
                free(registry->endpoints[i].authorization);
        http_free(registry->http);
        *registry = (Registry){ 0 };
}

/* --- one request --- */

static char *make_url(const Endpoint *endpoint, const char *path)
{
        char *ns, *url;

        if (!endpoint->host_argument)
                return str_format("%s/%s/%s", endpoint->base, endpoint->repository, path);
        ns = curl_easy_escape(NULL, endpoint->host_argument, 0);
        url = str_format("%s/%s/%s?ns=%s", endpoint->base, endpoint->repository, path,
                         ns ? ns : "");
        curl_free(ns);
        return url;
}

/* The address of a redirect: absolute, or relative to url. */
static char *resolve_url(const char *url, const char *location)
{
        CURLU *u = curl_url();
        char *text = NULL, *copy = NULL;

        if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
            curl_url_set(u, CURLUPART_URL, location, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK)
                copy = strdup(text);
        curl_free(text);
        curl_url_cleanup(u);
        return copy;
}

static bool same_origin(const char *a, const char *b)
{
        KL_AUTOFREE char *x = http_origin(a), *y = http_origin(b);

        return x && y && str_eq(x, y);
}

static bool is_redirect(long status)
{
        return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static int follow(char **url, const char *location, KlError **err)
{
        char *next = location ? resolve_url(*url, location) : NULL;

        if (!next || (!str_starts(next, "https://") && !str_starts(next, "http://")) ||
            (str_starts(*url, "https://") && !str_starts(next, "https://"))) {
                free(next);
                return kl_error(err, -EIO, NULL, "'%s' redirects to '%.200s', which is refused",
                                *url, location ? location : "");
        }
        free(*url);
        *url = next;
        return 0;
}

static int request_once(Registry *registry, Endpoint *endpoint, const RegistryGet *get,
                        const char *url, HttpResponse *ret, KlError **err)
{
        bool own = same_origin(url, endpoint->base);
        HttpRequest request = {
                .url = url,
                .accept = get->accept,
                .head = get->head,
                .offset = get->offset,
                .authorization = own ? endpoint->authorization : NULL,
                .tls = own ? endpoint->tls : (HttpTls){ 0 },
                .stall_s = registry->stall_s,
                .body = get->body,
                .sink = get->sink,
                .user_data = get->user_data,
        };

        http_response_deinit(ret);
        return http_perform(registry->http, &request, ret, err);
}

static int authorize(Registry *registry, Endpoint *endpoint, const HttpResponse *response,
                     KlError **err)
{
        __attribute__((cleanup(auth_challenge_deinit))) AuthChallenge challenge = { 0 };
        char *answer = NULL;
        int r;

        if (auth_challenge_parse(response->challenges, &challenge) < 0)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        r = auth_answer(registry->http, &challenge, &endpoint->credentials, endpoint->base,
                        endpoint->repository, &endpoint->tls, &answer, err);
        if (r < 0)
                return r;
        free(endpoint->authorization);
        endpoint->authorization = answer;
        return 0;
}

int registry_get(Registry *registry, Endpoint *endpoint, const RegistryGet *get, HttpResponse *ret,
                 KlError **err)
{
        KL_AUTOFREE char *url = make_url(endpoint, get->path);
        bool authorized = false;
        int redirects = 0;

        *ret = (HttpResponse){ 0 };
        if (!url)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        for (;;) {
                int r;

                if (get->body)
                        buf_clear(get->body);
                r = request_once(registry, endpoint, get, url, ret, err);
                if (r < 0)
                        return r;
                if (ret->status == 401 && !authorized && same_origin(url, endpoint->base)) {
                        authorized = true;
                        r = authorize(registry, endpoint, ret, err);
                } else if (is_redirect(ret->status)) {
                        if (++redirects > REGISTRY_REDIRECTS_MAX)
                                return kl_error(err, -ELOOP, NULL, "'%s' redirects too often", url);
                        r = follow(&url, ret->location, err);
                } else {
                        return 0;
                }
                if (r < 0)
                        return r;
        }
}

/* --- what a status means --- */

static int check_status(const Registry *registry, const Endpoint *endpoint, const RegistryGet *get,
                        const HttpResponse *response, KlError **err)
{
        if (response->status == 200 || response->status == 206)
                return 0;
        if (response->status == 404)
                return kl_error(err, -ENOENT, NULL, "%s: not found", registry->name);
        if (response->status == 401 || response->status == 403)
                return kl_error(err, -EACCES, NULL,
                                "pull access denied, repository does not exist "
                                "or may require authorization: authorization failed: %ld %s",
                                response->status, http_status_text(response->status));
        return kl_error(err, response->status == 429 || response->status >= 500 ? -EAGAIN : -EPROTO,
                        NULL, "unexpected status from %s request to %s/%s/%s: %ld %s",
                        get->head ? "HEAD" : "GET", endpoint->base, endpoint->repository, get->path,
                        response->status, http_status_text(response->status));
}

static bool worth_a_retry(int r)
{
        return r == -EAGAIN || r == -ETIMEDOUT || r == -EIO || r == -EPIPE;
}

/* A registry that restarts in the middle of a blob. */
static bool is_unreachable(int r)
{
        return r == -ECONNREFUSED || r == -EHOSTUNREACH;
}

static void pause_before(unsigned int tries)
{
        uint64_t ms = (uint64_t)REGISTRY_BACKOFF_MS << (tries < 5 ? tries : 5);
        struct timespec ts = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

        nanosleep(&ts, NULL);
}

static int error_rank(const KlError *err)
{
        return err->code == -EACCES ? 3 : err->code == -ENOENT ? 1 : err->code == -EPROTO ? 0 : 2;
}

/* Keeps the first of those that say most. */
static void keep_error(KlError **kept, KlError **err)
{
        if (*kept && error_rank(*err) <= error_rank(*kept))
                return;
        *kept = kl_error_free(*kept);
        *kept = KL_STEAL(*err);
}

typedef int (*TryFunc)(Registry *registry, Endpoint *endpoint, void *arg, KlError **err);

/* Tries the endpoints in their order, the one that worked last first. */
static int try_endpoints(Registry *registry, TryFunc try, void *arg, KlError **err)
{
        KL_AUTOERR kept = NULL;

        for (size_t i = 0; i < registry->n_endpoints; i++) {
                KL_AUTOERR one = NULL;
                size_t at = i == 0 ? registry->preferred : i <= registry->preferred ? i - 1 : i;
                int r;

                if (registry->endpoints[at].fallback && kept &&
                    (kept->code == -ENOENT || kept->code == -EACCES))
                        continue;
                r = try(registry, &registry->endpoints[at], arg, &one);
                if (r >= 0) {
                        registry->preferred = at;
                        return 0;
                }
                keep_error(&kept, &one);
        }
        if (!kept)
                return kl_error(err, -EINVAL, NULL, "there is no registry to ask");
        return kl_error_move(err, &kept);
}

/* --- small bodies --- */

typedef struct BodyTry {
        const RegistryGet *get;
        HttpResponse *response;
} BodyTry;

static int try_body(Registry *registry, Endpoint *endpoint, void *arg, KlError **err)
{
        BodyTry *t = arg;

        for (unsigned int tries = 0;; tries++) {
                KL_AUTOERR one = NULL;
                int r = registry_get(registry, endpoint, t->get, t->response, &one);

                if (r == 0)
                        r = check_status(registry, endpoint, t->get, t->response, &one);
                if (r == 0)
                        return 0;
                http_response_deinit(t->response);
                if (!worth_a_retry(r) || tries + 1 >= REGISTRY_TRIES_MAX)
                        return kl_error_move(err, &one);
                pause_before(tries);
        }
}

int registry_get_body(Registry *registry, const RegistryGet *get, HttpResponse *ret, KlError **err)
{
        BodyTry t = { get, ret };

        *ret = (HttpResponse){ 0 };
        return try_endpoints(registry, try_body, &t, err);
}

/* --- blobs --- */

typedef struct BlobTry {
        RegistryBlob *blob;
        uint64_t skip; /* a server that ignores Range sends from the start */
        bool begun;    /* the first byte of this response has come */
} BlobTry;

static int on_blob(const HttpResponse *response, const void *data, size_t len, void *user_data)
{
        BlobTry *t = user_data;
        RegistryBlob *blob = t->blob;
        const char *from = data;
        size_t skip;
        int r;

        if (!t->begun) {
                t->begun = true;
                t->skip = response->status == 206 ? 0 : blob->done;
                if (response->status == 206 && response->range_start != blob->done)
                        return -EPROTO;
        }
        skip = t->skip < len ? (size_t)t->skip : len;
        t->skip -= skip;
        from += skip;
        len -= skip;
        if (len == 0)
                return 0;
        if (len > blob->size - blob->done)
                return -EFBIG;
        r = blob->sink(response, from, len, blob->user_data);
        if (r == 0)
                blob->done += len;
        return r;
}

static int get_blob_once(Registry *registry, Endpoint *endpoint, BlobTry *t, KlError **err)
{
        __attribute__((cleanup(http_response_deinit))) HttpResponse response = { 0 };
        char path[160];
        RegistryGet get = {
                .path = path, .offset = t->blob->done, .sink = on_blob, .user_data = t
        };
        int r;

        snprintf(path, sizeof(path), "blobs/%s", t->blob->digest);
        t->begun = false;
        r = registry_get(registry, endpoint, &get, &response, err);
        if (r < 0)
                return r;
        r = check_status(registry, endpoint, &get, &response, err);
        if (r < 0)
                return r;
        if (t->blob->done < t->blob->size)
                return kl_error(err, -EPIPE, NULL, "%s/%s/%s ended after %llu of %llu bytes",
                                endpoint->base, endpoint->repository, path,
                                (unsigned long long)t->blob->done,
                                (unsigned long long)t->blob->size);
        return 0;
}

static int try_blob(Registry *registry, Endpoint *endpoint, void *arg, KlError **err)
{
        BlobTry *t = arg;

        for (unsigned int tries = 0;;) {
                KL_AUTOERR one = NULL;
                uint64_t before = t->blob->done;
                int r = get_blob_once(registry, endpoint, t, &one);

                if (r == 0)
                        return 0;
                tries = t->blob->done > before ? 0 : tries + 1;
                if (!(worth_a_retry(r) || (t->blob->done > 0 && is_unreachable(r))) ||
                    tries >= REGISTRY_TRIES_MAX)
                        return kl_error_move(err, &one);
                pause_before(tries);
        }
}

int registry_get_blob(Registry *registry, RegistryBlob *blob, KlError **err)
{
        BlobTry t = { .blob = blob };

        if (blob->done == blob->size)
                return 0;
        return try_endpoints(registry, try_blob, &t, err);
}
