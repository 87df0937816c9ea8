/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_SERVER_INTERNAL_H
#define KUBELITE_SERVER_SERVER_INTERNAL_H

#include "base/list.h"
#include "server/log-reader.h"
#include "server/server.h"

typedef struct Route Route;

typedef struct ExtraHandler {
        ServerHandlerFunc func;
        void *data;
} ExtraHandler;

#define SERVER_EXTRA_HANDLERS_MAX 16

struct KubeletServer {
        Loop *loop;
        KubeletServerOptions options;
        char **addresses;
        char *cert_file, *key_file;
        int64_t cert_stamp; /* of the files that are served */
        bool self_signed, cert_failed, port_failed;
        HttpServer *http;
        Auth *auth;
        LogService *logs;
        Timer *retry, *check;
        size_t n_requests; /* under way */
        size_t n_node_logs;
        size_t peak; /* connections since memory was last given back */
        struct {
                char *segment;
                ExtraHandler handler;
        } extra[SERVER_EXTRA_HANDLERS_MAX];
        size_t n_extra;
        List streams, dead_streams; /* of ServedStream */
        Deferred *streams_sweep;
};

struct ServerRequest {
        KubeletServer *server;
        Exchange *exchange;
        Target target;
        const Route *route;
        AuthCheck *check;
        AuthUser *user;
        uint64_t began_us;
        const char *metric_labels[4]; /* long_running, method, path, server_type; static */
        void *data;
        void (*free_data)(void *data);
};

/* routes.c: called for each request that has come. */
void server_on_request(Exchange *exchange, void *server);

/* logs.c */
void server_container_logs(ServerRequest *rq);

/* node-logs.c */
#define SERVER_NODE_LOGS_MAX 8 /* at a time: each is a worker */
void server_node_logs(ServerRequest *rq);

/* stream-command.c, stream-forward.c, run.c */
void server_exec(ServerRequest *rq);
void server_attach(ServerRequest *rq);
void server_port_forward(ServerRequest *rq);
void server_run(ServerRequest *rq);

/* streams.c: ends all sessions; frees what has ended. */
void server_streams_stop(KubeletServer *server);
void server_streams_sweep(Deferred *deferred, void *server);

/* certificate.c: the pair to serve, made if there is none. To be freed. */
int server_certificate_load(KubeletServer *s, char **ret_cert, char **ret_key, KlError **err);
/* Takes over files that changed. */
void server_certificate_check(KubeletServer *s);

#endif
