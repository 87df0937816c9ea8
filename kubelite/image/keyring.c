/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A keyring is a list of entries in the order in which they are tried: configuration by
 * configuration, within one by descending key, so that "host/a/b" comes before "host/a" and that
 * before "host". Secrets are wiped when they are freed and never part of a message.
 */

#include "image/keyring.h"

#include "base/list.h"
#include "base/str.h"
#include "codec/base64.h"
#include "codec/json.h"

#include <fnmatch.h>

/* What docker calls its own registry in configurations, "https://index.docker.io/v1/". */
#define DEFAULT_REGISTRY_KEY "index.docker.io"
#define DEFAULT_REGISTRY_HOST "docker.io"

typedef struct Entry {
        List link;
        unsigned int config; /* of which configuration */
        char *host;          /* "*.example.com:5000" */
        char *path;          /* "/team", or "" */
        char *username, *password, *identity_token;
        ImageAuth auth;
} Entry;

struct Keyring {
        List entries;
        unsigned int n_configs;
        size_t n_entries;
};

static void wipe(char *secret)
{
        if (secret)
                explicit_bzero(secret, strlen(secret));
        free(secret);
}

static Entry *entry_free(Entry *e)
{
        if (!e)
                return NULL;
        list_unlink(&e->link);
        free(e->host);
        free(e->path);
        wipe(e->username);
        wipe(e->password);
        wipe(e->identity_token);
        free(e);
        return NULL;
}
KL_DEFINE_CLEANUP(Entry *, entry_free);

Keyring *keyring_new(void)
{
        Keyring *k = calloc(1, sizeof(*k));

        if (k)
                list_init(&k->entries);
        return k;
}

Keyring *keyring_free(Keyring *k)
{
        if (!k)
                return NULL;
        list_for_each (e, &k->entries, Entry, link)
                entry_free(e);
        free(k);
        return NULL;
}

/* --- reading --- */

/* "https://host:port/v1/path" to host and path; a leading /v1 or /v2 says nothing. */
static int take_key(Entry *e, const char *key)
{
        const char *p = strstr(key, "://"), *slash;

        p = p ? p + 3 : key;
        slash = strchr(p, '/');
        e->host = slash ? strndup(p, (size_t)(slash - p)) : strdup(p);
        if (slash && (str_starts(slash, "/v1/") || str_starts(slash, "/v2/")))
                slash += 3;
        e->path = strdup(slash && !str_eq(slash, "/") ? slash : "");
        return e->host && e->path ? 0 : -ENOMEM;
}

/* `auth`: base64 of "name:password", trailing NULs of old docker clients dropped. */
static int take_auth(Entry *e, const char *text)
{
        Base64Decoder decoder = { 0 };
        size_t len = strlen(text);
        char *plain = calloc(1, BASE64_ROOM(len) + 1), *colon;
        ssize_t n = plain ? base64_decode(&decoder, text, len, plain) : -ENOMEM;

        colon = n > 0 ? strchr(plain, ':') : NULL;
        if (colon) {
                e->username = strndup(plain, (size_t)(colon - plain));
                e->password = strdup(colon + 1);
        }
        wipe(plain);
        return plain && (!colon || (e->username && e->password)) ? 0 : -ENOMEM;
}

static int copy_member(const Value *object, const char *key, char **ret)
{
        const char *text = value_get_str(object, key);

        if (str_empty(text))
                return 0;
        wipe(*ret);
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

static int entry_read(const char *key, const Value *value, Entry **ret)
{
        KL_AUTO(entry_free) Entry *e = calloc(1, sizeof(*e));
        const char *auth = value_get_str(value, "auth");

        if (!e)
                return -ENOMEM;
        list_init(&e->link);
        if (take_key(e, key) < 0 || copy_member(value, "username", &e->username) < 0 ||
            copy_member(value, "password", &e->password) < 0 ||
            copy_member(value, "identitytoken", &e->identity_token) < 0)
                return -ENOMEM;
        if (!e->username && !str_empty(auth) && take_auth(e, auth) < 0)
                return -ENOMEM;
        e->auth = (ImageAuth){ .username = e->username,
                               .password = e->password,
                               .identity_token = e->identity_token };
        if (!str_empty(e->host) && (e->username || e->identity_token))
                *ret = KL_STEAL(e);
        return 0;
}

static int compare(const Entry *a, const Entry *b)
{
        int r = strcmp(a->host, b->host);

        return r ? r : strcmp(a->path, b->path);
}

/* Behind all earlier configurations and greater keys of its own. */
static void insert(Keyring *k, Entry *e)
{
        list_for_each (other, &k->entries, Entry, link)
                if (other->config == e->config && compare(other, e) < 0) {
                        list_insert(&other->link, &e->link);
                        k->n_entries++;
                        return;
                }
        list_append(&k->entries, &e->link);
        k->n_entries++;
}

int keyring_add(Keyring *k, const char *json, size_t len, bool legacy, KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        const Value *entries, *child;
        const char *key;

        if (len > KEYRING_CONFIG_MAX)
                return kl_error(err, -E2BIG, NULL, "a docker configuration of %zu bytes", len);
        /* The parser's message may quote what it read. */
        if (json_parse(json, len, &document, NULL) < 0 || value_type(document) != VALUE_OBJECT)
                return kl_error(err, -EINVAL, NULL, "not a docker configuration");
        entries = legacy ? document : value_get(document, "auths");
        k->n_configs++;
        for (void *it = NULL; value_next(entries, &it, &key, &child);) {
                Entry *e = NULL;

                if (k->n_entries >= KEYRING_ENTRIES_MAX)
                        return kl_error(err, -E2BIG, NULL, "more than %d registry credentials",
                                        KEYRING_ENTRIES_MAX);
                if (entry_read(key, child, &e) < 0)
                        return kl_error_oom(err);
                if (!e)
                        continue;
                e->config = k->n_configs;
                insert(k, e);
        }
        return 0;
}

/* --- matching --- */

static size_t label_end(const char *host)
{
        return strcspn(host, ".:");
}

/* Label by label: "*.example.com" is a.example.com and not a.b.example.com. The port must be equal.
 */
static bool host_matches(const char *pattern, const char *host)
{
        while (*pattern && *pattern != ':') {
                size_t n = label_end(pattern), m = label_end(host);
                char p[256], h[256];

                if (n >= sizeof(p) || m >= sizeof(h))
                        return false;
                memcpy(p, pattern, n);
                memcpy(h, host, m);
                p[n] = h[m] = '\0';
                if (fnmatch(p, h, FNM_NOESCAPE) != 0)
                        return false;
                pattern += n;
                host += m;
                if ((*pattern == '.') != (*host == '.'))
                        return false;
                if (*pattern == '.') {
                        pattern++;
                        host++;
                }
        }
        return str_eq(pattern, host);
}

static bool entry_matches(const Entry *e, const ImageRef *ref)
{
        const char *path = *e->path == '/' ? e->path + 1 : e->path;

        if (!str_starts(ref->repository, path))
                return false;
        if (host_matches(e->host, ref->host))
                return true;
        return str_eq(ref->host, DEFAULT_REGISTRY_HOST) && str_eq(e->host, DEFAULT_REGISTRY_KEY);
}

const ImageAuth *keyring_find(const Keyring *k, const ImageRef *ref, size_t i)
{
        list_for_each (e, &k->entries, Entry, link)
                if (entry_matches(e, ref) && i-- == 0)
                        return &e->auth;
        return NULL;
}
