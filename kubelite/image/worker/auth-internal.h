/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_AUTH_INTERNAL_H
#define KUBELITE_IMAGE_AUTH_INTERNAL_H

#include "image/worker/http-internal.h"

/* Answers to registries' challenges: Basic, and Bearer with a token of an authorization server. */

typedef struct AuthCredentials {
        const char *username, *password; /* or */
        const char *identity_token;      /* exchanged for a token, or */
        const char *registry_token;      /* used as it is; NULL each */
} AuthCredentials;

typedef struct AuthChallenge {
        bool bearer, basic;
        char *realm, *service, *scope; /* of bearer */
} AuthChallenge;

/* Of WWW-Authenticate headers; bearer is preferred. */
int auth_challenge_parse(char *const *headers, AuthChallenge *ret);
void auth_challenge_deinit(AuthChallenge *challenge);

/*
 * The Authorization header that answers a challenge, to be freed. repository: for the scope where
 * the server names none. Secrets are sent to a realm in clear only if the registry itself is spoken
 * to in clear.
 */
int auth_answer(Http *http, const AuthChallenge *challenge, const AuthCredentials *credentials,
                const char *registry_url, const char *repository, const HttpTls *tls, char **ret,
                KlError **err);

#endif
