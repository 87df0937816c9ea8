/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_SERVER_H
#define KUBELITE_SERVER_SERVER_H

#include "api/client.h"
#include "config/kubelet-config.h"
#include "pod/place.h"
#include "server/auth.h"
#include "server/http-server.h"
#include "server/target.h"

/*
 * The kubelet API, HTTPS on port 10250: listener, authentication, authorization, routes. Every
 * request is authenticated and authorized before its route is even looked up; handlers see only
 * what was let in. See README for who may ask what.
 *
 * When the port is taken the server says so and tries again; the daemon goes on.
 */
#define SERVER_RETRY_MS 5000
#define SERVER_CHECK_FILES_MS 5000

typedef struct KubeletServer KubeletServer;
typedef struct ServerRequest ServerRequest;

typedef struct KubeletServerFuncs {
        /* v1.PodLists. 0 or -ENOMEM. */
        int (*write_pods)(Buf *to, void *data);
        int (*write_running)(Buf *to, void *data);
        /* As pod/served.h has them. */
        int (*find_log)(const char *namespace, const char *pod, const char *container,
                        bool previous, char **ret_path, KlError **err, void *data);
        bool (*log_goes_on)(const char *namespace, const char *pod, const char *container,
                            const char *path, void *data);
        int (*find_place)(const PlaceName *name, Place *ret, void *data);
} KubeletServerFuncs;

typedef struct KubeletServerOptions {
        const KubeletConfig *config; /* outlives the server, as all strings here */
        const char *node_name, *cert_dir, *log_dir;
        char *const *addresses; /* of the node, for a self-signed certificate; copied */
        ApiClient *api;         /* NULL on a standalone node */
        const KubeletServerFuncs *funcs;
        void *data;
} KubeletServerOptions;

/* Fails for bad settings or certificates, not for a port in use. */
int kubelet_server_new(Loop *loop, const KubeletServerOptions *options, KubeletServer **ret,
                       KlError **err);
KubeletServer *kubelet_server_free(KubeletServer *server);
KL_DEFINE_CLEANUP(KubeletServer *, kubelet_server_free);

/* --- for the rooms that serve more --- */

/* What answers below a path's first segment ("exec", "stats", "metrics"); NULL takes it away. The
 * handler answers at once or later through the exchange. */
typedef void (*ServerHandlerFunc)(ServerRequest *request, void *data);
int kubelet_server_handle(KubeletServer *server, const char *segment, ServerHandlerFunc func,
                          void *data);

Exchange *server_request_exchange(const ServerRequest *request);
/* segments[0] is the route's. */
const Target *server_request_target(const ServerRequest *request);
const AuthUser *server_request_user(const ServerRequest *request);
/* The handler's own data; free_data comes when the exchange ends, however. */
void server_request_set_data(ServerRequest *request, void *data, void (*free_data)(void *data));

#endif
