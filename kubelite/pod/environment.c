/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Order and precedence as upstream's makeEnvironmentVariables: services, envFrom in order, then
 * env, each overriding by name what came before. A $(VAR) in an env value sees only what was
 * defined before it. What the image says lies below all of that, and no $(VAR) sees it.
 */

#include "pod/environment.h"

#include "base/str.h"
#include "pod/env-file.h"

#define REASON "CreateContainerConfigError"

typedef struct EnvBuild {
        const EnvInput *in;
        char **env; /* NULL-terminated */
        bool unread;
        KlError **err;
} EnvBuild;

/* The value after "NAME=", or NULL. */
static const char *env_get(char *const *env, const char *name, size_t len)
{
        for (; env && *env; env++)
                if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
                        return *env + len + 1;
        return NULL;
}

static int env_put(EnvBuild *b, const char *name, const char *value, size_t value_len)
{
        size_t len = strlen(name);
        char *text = str_format("%s=%.*s", name, (int)value_len, value);

        if (!text)
                return kl_error_oom(b->err);
        for (char **e = b->env; e && *e; e++) {
                if (strncmp(*e, name, len) == 0 && (*e)[len] == '=') {
                        free(*e);
                        *e = text;
                        return 0;
                }
        }
        if (strv_add(&b->env, text) < 0) {
                free(text);
                return kl_error_oom(b->err);
        }
        free(text);
        return 0;
}

static int env_put_list(EnvBuild *b, char *const *list)
{
        for (; list && *list; list++) {
                const char *eq = strchr(*list, '=');
                KL_AUTOFREE char *name = eq ? strndup(*list, (size_t)(eq - *list)) : NULL;

                if (!eq)
                        continue;
                if (!name)
                        return kl_error_oom(b->err);
                KL_TRY(env_put(b, name, eq + 1, strlen(eq + 1)));
        }
        return 0;
}

/* 0 readable, 1 to be skipped (optional and missing, or unread as yet). */
static int object_check(EnvBuild *b, ObjectKind kind, const char *name, bool optional,
                        const ObjectRef **ret)
{
        const ObjectRef *ref = b->in->lookup(kind, name, b->in->lookup_data);

        *ret = ref;
        switch (ref ? object_ref_state(ref) : OBJECT_MISSING) {
        case OBJECT_PRESENT:
                return 0;
        case OBJECT_UNKNOWN:
                b->unread = true;
                return 1;
        case OBJECT_FAILED:
        case OBJECT_MISSING:
                break;
        }
        if (optional && (!ref || object_ref_state(ref) == OBJECT_MISSING))
                return 1;
        return kl_error(b->err, -EINVAL, REASON, "%s",
                        ref ? object_ref_message(ref) : "object not referenced");
}

static int add_env_from(EnvBuild *b, const EnvFrom *from)
{
        const ObjectEntry *entries;
        const ObjectRef *ref;
        size_t n;
        int r;

        r = object_check(b, from->secret ? OBJECT_SECRET : OBJECT_CONFIG_MAP, from->object,
                         from->optional, &ref);
        if (r != 0)
                return r < 0 ? r : 0;
        n = object_ref_entries(ref, &entries);
        for (size_t i = 0; i < n; i++) {
                KL_AUTOFREE char *name = str_format("%s%s", from->prefix, entries[i].key);

                if (!name)
                        return kl_error_oom(b->err);
                if (env_name_is_valid(name))
                        KL_TRY(env_put(b, name, entries[i].data, entries[i].len));
        }
        return 0;
}

static int add_key(EnvBuild *b, const EnvVar *var)
{
        bool secret = var->source == ENV_SECRET;
        const ObjectEntry *entry;
        const ObjectRef *ref;
        int r;

        r = object_check(b, secret ? OBJECT_SECRET : OBJECT_CONFIG_MAP, var->object, var->optional,
                         &ref);
        if (r != 0)
                return r < 0 ? r : 0;
        entry = object_ref_entry(ref, var->key);
        if (entry)
                return env_put(b, var->name, entry->data, entry->len);
        if (var->optional)
                return 0;
        return kl_error(b->err, -EINVAL, REASON, "couldn't find key %s in %s %s/%s", var->key,
                        secret ? "Secret" : "ConfigMap", b->in->pod->namespace, var->object);
}

static int add_file_key(EnvBuild *b, const EnvVar *var)
{
        KL_AUTOFREE char *value = NULL;
        const char *text;
        int r = b->in->file(var->object, var->path, &text, b->in->lookup_data, b->err);

        if (r > 0)
                b->unread = true;
        if (r != 0)
                return r < 0 ? r : 0;
        if (!text && var->optional)
                return 0;
        if (!text)
                return kl_error(
                        b->err, -ENOENT, REASON,
                        "failed to open environment variable file \"%s/%s\": no such file or "
                        "directory",
                        var->object, var->path);
        KL_TRY(env_file_find(text, var->key, &value, b->err));
        if (value)
                return env_put(b, var->name, value, strlen(value));
        if (var->optional)
                return 0;
        return kl_error(b->err, -ENOENT, REASON,
                        "environment variable key \"%s\" not found in file \"%s/%s\"", var->key,
                        var->object, var->path);
}

static int add_env(EnvBuild *b, const EnvVar *var)
{
        KL_AUTOFREE char *expanded = NULL;
        KL_AUTOBUF text = BUF_INIT;
        int r;

        switch (var->source) {
        case ENV_VALUE:
                expanded = environment_expand(var->value, b->env);
                if (!expanded)
                        return kl_error_oom(b->err);
                return env_put(b, var->name, expanded, strlen(expanded));
        case ENV_FIELD:
                r = pod_field_resolve(b->in->pod, b->in->facts, &var->field, b->in->container,
                                      &text, b->err);
                if (r < 0)
                        return r;
                if (buf_error(&text))
                        return kl_error_oom(b->err);
                return env_put(b, var->name, buf_str(&text), text.len);
        case ENV_CONFIG_MAP:
        case ENV_SECRET:
                return add_key(b, var);
        case ENV_FILE:
                return add_file_key(b, var);
        }
        return 0;
}

static int build_all(EnvBuild *b)
{
        const Container *c = b->in->container;

        KL_TRY(env_put_list(b, b->in->service_env));
        for (size_t i = 0; i < c->n_env_from; i++)
                KL_TRY(add_env_from(b, &c->env_from[i]));
        for (size_t i = 0; i < c->n_env; i++)
                KL_TRY(add_env(b, &c->env[i]));
        return 0;
}

int environment_build(const EnvInput *in, char ***ret, KlError **err)
{
        EnvBuild b = { .in = in, .env = calloc(1, sizeof(char *)), .err = err };
        int r;

        if (!b.env)
                return kl_error_oom(err);
        r = build_all(&b);
        if (r < 0 || b.unread) {
                strv_free(b.env);
                if (r < 0 && err)
                        kl_error_default_reason(*err, REASON);
                return r < 0 ? r : 1;
        }
        *ret = b.env;
        return 0;
}

char **environment_complete(const char *hostname, char *const *image_env, char *const *env)
{
        EnvBuild b = { .env = calloc(1, sizeof(char *)) };

        if (!b.env || env_put(&b, "HOSTNAME", hostname, strlen(hostname)) < 0 ||
            env_put_list(&b, image_env) < 0 || env_put_list(&b, env) < 0) {
                strv_free(b.env);
                return NULL;
        }
        return b.env;
}

/* Expands one reference at *p (behind the '$'); false if it names nothing. */
static bool expand_reference(const char **p, char *const *env, Buf *to)
{
        const char *end = strchr(*p, ')'), *value;

        value = env_get(env, *p + 1, (size_t)(end - *p - 1));
        if (value)
                buf_add_str(to, value);
        else
                buf_addf(to, "$(%.*s)", (int)(end - *p - 1), *p + 1);
        *p = end + 1;
        return value;
}

static bool expand_into(const char *text, char *const *env, Buf *to)
{
        bool complete = true;

        while (*text) {
                size_t n = strcspn(text, "$");

                buf_add(to, text, n);
                text += n;
                if (!*text)
                        break;
                text++;
                if (*text == '$') {
                        buf_add_char(to, '$');
                        text++;
                } else if (*text == '(' && strchr(text, ')')) {
                        complete &= expand_reference(&text, env, to);
                } else {
                        buf_add_char(to, '$');
                }
        }
        return complete;
}

char *environment_expand(const char *text, char *const *env)
{
        KL_AUTOBUF out = BUF_INIT;

        expand_into(text, env, &out);
        return buf_steal(&out);
}

char **environment_expand_all(char *const *texts, char *const *env)
{
        KL_AUTOSTRV out = calloc(1, sizeof(*out));

        for (; out && texts && *texts; texts++) {
                KL_AUTOFREE char *text = environment_expand(*texts, env);

                if (!text || strv_add(&out, text) < 0)
                        return NULL;
        }
        return KL_STEAL(out);
}

int environment_expand_strict(const char *text, char *const *env, char **ret, KlError **err)
{
        KL_AUTOBUF out = BUF_INIT;

        if (!expand_into(text, env, &out))
                return kl_error(err, -EINVAL, REASON,
                                "missing value for a reference in subPathExpr '%s'", text);
        *ret = buf_steal(&out);
        return *ret ? 0 : kl_error_oom(err);
}
