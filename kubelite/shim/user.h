/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SHIM_USER_H
#define KUBELITE_SHIM_USER_H

#include "base/error.h"
#include "shim/record.h"

/* /etc/passwd and /etc/group of an image: larger ones are refused, never read. */
#define USER_FILE_MAX (1U << 20)
/* As upstream: ids are non-negative 32-bit integers. */
#define USER_ID_MAX 2147483647U

typedef struct ResolvedUser {
        uint32_t uid, gid;
        uint32_t groups[SHIM_GROUPS_MAX]; /* the primary one first */
        size_t n_groups;
        char home[256]; /* "/" when unknown */
} ResolvedUser;

/* Pure: the texts of both files, "" when missing. Reason CreateContainerError. */
int user_resolve(const ShimUser *user, const char *passwd, const char *group, ResolvedUser *ret,
                 KlError **err);

/* Reads both beneath the root at root_fd: regular files without links only. */
int user_lookup(const ShimUser *user, int root_fd, ResolvedUser *ret, KlError **err);

#endif
