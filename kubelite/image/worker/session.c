/* SPDX-License-Identifier: Apache-2.0 */

/* The main process' side of the fetcher for manifests, indexes and configurations. */

#include "image/worker/session-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "codec/json.h"
#include "image/digest-internal.h"

#include <fcntl.h>
#include <openssl/evp.h>

int session_send_lines(int fd, const RegistryPlan *plan, const Buf *request)
{
        KL_AUTOBUF first = BUF_INIT;
        int r;

        registry_plan_encode(plan, &first);
        r = buf_error(&first);
        if (r == 0)
                r = fd_write_all(fd, first.data, first.len);
        if (r == 0 && request)
                r = fd_write_all(fd, request->data, request->len);
        return r;
}

int session_start(Session *session, RegistryPlan *plan, KlError **err)
{
        RoleSpec spec = { .role = ROLE_FETCH, .fds = { -1, -1 } };
        int fds[2];
        int r;

        *session = (Session){ .plan = plan, .to_fd = -1 };
        session->child.fd = -1;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return kl_error_errno(err, -errno, NULL, "start the fetch process");
        spec.in_fd = fds[0];
        r = role_child_start(&session->child, &spec, err);
        close(fds[0]);
        session->to_fd = fds[1];
        if (r < 0)
                return r;
        r = session_send_lines(session->to_fd, plan, NULL);
        return r < 0 ? kl_error_errno(err, r, NULL, "speak to the fetch process") : 0;
}

void session_end(Session *session)
{
        session->to_fd = kl_close(session->to_fd);
        role_child_deinit(&session->child);
}

/* What the fetcher learnt: which endpoint answered, and the credentials that it accepted. */
static int take_result(Session *session, char **ret_digest, KlError **err)
{
        KL_AUTO(value_free) Value *document = NULL;
        RegistryPlan *plan = session->plan;
        const char *authorization, *digest;
        int64_t endpoint;
        int r = json_parse(session->child.result, strlen(session->child.result), &document, err);

        if (r < 0)
                return r;
        endpoint = value_int(value_get(document, "endpoint"), 0);
        if (endpoint < 0 || (uint64_t)endpoint >= plan->n_endpoints)
                return kl_error(err, -EPROTO, NULL, "the fetch process broke its protocol");
        plan->preferred = (size_t)endpoint;
        authorization = value_get_str(document, "authorization");
        if (!str_empty(authorization))
                plan->endpoints[endpoint].authorization = arena_strdup(plan->arena, authorization);
        digest = value_get_str(document, "digest");
        if (ret_digest && digest_is_valid(digest))
                *ret_digest = strdup(digest);
        return 0;
}

int session_get(Session *session, const char *path, bool head, size_t max, const Buf **ret_body,
                char **ret_digest, KlError **err)
{
        KL_AUTOBUF request = BUF_INIT;
        JsonWriter w = JSON_WRITER(&request);
        int r;

        jw_object(&w);
        jw_kstr(&w, "path", path);
        jw_kbool(&w, "head", head);
        jw_kint(&w, "max", (int64_t)max);
        jw_end(&w);
        buf_add_char(&request, '\n');
        r = buf_error(&request);
        if (r == 0)
                r = fd_write_all(session->to_fd, request.data, request.len);
        if (r < 0)
                return kl_error_errno(err, r, NULL, "speak to the fetch process");
        r = role_child_wait_result(&session->child, err);
        if (r < 0)
                return r;
        *ret_body = &session->child.body;
        return take_result(session, ret_digest, err);
}

int document_digest(const Buf *data, const char *like, char ret[static DIGEST_TEXT_SIZE])
{
        unsigned char bytes[EVP_MAX_MD_SIZE];
        char hex[2 * EVP_MAX_MD_SIZE + 1];
        const char *algorithm = like ? digest_algorithm(like) : "sha256";
        unsigned int len = 0;

        if (!algorithm || EVP_Digest(buf_str(data), data->len, bytes, &len,
                                     EVP_get_digestbyname(algorithm), NULL) != 1)
                return -EINVAL;
        hex_encode(bytes, len, hex);
        snprintf(ret, DIGEST_TEXT_SIZE, "%s:%s", algorithm, hex);
        return 0;
}

int session_get_verified(Session *session, const char *path, const char *digest, uint64_t size,
                         size_t max, const Buf **ret_body, KlError **err)
{
        char have[DIGEST_TEXT_SIZE];
        int r = session_get(session, path, false, max, ret_body, NULL, err);

        if (r < 0)
                return r;
        if (size > 0 && (*ret_body)->len != size)
                return kl_error(err, -EBADMSG, NULL,
                                "'%s' has %zu bytes, expected %llu: failed size "
                                "validation",
                                path, (*ret_body)->len, (unsigned long long)size);
        if (document_digest(*ret_body, digest, have) < 0 || !str_eq(have, digest))
                return kl_error(err, -EBADMSG, NULL,
                                "unexpected digest of '%s': %s, expected %s: "
                                "failed precondition",
                                path, have, digest);
        return 0;
}
