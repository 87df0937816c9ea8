/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Authorization by SubjectAccessReview: verb on nodes/<subresource> of this node. Where the finer
 * subresource is refused, nodes/proxy is asked (KubeletFineGrainedAuthz).
 */

#include "server/auth-internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "codec/json.h"

#define REVIEW_PATH "/apis/authorization.k8s.io/v1/subjectaccessreviews"

typedef struct AccessVerdict {
        uint64_t until_ms;
        bool allowed;
} AccessVerdict;

static void ask_next(AuthCheck *c);

static void subresources_text(const AuthAction *action, char *buf, size_t size)
{
        snprintf(buf, size, "[%s%s%s]", action->subresources[0], action->subresources[1] ? " " : "",
                 action->subresources[1] ? action->subresources[1] : "");
}

static void refuse(AuthCheck *c, int status)
{
        char subresources[64], message[512];

        subresources_text(&c->action, subresources, sizeof(subresources));
        snprintf(message, sizeof(message),
                 "%s (user=%.256s, verb=%s, resource=nodes, subresource(s)=%s)",
                 status == 403 ? "Forbidden" : "Authorization error", c->user->name, c->action.verb,
                 subresources);
        auth_done(c, status, message);
}

static void take_verdict(AuthCheck *c, bool allowed)
{
        if (allowed) {
                auth_done(c, 0, "");
                return;
        }
        c->at++;
        if (c->at < AUTH_SUBRESOURCES_MAX && c->action.subresources[c->at])
                ask_next(c);
        else
                refuse(c, 403);
}

static void on_review(ApiRequest *request, const ApiResponse *response, void *data)
{
        AuthCheck *c = data;
        const AuthOptions *o = &c->auth->options;
        AccessVerdict *verdict;
        bool allowed;

        c->request = NULL;
        if (response->status / 100 != 2 || !response->object) {
                log_warning(NULL, "Access of '%s' cannot be reviewed: %s", c->user->name,
                            response->message);
                refuse(c, 500);
                return;
        }
        allowed = value_bool(value_path(response->object, "status.allowed"), false) &&
                  !value_bool(value_path(response->object, "status.denied"), false);
        verdict = calloc(1, sizeof(*verdict));
        if (verdict) {
                verdict->allowed = allowed;
                verdict->until_ms =
                        time_monotonic_ms() + (allowed ? o->allow_ttl_ms : o->deny_ttl_ms);
                auth_cache_put(c->auth->verdicts, c->key, verdict, free);
        }
        take_verdict(c, allowed);
}

static int write_review(const AuthCheck *c, Buf *to)
{
        JsonWriter w = JSON_WRITER(to);

        jw_object(&w);
        jw_kstr(&w, "apiVersion", "authorization.k8s.io/v1");
        jw_kstr(&w, "kind", "SubjectAccessReview");
        jw_kobject(&w, "spec");
        jw_kobject(&w, "resourceAttributes");
        jw_kstr(&w, "verb", c->action.verb);
        jw_kstr(&w, "version", "v1");
        jw_kstr(&w, "resource", "nodes");
        jw_kstr(&w, "subresource", c->action.subresources[c->at]);
        jw_kstr(&w, "name", c->auth->options.node_name);
        jw_end(&w);
        jw_kstr(&w, "user", c->user->name);
        jw_kstrv(&w, "groups", c->user->groups);
        jw_kstr_opt(&w, "uid", c->user->uid);
        if (c->user->extra) {
                jw_key(&w, "extra");
                jw_raw(&w, c->user->extra, strlen(c->user->extra));
        }
        jw_end(&w);
        jw_end(&w);
        return buf_error(to);
}

static void ask_next(AuthCheck *c)
{
        Auth *auth = c->auth;
        KL_AUTOBUF body = BUF_INIT;
        AccessVerdict *verdict;
        ApiCall call = {
                .method = "POST",
                .path = REVIEW_PATH,
                .timeout_ms = AUTH_TIMEOUT_MS,
                .done = on_review,
                .data = c,
        };

        if (write_review(c, &body) < 0 || secret_digest(body.data, body.len, c->key) < 0) {
                refuse(c, 500);
                return;
        }
        verdict = map_get(auth->verdicts, c->key);
        if (verdict && verdict->until_ms > time_monotonic_ms()) {
                take_verdict(c, verdict->allowed);
                return;
        }
        map_remove(auth->verdicts, c->key);
        call.body = body.data;
        call.body_len = body.len;
        if (!auth->options.api || api_call(auth->options.api, &call, &c->request, NULL) < 0)
                refuse(c, 500);
}

void auth_authorize(AuthCheck *c)
{
        if (c->auth->options.always_allow)
                auth_done(c, 0, "");
        else
                ask_next(c);
}
