/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_AUTH_INTERNAL_H
#define KUBELITE_SERVER_AUTH_INTERNAL_H

#include "base/map.h"
#include "server/auth.h"

#include <sys/stat.h>

struct Auth {
        Loop *loop;
        AuthOptions options;
        ClientCas *cas;
        struct timespec cas_time; /* of the file that was read */
        off_t cas_size;
        ino_t cas_inode;
        bool cas_failed; /* told once */
        Map *tokens;     /* digest -> TokenVerdict */
        Map *verdicts;   /* digest -> AccessVerdict */
};

struct AuthCheck {
        Auth *auth;
        AuthAction action;
        AuthFunc func;
        void *data;
        AuthUser *user;
        ApiRequest *request;
        char key[SECRET_DIGEST_SIZE]; /* of what is asked now */
        size_t at;                    /* the subresource that is asked now */
};

AuthUser *auth_user_new(const char *name, const char *uid, char *const *groups);

/* authn.c: finds c->user, then auth_authorize(); or auth_done(). */
void auth_authenticate(AuthCheck *c, const Exchange *exchange);
void auth_read_cas(Auth *auth);
void auth_token_verdict_free(void *verdict);

/* authz.c */
void auth_authorize(AuthCheck *c);

/* auth.c */
void auth_done(AuthCheck *c, int status, const char *message);
/* Makes room in a cache, then stores; value is freed with free_value when that fails. */
void auth_cache_put(Map *cache, const char *key, void *value, void (*free_value)(void *));

#endif
