/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_SESSION_INTERNAL_H
#define KUBELITE_IMAGE_SESSION_INTERNAL_H

#include "image/digest-internal.h"
#include "image/worker/child-internal.h"
#include "image/worker/registries-internal.h"

/* Small documents of a repository, by a fetcher that lives as long as the session. */

typedef struct Session {
        RegistryPlan *plan; /* borrowed; learns which endpoint and credentials worked */
        RoleChild child;
        int to_fd;
} Session;

int session_start(Session *session, RegistryPlan *plan, KlError **err);
void session_end(Session *session);

/* The body of GET (or the digest by HEAD) of a path of the repository; *ret_digest (may be NULL) is
 * what the server says, to be freed. The body is valid until the next call. */
int session_get(Session *session, const char *path, bool head, size_t max, const Buf **ret_body,
                char **ret_digest, KlError **err);

/* As session_get, of a document with this digest (and size, unless 0), which is verified. */
int session_get_verified(Session *session, const char *path, const char *digest, uint64_t size,
                         size_t max, const Buf **ret_body, KlError **err);

/* "sha256:…" (or the algorithm of like) of data. */
int document_digest(const Buf *data, const char *like, char ret[static DIGEST_TEXT_SIZE]);

/* Writes the first line of a new fetcher and a request line to its standard input. */
int session_send_lines(int fd, const RegistryPlan *plan, const Buf *request);

#endif
