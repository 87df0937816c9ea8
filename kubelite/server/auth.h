/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_AUTH_H
#define KUBELITE_SERVER_AUTH_H

#include "api/client.h"
#include "server/http-server.h"

/*
 * Who asks (authn.c), and whether they may (authz.c). Verdicts of the API server are kept for as
 * long as the configuration says; when it cannot be asked, what is kept still counts until its time
 * is over, and everything else is refused.
 */
#define AUTH_CACHE_MAX 512
#define AUTH_TOKEN_MAX (12U << 10)
#define AUTH_TIMEOUT_MS 10000
#define AUTH_SUBRESOURCES_MAX 2

typedef struct AuthUser {
        char *name, *uid;
        char **groups; /* never NULL */
        char *extra;   /* a JSON object, or NULL */
} AuthUser;

AuthUser *auth_user_ref(AuthUser *user);
AuthUser *auth_user_unref(AuthUser *user);

typedef struct AuthOptions {
        ApiClient *api;             /* NULL: nobody can be asked */
        const char *node_name;      /* strings outlive the Auth */
        const char *client_ca_file; /* or NULL */
        bool anonymous, webhook_authn, always_allow;
        uint64_t token_ttl_ms, allow_ttl_ms, deny_ttl_ms;
} AuthOptions;

typedef struct Auth Auth;
typedef struct AuthCheck AuthCheck;

int auth_new(Loop *loop, const AuthOptions *options, Auth **ret, KlError **err);
/* All checks must have been freed. */
Auth *auth_free(Auth *auth);
KL_DEFINE_CLEANUP(Auth *, auth_free);
/* Reads the authorities again if their file changed. */
void auth_reload(Auth *auth);

/* What somebody wants to do with the node: one of the subresources is enough, asked in turn. */
typedef struct AuthAction {
        const char *verb;
        const char *subresources[AUTH_SUBRESOURCES_MAX]; /* static; NULL: no more */
} AuthAction;

/* status 0: go on; else 401, 403 or 500 and what to say. May come within auth_check(); the check is
 * over then. */
typedef void (*AuthFunc)(AuthCheck *check, int status, const char *message, AuthUser *user,
                         void *data);

/* Judges a request. *ret is NULL when func was called already. */
int auth_check(Auth *auth, const Exchange *exchange, const AuthAction *action, AuthFunc func,
               void *data, AuthCheck **ret);
/* Before its func was called: cancels. */
AuthCheck *auth_check_free(AuthCheck *check);

#endif
