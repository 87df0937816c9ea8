/* SPDX-License-Identifier: Apache-2.0 */

/* The course of a check: authentication, then authorization, then one verdict. */

#include "server/auth-internal.h"

#include "base/str.h"

typedef struct CountedUser {
        AuthUser user;
        unsigned int n_refs;
} CountedUser;

AuthUser *auth_user_new(const char *name, const char *uid, char *const *groups)
{
        CountedUser *u = calloc(1, sizeof(*u));

        if (!u)
                return NULL;
        u->n_refs = 1;
        u->user.name = strdup(name);
        u->user.uid = strdup(uid ? uid : "");
        u->user.groups = groups ? strv_copy(groups) : calloc(1, sizeof(char *));
        if (!u->user.name || !u->user.uid || !u->user.groups)
                return auth_user_unref(&u->user);
        return &u->user;
}

AuthUser *auth_user_ref(AuthUser *user)
{
        if (user)
                ((CountedUser *)user)->n_refs++;
        return user;
}

AuthUser *auth_user_unref(AuthUser *user)
{
        if (user && --((CountedUser *)user)->n_refs == 0) {
                free(user->name);
                free(user->uid);
                strv_free(user->groups);
                free(user->extra);
                free(user);
        }
        return NULL;
}

void auth_cache_put(Map *cache, const char *key, void *value, void (*free_value)(void *))
{
        const char *oldest;
        size_t i = 0;
        void *unused;

        if (map_len(cache) >= AUTH_CACHE_MAX && map_next(cache, &i, &oldest, &unused))
                map_remove(cache, oldest);
        if (map_set(cache, key, value) < 0)
                free_value(value);
}

static AuthCheck *check_free(AuthCheck *c)
{
        auth_user_unref(c->user);
        free(c);
        return NULL;
}

void auth_done(AuthCheck *c, int status, const char *message)
{
        c->request = NULL;
        c->func(c, status, message, c->user, c->data);
        check_free(c);
}

AuthCheck *auth_check_free(AuthCheck *c)
{
        if (c) {
                api_request_cancel(c->request);
                check_free(c);
        }
        return NULL;
}

typedef struct Outcome {
        AuthFunc func;
        void *data;
        bool done;
} Outcome;

static void on_outcome(AuthCheck *c, int status, const char *message, AuthUser *user, void *data)
{
        Outcome *o = data;

        o->done = true;
        o->func(c, status, message, user, o->data);
}

int auth_check(Auth *auth, const Exchange *exchange, const AuthAction *action, AuthFunc func,
               void *data, AuthCheck **ret)
{
        AuthCheck *c = calloc(1, sizeof(*c));
        Outcome outcome = { .func = func, .data = data };

        *ret = NULL;
        if (!c)
                return -ENOMEM;
        c->auth = auth;
        c->action = *action;
        c->func = on_outcome;
        c->data = &outcome;
        auth_authenticate(c, exchange);
        if (outcome.done)
                return 0;
        c->func = func;
        c->data = data;
        *ret = c;
        return 0;
}

int auth_new(Loop *loop, const AuthOptions *options, Auth **ret, KlError **err)
{
        KL_AUTO(auth_free) Auth *auth = calloc(1, sizeof(*auth));

        if (!auth)
                return kl_error_oom(err);
        auth->loop = loop;
        auth->options = *options;
        auth->tokens = map_new(auth_token_verdict_free);
        auth->verdicts = map_new(free);
        if (!auth->tokens || !auth->verdicts)
                return kl_error_oom(err);
        auth_read_cas(auth);
        *ret = KL_STEAL(auth);
        return 0;
}

Auth *auth_free(Auth *auth)
{
        if (auth) {
                map_free(auth->tokens);
                map_free(auth->verdicts);
                client_cas_free(auth->cas);
                free(auth);
        }
        return NULL;
}

void auth_reload(Auth *auth)
{
        auth_read_cas(auth);
}
