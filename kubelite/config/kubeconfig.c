/* SPDX-License-Identifier: Apache-2.0 */

/* Reading a kubeconfig: the current context's cluster and user, inline data decoded, paths made
 * absolute against the file's directory. */

#include "config/kubeconfig.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/value.h"
#include "codec/yaml.h"

#define ENTRIES_MAX 1024

static int no_memory(KlError **err)
{
        return kl_error(err, -ENOMEM, NULL, "out of memory");
}

Kubeconfig *kubeconfig_free(Kubeconfig *config)
{
        if (config)
                arena_free(config->arena);
        return NULL;
}

static int base64_digit(char c)
{
        static const char digits[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *at = c ? strchr(digits, c) : NULL;

        return at ? (int)(at - digits) : -1;
}

/* Standard base64 with padding; white space is skipped. The result is text: a NUL in it is refused.
 */
static int base64_text(Arena *arena, const char *text, char **ret)
{
        char *out = arena_alloc(arena, strlen(text) / 4 * 3 + 4);
        unsigned int bits = 0, n_bits = 0;
        size_t n = 0, padding = 0;

        if (!out)
                return -ENOMEM;
        for (const char *p = text; *p; p++) {
                int digit;

                if (strchr(" \t\r\n", *p))
                        continue;
                if (*p == '=') {
                        padding++;
                        continue;
                }
                digit = base64_digit(*p);
                if (digit < 0 || padding)
                        return -EINVAL;
                bits = bits << 6 | (unsigned int)digit;
                n_bits += 6;
                if (n_bits >= 8) {
                        n_bits -= 8;
                        out[n] = (char)(bits >> n_bits & 0xff);
                        if (!out[n++])
                                return -EINVAL;
                }
        }
        if (n_bits >= 6 || padding > 2)
                return -EINVAL;
        out[n] = '\0';
        *ret = out;
        return 0;
}

/* Makes the named entry of a list such as `clusters` available: its `cluster` member. */
static int find_entry(const Field *root, const char *list_name, const char *member,
                      const char *name, Field *list, Field *entry, Field *ret, KlError **err)
{
        size_t n;
        int r = field_array(root, list_name, ENTRIES_MAX, list, &n, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                *entry = field_at(list, i);
                if (!str_eq(value_get_str(entry->value, "name"), name))
                        continue;
                r = field_object(entry, member, ret, err);
                return r > 0 ? field_error(entry, err, "has no %s", member) : r;
        }
        return kl_error(err, -EINVAL, NULL, "%s: none is named '%s'", list_name, name);
}

/* Reads a path and makes it absolute. */
static int read_path(const Field *f, const char *key, const char *dir, Arena *arena, char **ret,
                     KlError **err)
{
        char *path = NULL;
        int r = field_str(f, key, arena, &path, err);

        if (r < 0 || str_empty(path))
                return r;
        *ret = *path == '/' ? path : arena_format(arena, "%s/%s", dir, path);
        return *ret ? 0 : no_memory(err);
}

static int read_data(const Field *f, const char *key, Arena *arena, char **ret, KlError **err)
{
        char *encoded = NULL;
        int r = field_str(f, key, arena, &encoded, err);
        Field data;

        if (r < 0 || str_empty(encoded))
                return r;
        r = base64_text(arena, encoded, ret);
        if (r == -ENOMEM)
                return no_memory(err);
        data = field_get(f, key);
        return r < 0 ? field_error(&data, err, "this is no base64 of a text") : 0;
}

static int read_cluster(Kubeconfig *config, const Field *f, const char *dir, KlError **err)
{
        KL_AUTOFREE char *pem = NULL;
        char *ca_file = NULL;
        size_t n;
        int r = field_str(f, "server", config->arena, &config->server, err);

        if (r >= 0)
                r = field_str(f, "tls-server-name", config->arena, &config->tls_server_name, err);
        if (r >= 0)
                r = field_str(f, "proxy-url", config->arena, &config->proxy_url, err);
        if (r >= 0)
                r = field_bool(f, "insecure-skip-tls-verify", &config->insecure_skip_verify, err);
        if (r >= 0)
                r = read_path(f, "certificate-authority", dir, config->arena, &ca_file, err);
        if (r >= 0)
                r = read_data(f, "certificate-authority-data", config->arena, &config->ca_pem, err);
        if (r < 0)
                return r;
        if (str_empty(config->server))
                return field_error(f, err, "has no server");
        if (!str_starts(config->server, "https://") && !str_starts(config->server, "http://"))
                return field_error(f, err, "server '%s' is no https URL", config->server);
        for (n = strlen(config->server); n > 0 && config->server[n - 1] == '/'; n--)
                config->server[n - 1] = '\0';
        if (config->ca_pem || !ca_file)
                return 0;
        r = file_read(ca_file, KUBECONFIG_SIZE_MAX, &pem, &n);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "read the certificate authority '%s'", ca_file);
        config->ca_pem = arena_strndup(config->arena, pem, n);
        return config->ca_pem ? 0 : no_memory(err);
}

static int refuse_unsupported(const Field *f, KlError **err)
{
        static const struct {
                const char *key, *what;
        } unsupported[] = {
                { "exec", "credentials from a program (exec) are not supported yet; use a client "
                          "certificate, a token or a token file" },
                { "auth-provider", "auth-provider is not supported; use a client certificate, a "
                                   "token or a token file" },
                { "username", "user name and password are not supported; use a client certificate, "
                              "a token or a token file" },
                { "as", "impersonation is not supported" },
        };

        for (size_t i = 0; i < ELEMENTS(unsupported); i++) {
                Field at = field_get(f, unsupported[i].key);
                char path[512];

                if (!field_present(&at))
                        continue;
                field_path(&at, path, sizeof(path));
                return kl_error(err, -ENOTSUP, NULL, "%s: %s", path, unsupported[i].what);
        }
        return 0;
}

static int read_user(Kubeconfig *config, const Field *f, const char *dir, KlError **err)
{
        Arena *arena = config->arena;
        int r = refuse_unsupported(f, err);

        if (r >= 0)
                r = field_str(f, "token", arena, &config->token, err);
        if (r >= 0)
                r = read_path(f, "tokenFile", dir, arena, &config->token_file, err);
        if (r >= 0)
                r = read_path(f, "client-certificate", dir, arena, &config->cert_file, err);
        if (r >= 0)
                r = read_path(f, "client-key", dir, arena, &config->key_file, err);
        if (r >= 0)
                r = read_data(f, "client-certificate-data", arena, &config->cert_pem, err);
        if (r >= 0)
                r = read_data(f, "client-key-data", arena, &config->key_pem, err);
        if (r < 0)
                return r;
        if (str_empty(config->token))
                config->token = NULL;
        if (config->cert_pem)
                config->cert_file = NULL;
        if (config->key_pem)
                config->key_file = NULL;
        if ((config->cert_pem || config->cert_file) != (config->key_pem || config->key_file))
                return field_error(f, err, "client certificate and client key go together");
        return 0;
}

static int read_context(Kubeconfig *config, const Field *root, KlError **err)
{
        Field list, entry, context;
        int r = field_str(root, "current-context", config->arena, &config->context, err);

        if (r < 0)
                return r;
        if (str_empty(config->context))
                return kl_error(err, -EINVAL, NULL, "current-context is not set");
        r = find_entry(root, "contexts", "context", config->context, &list, &entry, &context, err);
        if (r >= 0)
                r = field_str(&context, "cluster", config->arena, &config->cluster, err);
        if (r >= 0)
                r = field_str(&context, "user", config->arena, &config->user, err);
        if (r >= 0)
                r = field_str(&context, "namespace", config->arena, &config->namespace, err);
        if (r < 0)
                return r;
        if (str_empty(config->cluster))
                return field_error(&context, err, "has no cluster");
        return 0;
}

static int decode(Kubeconfig *config, const Value *document, const char *dir, KlError **err)
{
        Field root = field_root(document), list, entry, found;
        const char *kind = value_get_str(document, "kind");
        int r;

        if (value_type(document) != VALUE_OBJECT || (kind && !str_eq(kind, "Config")))
                return kl_error(err, -EINVAL, NULL, "this is no kubeconfig (kind: Config)");
        r = read_context(config, &root, err);
        if (r < 0)
                return r;
        r = find_entry(&root, "clusters", "cluster", config->cluster, &list, &entry, &found, err);
        if (r >= 0)
                r = read_cluster(config, &found, dir, err);
        if (r < 0 || str_empty(config->user))
                return r;
        r = find_entry(&root, "users", "user", config->user, &list, &entry, &found, err);
        return r < 0 ? r : read_user(config, &found, dir, err);
}

int kubeconfig_read(const char *name, const char *dir, const char *text, size_t len,
                    Kubeconfig **ret, KlError **err)
{
        KL_AUTO(arena_free) Arena *arena = arena_new();
        KL_AUTO(kubeconfig_free) Kubeconfig *config = NULL;
        KL_AUTO(value_free) Value *document = NULL;
        int r;

        config = arena ? ARENA_NEW(arena, Kubeconfig) : NULL;
        if (!config)
                return no_memory(err);
        config->arena = KL_STEAL(arena);
        r = yaml_read(text, len, &document, err);
        if (r >= 0)
                r = decode(config, document, dir, err);
        if (r < 0)
                return kl_error_wrap(err, r, "%s", name);
        *ret = KL_STEAL(config);
        return 0;
}

int kubeconfig_read_file(const char *path, Kubeconfig **ret, KlError **err)
{
        KL_AUTOFREE char *text = NULL, *dir = NULL;
        const char *slash = strrchr(path, '/');
        size_t len;
        int r = file_read(path, KUBECONFIG_SIZE_MAX, &text, &len);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "read the kubeconfig '%s'", path);
        dir = slash ? strndup(path, slash > path ? (size_t)(slash - path) : 1) : strdup(".");
        if (!dir)
                return no_memory(err);
        return kubeconfig_read(path, dir, text, len, ret, err);
}
