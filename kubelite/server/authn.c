/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Authentication, in upstream's order: client certificate, bearer token, anonymous. A certificate
 * or token that is presented and does not hold is a 401, also where anonymous requests are allowed.
 * Tokens are kept as digests only.
 */

#include "server/auth-internal.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/base64.h"
#include "codec/json.h"

#include <strings.h>

#define REVIEW_PATH "/apis/authentication.k8s.io/v1/tokenreviews"
#define GROUP_AUTHENTICATED "system:authenticated"

typedef struct TokenVerdict {
        uint64_t until_ms;
        AuthUser *user; /* NULL: not authenticated */
} TokenVerdict;

void auth_token_verdict_free(void *data)
{
        TokenVerdict *verdict = data;

        if (verdict)
                auth_user_unref(verdict->user);
        free(verdict);
}

/* --- the authorities --- */

static int read_cas(Auth *auth, const char *path, KlError **err)
{
        KL_AUTO(client_cas_free) ClientCas *cas = NULL;
        KL_AUTOFREE char *pem = NULL;
        size_t len;
        int r = file_read(path, 1 << 20, &pem, &len);

        if (r < 0)
                return kl_error_errno(err, r, NULL, "read");
        KL_TRY(client_cas_new(pem, &cas, err));
        client_cas_free(auth->cas);
        auth->cas = KL_STEAL(cas);
        return 0;
}

/* A file that is gone or broken leaves the last good authorities in force. */
void auth_read_cas(Auth *auth)
{
        const char *path = auth->options.client_ca_file;
        KL_AUTOERR err = NULL;
        struct stat st;

        if (str_empty(path))
                return;
        if (stat(path, &st) == 0 && st.st_size == auth->cas_size && st.st_ino == auth->cas_inode &&
            st.st_mtim.tv_sec == auth->cas_time.tv_sec &&
            st.st_mtim.tv_nsec == auth->cas_time.tv_nsec)
                return;
        if (read_cas(auth, path, &err) < 0) {
                if (!auth->cas_failed)
                        log_error(NULL, "Client authorities in '%s' cannot be used: %s", path,
                                  kl_error_msg(err));
                auth->cas_failed = true;
                return;
        }
        auth->cas_failed = false;
        auth->cas_size = st.st_size;
        auth->cas_inode = st.st_ino;
        auth->cas_time = st.st_mtim;
}

/* --- certificates --- */

static AuthUser *user_of_certificate(const ClientIdentity *identity)
{
        AuthUser *user = auth_user_new(identity->name, NULL, identity->groups);

        if (user && strv_add(&user->groups, GROUP_AUTHENTICATED) < 0)
                return auth_user_unref(user);
        return user;
}

/* 0: c->user is set; 1: nothing was presented; -EACCES: what was presented does not hold. */
static int by_certificate(AuthCheck *c, const Exchange *exchange)
{
        const ClientChain *chain = listener_conn_chain(exchange_conn(exchange));
        ClientIdentity identity = { 0 };
        KL_AUTOERR err = NULL;

        if (!chain || !c->auth->cas)
                return 1;
        if (client_cas_verify(c->auth->cas, chain, &identity, &err) < 0) {
                log_info(NULL, "Client certificate of %s is refused: %s",
                         listener_conn_peer(exchange_conn(exchange)), kl_error_msg(err));
                return -EACCES;
        }
        c->user = user_of_certificate(&identity);
        client_identity_deinit(&identity);
        return c->user ? 0 : -ENOMEM;
}

/* --- tokens --- */

static int add_strings(char ***to, const Value *list)
{
        for (size_t i = 0; i < value_len(list); i++)
                if (value_str(value_at(list, i)))
                        KL_TRY(strv_add(to, value_str(value_at(list, i))));
        return 0;
}

static AuthUser *user_of_review(const Value *review)
{
        const Value *from = value_path(review, "status.user");
        const Value *extra = value_get(from, "extra");
        const char *name = value_get_str(from, "username");
        AuthUser *user = auth_user_new(name ? name : "", value_get_str(from, "uid"), NULL);
        KL_AUTOBUF text = BUF_INIT;

        if (!user)
                return NULL;
        if (add_strings(&user->groups, value_get(from, "groups")) < 0)
                return auth_user_unref(user);
        if (!strv_contains(user->groups, GROUP_AUTHENTICATED) &&
            strv_add(&user->groups, GROUP_AUTHENTICATED) < 0)
                return auth_user_unref(user);
        if (value_len(extra) > 0) {
                if (json_print(extra, &text) < 0 || !(user->extra = buf_steal(&text)))
                        return auth_user_unref(user);
        }
        return user;
}

static void take_user(AuthCheck *c, AuthUser *user)
{
        if (!user) {
                auth_done(c, 401, "Unauthorized");
                return;
        }
        c->user = auth_user_ref(user);
        auth_authorize(c);
}

static void on_review(ApiRequest *request, const ApiResponse *response, void *data)
{
        AuthCheck *c = data;
        TokenVerdict *verdict;

        c->request = NULL;
        if (response->status / 100 != 2 || !response->object) {
                log_warning(NULL, "A bearer token cannot be reviewed: %s", response->message);
                auth_done(c, 401, "Unauthorized");
                return;
        }
        verdict = calloc(1, sizeof(*verdict));
        if (!verdict) {
                auth_done(c, 500, "out of memory");
                return;
        }
        verdict->until_ms = time_monotonic_ms() + c->auth->options.token_ttl_ms;
        if (value_bool(value_path(response->object, "status.authenticated"), false))
                verdict->user = user_of_review(response->object);
        if (verdict->user && !*verdict->user->name)
                verdict->user = auth_user_unref(verdict->user);
        /* The cache may give it up at once: the check holds its own reference. */
        c->user = auth_user_ref(verdict->user);
        auth_cache_put(c->auth->tokens, c->key, verdict, auth_token_verdict_free);
        if (c->user)
                auth_authorize(c);
        else
                auth_done(c, 401, "Unauthorized");
}

static int ask_review(AuthCheck *c, const char *token)
{
        KL_AUTOBUF body = BUF_INIT;
        JsonWriter w = JSON_WRITER(&body);
        ApiCall call = {
                .method = "POST",
                .path = REVIEW_PATH,
                .timeout_ms = AUTH_TIMEOUT_MS,
                .done = on_review,
                .data = c,
        };
        int r;

        jw_object(&w);
        jw_kstr(&w, "apiVersion", "authentication.k8s.io/v1");
        jw_kstr(&w, "kind", "TokenReview");
        jw_kobject(&w, "spec");
        jw_kstr(&w, "token", token);
        jw_end(&w);
        jw_end(&w);
        if (buf_error(&body))
                return -ENOMEM;
        call.body = body.data;
        call.body_len = body.len;
        r = api_call(c->auth->options.api, &call, &c->request, NULL);
        explicit_bzero(body.data, body.len);
        return r;
}

static void by_token(AuthCheck *c, const char *token)
{
        Auth *auth = c->auth;
        TokenVerdict *verdict;

        if (!auth->options.webhook_authn || !auth->options.api || !*token ||
            strlen(token) > AUTH_TOKEN_MAX || secret_digest(token, strlen(token), c->key) < 0) {
                auth_done(c, 401, "Unauthorized");
                return;
        }
        verdict = map_get(auth->tokens, c->key);
        if (verdict && verdict->until_ms > time_monotonic_ms()) {
                take_user(c, verdict->user);
                return;
        }
        map_remove(auth->tokens, c->key);
        if (ask_review(c, token) < 0)
                auth_done(c, 500, "the token cannot be reviewed");
}

static const char *bearer_token(const Exchange *exchange)
{
        const char *value = exchange_header(exchange, "Authorization");

        if (!value || strncasecmp(value, "Bearer ", 7) != 0)
                return NULL;
        value += 7;
        return value + strspn(value, " ");
}

/* In place: base64url without padding, as the standard alphabet has it. NULL: it is none. */
static char *decode_url(char *text)
{
        Base64Decoder decoder = { 0 };
        size_t len = strlen(text);
        ssize_t n;

        for (char *p = text; *p; p++) {
                if (*p == '+' || *p == '/' || *p == '=')
                        return NULL;
                *p = *p == '-' ? '+' : *p == '_' ? '/' : *p;
        }
        n = base64_decode(&decoder, text, len, text);
        if (n >= 0 && len % 4 > 1) {
                ssize_t more = base64_decode(&decoder, "==", 4 - len % 4, text + n);

                n = more < 0 ? more : n + more;
        }
        if (n <= 0 || !base64_decoder_done(&decoder) || memchr(text, '\0', (size_t)n))
                return NULL;
        text[n] = '\0';
        return text;
}

/* Browsers cannot send an Authorization header with a WebSocket: the token is one of the protocols
 * then, and there is another one that can be answered with. 1: there is a token; -EINVAL: it is
 * none. The list is cut up. */
static int protocol_token(char *list, char **ret)
{
        static const char prefix[] = "base64url.bearer.authorization.k8s.io.";
        size_t n_tokens = 0, n_others = 0;
        char *save = NULL;

        for (char *p = strtok_r(list, ", \t", &save); p; p = strtok_r(NULL, ", \t", &save)) {
                if (!str_starts(p, prefix)) {
                        n_others++;
                        continue;
                }
                n_tokens++;
                *ret = decode_url(p + sizeof(prefix) - 1);
        }
        if (n_tokens == 0)
                return 0;
        return n_tokens == 1 && n_others > 0 && *ret ? 1 : -EINVAL;
}

void auth_authenticate(AuthCheck *c, const Exchange *exchange)
{
        static char *const anonymous_groups[] = { (char *)"system:unauthenticated", NULL };
        const char *token = bearer_token(exchange);
        const char *protocols = exchange_header(exchange, "Sec-WebSocket-Protocol");
        KL_AUTOFREE char *list = protocols ? strdup(protocols) : NULL;
        int r = by_certificate(c, exchange);
        char *from_protocol = NULL;

        if (r == 0) {
                auth_authorize(c);
                return;
        }
        if (!token && list)
                token = protocol_token(list, &from_protocol) < 0 ? "" : from_protocol;
        if (token) {
                by_token(c, token);
                return;
        }
        if (r > 0 && c->auth->options.anonymous)
                c->user = auth_user_new("system:anonymous", NULL, anonymous_groups);
        if (c->user)
                auth_authorize(c);
        else
                auth_done(c, 401, "Unauthorized");
}
