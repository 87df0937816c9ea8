/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Authentication with registries, as the distribution specification has it. Messages of this file
 * never contain a secret.
 */

#include "image/worker/auth-internal.h"

#include "base/str.h"
#include "codec/json.h"

#include <ctype.h>
#include <curl/curl.h>
#include <openssl/evp.h>

#define TOKEN_ANSWER_MAX (256U << 10)

/* --- challenges --- */

/* One `key="value"` or `key=value`; NULL at the end. The value may have escapes. */
static const char *next_parameter(const char *s, char *key, size_t key_size, Buf *value)
{
        size_t n = 0;

        buf_clear(value);
        s += strspn(s, " \t,");
        while (*s && *s != '=' && *s != ',' && n + 1 < key_size)
                key[n++] = (char)tolower((unsigned char)*s++);
        key[n] = '\0';
        if (*s != '=')
                return NULL;
        s++;
        if (*s != '"') {
                buf_add(value, s, strcspn(s, ", \t"));
                return s + strcspn(s, ", \t");
        }
        for (s++; *s && *s != '"'; s++) {
                if (*s == '\\' && s[1])
                        s++;
                buf_add_char(value, *s);
        }
        return *s == '"' ? s + 1 : s;
}

static int parse_bearer(const char *s, AuthChallenge *ret)
{
        KL_AUTOBUF value = BUF_INIT_LIMIT(4096);
        char key[32];

        while ((s = next_parameter(s, key, sizeof(key), &value))) {
                char **to = str_eq(key, "realm")     ? &ret->realm
                            : str_eq(key, "service") ? &ret->service
                            : str_eq(key, "scope")   ? &ret->scope
                                                     : NULL;

                if (buf_error(&value))
                        return buf_error(&value);
                if (!to || *to)
                        continue;
                *to = strdup(buf_str(&value));
                if (!*to)
                        return -ENOMEM;
        }
        ret->bearer = ret->realm != NULL;
        return 0;
}

int auth_challenge_parse(char *const *headers, AuthChallenge *ret)
{
        *ret = (AuthChallenge){ 0 };
        for (size_t i = 0; headers && headers[i]; i++) {
                int r = 0;

                if (strncasecmp(headers[i], "bearer ", 7) == 0 && !ret->bearer)
                        r = parse_bearer(headers[i] + 7, ret);
                else if (strncasecmp(headers[i], "basic", 5) == 0)
                        ret->basic = true;
                if (r < 0)
                        return r;
        }
        return 0;
}

void auth_challenge_deinit(AuthChallenge *challenge)
{
        free(challenge->realm);
        free(challenge->service);
        free(challenge->scope);
        *challenge = (AuthChallenge){ 0 };
}

/* --- answers --- */

static int answer_basic(const AuthCredentials *c, char **ret)
{
        KL_AUTOFREE char *plain = str_format("%s:%s", c->username, c->password ? c->password : "");
        KL_AUTOFREE char *encoded = NULL;
        size_t len = plain ? strlen(plain) : 0;

        encoded = malloc(len / 3 * 4 + 8);
        if (!plain || !encoded)
                return -ENOMEM;
        EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)plain, (int)len);
        *ret = str_format("Basic %s", encoded);
        return *ret ? 0 : -ENOMEM;
}

static void add_form(Buf *to, const char *key, const char *value)
{
        char *escaped = curl_easy_escape(NULL, value, 0);

        buf_addf(to, "%s%s=%s", to->len > 0 ? "&" : "", key, escaped ? escaped : "");
        curl_free(escaped);
}

static int take_token(const Buf *body, char **ret, KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        const char *token;

        if (json_parse(buf_str(body), body->len, &document, NULL) < 0)
                return kl_error(err, -EACCES, NULL,
                                "failed to authorize: the token server's answer "
                                "is no JSON");
        token = value_get_str(document, "token");
        if (str_empty(token))
                token = value_get_str(document, "access_token");
        if (str_empty(token) || strpbrk(token, "\r\n"))
                return kl_error(err, -EACCES, NULL,
                                "failed to authorize: the token server's answer "
                                "has no token");
        *ret = str_format("Bearer %s", token);
        return *ret ? 0 : kl_error(err, -ENOMEM, NULL, "out of memory");
}

static int request_token(Http *http, const HttpRequest *request, const char *realm, bool anonymous,
                         char **ret, KlError **err)
{
        __attribute__((cleanup(http_response_deinit))) HttpResponse response = { 0 };
        int r = http_perform(http, request, &response, err);

        if (r < 0)
                return kl_error_wrap(err, r, "failed to authorize: failed to fetch %s token",
                                     anonymous ? "anonymous" : "oauth");
        if (response.status != 200)
                return kl_error(err, -EACCES, NULL,
                                "failed to authorize: failed to fetch %s "
                                "token: unexpected status from %s request to %s: %ld %s",
                                anonymous ? "anonymous" : "oauth", request->form ? "POST" : "GET",
                                realm, response.status, http_status_text(response.status));
        return take_token(request->body, ret, err);
}

static int answer_bearer(Http *http, const AuthChallenge *challenge, const AuthCredentials *c,
                         const char *scope, const HttpTls *tls, char **ret, KlError **err)
{
        KL_AUTOBUF body = BUF_INIT_LIMIT(TOKEN_ANSWER_MAX);
        KL_AUTOBUF query = BUF_INIT;
        KL_AUTOFREE char *url = NULL;
        HttpRequest request = { .url = challenge->realm, .tls = *tls, .body = &body };

        if (c->identity_token) {
                add_form(&query, "grant_type", "refresh_token");
                add_form(&query, "client_id", "kubelite");
                add_form(&query, "refresh_token", c->identity_token);
        }
        if (challenge->service)
                add_form(&query, "service", challenge->service);
        add_form(&query, "scope", scope);
        if (buf_error(&query))
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        if (c->identity_token) {
                request.form = buf_str(&query);
                return request_token(http, &request, challenge->realm, false, ret, err);
        }
        url = str_format("%s%c%s", challenge->realm, strchr(challenge->realm, '?') ? '&' : '?',
                         buf_str(&query));
        if (!url)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        request.url = url;
        request.basic_user = c->username;
        request.basic_password = c->password;
        return request_token(http, &request, challenge->realm, !c->username, ret, err);
}

/* TLS settings belong to the registry's own host. */
static HttpTls tls_for(const char *url, const char *registry_url, const HttpTls *tls)
{
        KL_AUTOFREE char *a = http_origin(url), *b = http_origin(registry_url);

        return a && b && str_eq(a, b) ? *tls : (HttpTls){ .ca = tls->ca };
}

int auth_answer(Http *http, const AuthChallenge *challenge, const AuthCredentials *credentials,
                const char *registry_url, const char *repository, const HttpTls *tls, char **ret,
                KlError **err)
{
        KL_AUTOFREE char *scope = NULL;
        HttpTls realm_tls;

        if (credentials->registry_token) {
                *ret = str_format("Bearer %s", credentials->registry_token);
                return *ret ? 0 : kl_error(err, -ENOMEM, NULL, "out of memory");
        }
        if (!challenge->bearer) {
                if (!challenge->basic || !credentials->username)
                        return kl_error(err, -EACCES, NULL,
                                        "failed to authorize: the registry "
                                        "wants credentials");
                return answer_basic(credentials, ret) < 0
                               ? kl_error(err, -ENOMEM, NULL, "out of memory")
                               : 0;
        }
        if (!str_starts(challenge->realm, "https://") &&
            (!str_starts(registry_url, "http://") || !str_starts(challenge->realm, "http://")))
                return kl_error(err, -EACCES, NULL,
                                "failed to authorize: the token server '%.200s' "
                                "is not reached by https",
                                challenge->realm);
        scope = challenge->scope ? strdup(challenge->scope)
                                 : str_format("repository:%s:pull", repository);
        if (!scope)
                return kl_error(err, -ENOMEM, NULL, "out of memory");
        realm_tls = tls_for(challenge->realm, registry_url, tls);
        return answer_bearer(http, challenge, credentials, scope, &realm_tls, ret, err);
}
