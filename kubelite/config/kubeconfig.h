/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CONFIG_KUBECONFIG_H
#define KUBELITE_CONFIG_KUBECONFIG_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * The part of a kubeconfig that its current context names: one cluster and one user. Relative paths
 * are relative to the kubeconfig's directory; inline data is decoded and wins over a file.
 */
#define KUBECONFIG_SIZE_MAX (4U << 20)

typedef struct Kubeconfig {
        /* cluster */
        char *server;          /* https://host:port[/prefix], no trailing slash */
        char *tls_server_name; /* or NULL */
        char *ca_pem;          /* or NULL: the system's */
        char *proxy_url;       /* or NULL */
        bool insecure_skip_verify;

        /* user */
        char *cert_pem, *key_pem;   /* inline, or NULL */
        char *cert_file, *key_file; /* or NULL */
        char *token;                /* or NULL */
        char *token_file;           /* or NULL; wins over token, as upstream's does */

        char *context, *cluster, *user, *namespace;
        Arena *arena;
} Kubeconfig;

/* -EINVAL (with file and path), -ENOTSUP for a credential that is not supported (exec,
 * auth-provider, basic), or the errno of reading a file. Certificate files of the user are not
 * opened: they may appear and change later. */
int kubeconfig_read_file(const char *path, Kubeconfig **ret, KlError **err);
/* dir: what relative paths are relative to. */
int kubeconfig_read(const char *name, const char *dir, const char *text, size_t len,
                    Kubeconfig **ret, KlError **err);
Kubeconfig *kubeconfig_free(Kubeconfig *config);
KL_DEFINE_CLEANUP(Kubeconfig *, kubeconfig_free);

#endif
