/* SPDX-License-Identifier: Apache-2.0 */

/*
 * registries.yaml to endpoints:
 *
 *     mirrors:
 *       docker.io:              ("*" for all others)
 *         endpoint: ["https://mirror:5000", "http://other/v2/prefix"]
 *         rewrite: {"^library/(.*)": "hub/$1"}
 *     configs:
 *       "mirror:5000":
 *         auth: {username, password, auth, identity_token, registry_token}
 *         tls: {ca_file, cert_file, key_file, insecure_skip_verify}
 *
 * An image's own credentials (pull secrets) are for its own registry, never for a mirror. A
 * registry on loopback without TLS settings is tried by http first, as other runtimes do.
 */

#include "image/worker/registries-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"
#include "codec/yaml.h"
#include "image/worker/registry-internal.h"

#include <openssl/evp.h>
#include <regex.h>

#define REWRITE_GROUPS 10

typedef struct Reader {
        RegistryPlan *plan;
        const Value *document;
        const ImageRef *ref;
        const ImageAuth *auth;
        KlError **err;
} Reader;

static int no_memory(KlError **err)
{
        return kl_error(err, -ENOMEM, NULL, "out of memory");
}

/* --- rewrite --- */

static void substitute(const char *replacement, const char *text, const regmatch_t *groups, Buf *to)
{
        for (const char *p = replacement; *p; p++) {
                const regmatch_t *g;

                if (*p != '$' || p[1] < '0' || p[1] > '9') {
                        buf_add_char(to, *p);
                        continue;
                }
                g = &groups[*++p - '0'];
                if (g->rm_so >= 0)
                        buf_add(to, text + g->rm_so, (size_t)(g->rm_eo - g->rm_so));
        }
}

static int rewrite(Reader *rd, const Value *rules, const char **ret)
{
        const char *pattern;
        const Value *replacement;

        *ret = rd->ref->repository;
        for (void *it = NULL; value_next(rules, &it, &pattern, &replacement);) {
                regmatch_t groups[REWRITE_GROUPS];
                KL_AUTOBUF text = BUF_INIT_LIMIT(1024);
                regex_t regex;
                int r;

                if (regcomp(&regex, pattern, REG_EXTENDED) != 0)
                        return kl_error(rd->err, -EINVAL, NULL,
                                        "registries: the rewrite pattern "
                                        "'%s' is no regular expression",
                                        pattern);
                r = regexec(&regex, rd->ref->repository, REWRITE_GROUPS, groups, 0);
                regfree(&regex);
                if (r != 0 || !value_str(replacement))
                        continue;
                buf_add(&text, rd->ref->repository, (size_t)groups[0].rm_so);
                substitute(value_str(replacement), rd->ref->repository, groups, &text);
                buf_add_str(&text, rd->ref->repository + groups[0].rm_eo);
                *ret = arena_strdup(rd->plan->arena, buf_str(&text));
                return buf_error(&text) || !*ret ? no_memory(rd->err) : 0;
        }
        return 0;
}

/* --- configs --- */

static int read_pem(Reader *rd, const Value *tls, const char *key, const char **ret)
{
        const char *path = value_get_str(tls, key);
        KL_AUTOFREE char *data = NULL;
        size_t len;
        int r;

        if (str_empty(path))
                return 0;
        r = file_read(path, REGISTRIES_PEM_MAX, &data, &len);
        if (r < 0)
                return kl_error_errno(rd->err, r, NULL, "registries: read %s '%s'", key, path);
        *ret = arena_strdup(rd->plan->arena, data);
        return *ret ? 0 : no_memory(rd->err);
}

/* "auth" is base64 of "user:password". */
static int decode_basic(Reader *rd, const char *encoded, PlanEndpoint *e)
{
        size_t len = strlen(encoded);
        char *plain = arena_calloc(rd->plan->arena, 1, len + 4);
        char *colon;

        if (!plain)
                return no_memory(rd->err);
        if (len % 4 != 0 ||
            EVP_DecodeBlock((unsigned char *)plain, (const unsigned char *)encoded, (int)len) < 0)
                return kl_error(rd->err, -EINVAL, NULL, "registries: an 'auth' is not base64");
        colon = strchr(plain, ':');
        if (!colon)
                return kl_error(rd->err, -EINVAL, NULL, "registries: an 'auth' has no colon");
        *colon = '\0';
        e->username = plain;
        e->password = colon + 1;
        return 0;
}

static const char *copy_text(Reader *rd, const Value *object, const char *key)
{
        const char *text = value_get_str(object, key);

        return str_empty(text) ? NULL : arena_strdup(rd->plan->arena, text);
}

static int apply_config(Reader *rd, const char *host, PlanEndpoint *e)
{
        const Value *config = value_get(value_get(rd->document, "configs"), host);
        const Value *auth = value_get(config, "auth"), *tls = value_get(config, "tls");
        const char *basic = value_get_str(auth, "auth");
        int r;

        e->username = copy_text(rd, auth, "username");
        e->password = copy_text(rd, auth, "password");
        e->identity_token = copy_text(rd, auth, "identity_token");
        if (!e->identity_token)
                e->identity_token = copy_text(rd, auth, "identitytoken");
        e->registry_token = copy_text(rd, auth, "registry_token");
        r = !e->username && !str_empty(basic) ? decode_basic(rd, basic, e) : 0;
        e->insecure = value_bool(value_get(tls, "insecure_skip_verify"), false);
        if (r == 0)
                r = read_pem(rd, tls, "ca_file", &e->ca);
        if (r == 0)
                r = read_pem(rd, tls, "cert_file", &e->cert);
        if (r == 0)
                r = read_pem(rd, tls, "key_file", &e->key);
        return r;
}

/* --- endpoints --- */

static PlanEndpoint *add_endpoint(Reader *rd)
{
        if (rd->plan->n_endpoints == REGISTRY_ENDPOINTS_MAX)
                return NULL;
        return &rd->plan->endpoints[rd->plan->n_endpoints++];
}

/* The host and port of a URL; in the arena. */
static const char *url_host(Reader *rd, const char *url)
{
        const char *host = strstr(url, "://");

        host = host ? host + 3 : url;
        return arena_strndup(rd->plan->arena, host, strcspn(host, "/"));
}

/* The URL without trailing slashes; "/v2" is appended where it has no path of its own. */
static const char *mirror_base(Reader *rd, const char *url)
{
        const char *rest = strstr(url, "://");
        const char *scheme = rest ? "" : "https://";
        size_t len = strlen(url);
        bool bare;

        rest = rest ? rest + 3 : url;
        while (len > 0 && url[len - 1] == '/')
                len--;
        bare = strcspn(rest, "/") == len - (size_t)(rest - url);
        return arena_format(rd->plan->arena, "%s%.*s%s", scheme, (int)len, url, bare ? "/v2" : "");
}

static int add_mirror(Reader *rd, const char *url, const char *repository)
{
        PlanEndpoint *e = add_endpoint(rd);
        const char *host = url_host(rd, url);

        if (!e)
                return kl_error(rd->err, -E2BIG, NULL,
                                "registries: '%s' has more than %d endpoints", rd->ref->host,
                                REGISTRY_ENDPOINTS_MAX);
        if (str_empty(host) ||
            (strstr(url, "://") && !str_starts(url, "http://") && !str_starts(url, "https://")))
                return kl_error(rd->err, -EINVAL, NULL,
                                "registries: the endpoint '%s' is neither "
                                "http nor https",
                                url);
        e->base = mirror_base(rd, url);
        e->repository = repository;
        if (!str_eq(host, rd->ref->host))
                e->host_argument = rd->ref->host;
        return e->base ? apply_config(rd, host, e) : no_memory(rd->err);
}

static int add_mirrors(Reader *rd)
{
        const Value *mirrors = value_get(rd->document, "mirrors");
        const Value *mirror = value_get(mirrors, rd->ref->host);
        const Value *list;
        const char *repository;
        int r;

        if (!mirror)
                mirror = value_get(mirrors, "*");
        list = value_get(mirror, "endpoint");
        r = rewrite(rd, value_get(mirror, "rewrite"), &repository);
        for (size_t i = 0; r == 0 && i < value_len(list); i++) {
                const char *url = value_str(value_at(list, i));

                if (!url)
                        return kl_error(rd->err, -EINVAL, NULL,
                                        "registries: mirrors.%s.endpoint[%zu] "
                                        "is no text",
                                        rd->ref->host, i);
                r = add_mirror(rd, url, repository);
        }
        return r;
}

static bool is_loopback(const char *host)
{
        return str_eq(host, "localhost") || str_starts(host, "localhost:") ||
               str_starts(host, "127.") || str_starts(host, "[::1]");
}

static int add_own(Reader *rd, const char *scheme, bool fallback)
{
        PlanEndpoint *e = add_endpoint(rd);
        const char *host = rd->ref->host;
        const ImageAuth *auth = rd->auth;
        int r;

        if (!e)
                return kl_error(rd->err, -E2BIG, NULL,
                                "registries: '%s' has more than %d endpoints", host,
                                REGISTRY_ENDPOINTS_MAX);
        e->base = arena_format(rd->plan->arena, "%s://%s/v2", scheme,
                               str_eq(host, "docker.io") ? "registry-1.docker.io" : host);
        e->repository = rd->ref->repository;
        e->fallback = fallback;
        if (!e->base)
                return no_memory(rd->err);
        r = apply_config(rd, host, e);
        if (r < 0 || !auth || (!auth->username && !auth->identity_token && !auth->registry_token))
                return r;
        e->username = auth->username;
        e->password = auth->password;
        e->identity_token = auth->identity_token;
        e->registry_token = auth->registry_token;
        return 0;
}

static int add_registry(Reader *rd)
{
        const Value *configs = value_get(rd->document, "configs");
        bool plain =
                is_loopback(rd->ref->host) && !value_get(value_get(configs, rd->ref->host), "tls");
        int r = plain ? add_own(rd, "http", false) : 0;

        return r < 0 ? r : add_own(rd, "https", plain);
}

static int read_document(const char *file, Value **ret, KlError **err)
{
        KL_AUTOFREE char *text = NULL;
        size_t len;
        int r = file ? file_read(file, REGISTRIES_BYTES_MAX, &text, &len) : -ENOENT;

        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read '%s'", file);
        r = yaml_read(text, len, ret, err);
        return r < 0 ? kl_error_wrap(err, r, "'%s'", file) : 0;
}

static int copy_ref(RegistryPlan *plan, const ImageRef *ref, ImageRef *copy)
{
        *copy = (ImageRef){ .host = arena_strdup(plan->arena, ref->host),
                            .repository = arena_strdup(plan->arena, ref->repository) };
        return copy->host && copy->repository ? 0 : -ENOMEM;
}

int registry_plan_new(const char *file, const ImageRef *ref, const ImageAuth *auth,
                      RegistryPlan **ret, KlError **err)
{
        KL_AUTO(registry_plan_free) RegistryPlan *plan = calloc(1, sizeof(*plan));
        KL_AUTO(value_free) Value *document = NULL;
        ImageRef copy;
        Reader rd;
        int r;

        if (!plan)
                return no_memory(err);
        plan->arena = arena_new();
        plan->name = image_ref_format(ref);
        if (!plan->arena || !plan->name || copy_ref(plan, ref, &copy) < 0)
                return no_memory(err);
        plan->endpoints = ARENA_ARRAY(plan->arena, REGISTRY_ENDPOINTS_MAX, PlanEndpoint);
        if (!plan->endpoints)
                return no_memory(err);
        r = read_document(file, &document, err);
        if (r < 0)
                return r;
        rd = (Reader){ plan, document, &copy, auth, err };
        r = add_mirrors(&rd);
        if (r == 0)
                r = add_registry(&rd);
        if (r < 0)
                return r;
        *ret = KL_STEAL(plan);
        return 0;
}

RegistryPlan *registry_plan_free(RegistryPlan *plan)
{
        if (!plan)
                return NULL;
        arena_free(plan->arena);
        free(plan->name);
        free(plan);
        return NULL;
}

void registry_plan_encode(const RegistryPlan *plan, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);

        jw_object(&w);
        jw_kstr(&w, "name", plan->name);
        jw_kint(&w, "stallSeconds", plan->stall_s);
        jw_kint(&w, "preferred", (int64_t)plan->preferred);
        jw_karray(&w, "endpoints");
        for (size_t i = 0; i < plan->n_endpoints; i++) {
                const PlanEndpoint *e = &plan->endpoints[i];

                jw_object(&w);
                jw_kstr(&w, "base", e->base);
                jw_kstr(&w, "repository", e->repository);
                jw_kstr_opt(&w, "namespace", e->host_argument);
                jw_kstr_opt(&w, "username", e->username);
                jw_kstr_opt(&w, "password", e->password);
                jw_kstr_opt(&w, "identityToken", e->identity_token);
                jw_kstr_opt(&w, "registryToken", e->registry_token);
                jw_kstr_opt(&w, "ca", e->ca);
                jw_kstr_opt(&w, "cert", e->cert);
                jw_kstr_opt(&w, "key", e->key);
                jw_kbool(&w, "insecure", e->insecure);
                jw_kbool(&w, "fallback", e->fallback);
                jw_kstr_opt(&w, "authorization", e->authorization);
                jw_end(&w);
        }
        jw_end(&w);
        jw_end(&w);
        buf_add_char(to, '\n');
}
