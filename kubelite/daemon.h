/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_DAEMON_H
#define KUBELITE_DAEMON_H

#include "api/client.h"
#include "config/flags.h"
#include "image/collect.h"
#include "loop/worker.h"
#include "node/node.h"
#include "node/system-oom.h"
#include "pod/evict.h"
#include "pod/manager.h"
#include "server/control.h"
#include "server/healthz.h"
#include "server/server.h"
#include "stats/stats.h"

/* Runs the daemon until a signal ends it; the exit status. */
int daemon_main(int argc, char **argv);

/* --- for the daemon's own files --- */

/* Where our other programs are: beside an installed binary, or in the build tree. */
typedef struct DaemonPaths {
        char *shim, *image_worker, *cni_plugins;
        char *data_dir, *layers_parent; /* beneath --image-dir's parent */
} DaemonPaths;

typedef struct Daemon {
        Flags *flags;
        KubeletConfig *config;
        Kubeconfig *kubeconfig;
        DaemonPaths paths;
        char *name;
        int lock_fd;
        int64_t started_us;

        Loop *loop;
        Signal *signals[2];
        ApiClient *api;
        EventRecorder *events;
        Node *node;
        ImageStore *images;
        Runtime *runtime;
        Cni *cni;
        ObjectCache *objects;
        RuntimeClasses *runtime_classes;
        Services *services;
        Volumes *volumes;
        LogTidy *log_tidy;
        Prober *prober;
        PodManager *pods;
        StatsOptions stats_options;
        Stats *stats;
        ImageCollector *collector;
        Evictor *evictor;
        SystemOom *system_oom;
        Worker *reserved_worker;
        Control *control;
        Healthz *healthz;
        KubeletServer *server;
        Timer *watchdog;
        Timer *trim;
        Deferred *changed; /* images, network or node: told to the others at the end of the turn */

        PodContext context;
        Resources limited; /* of all pods together, as last set */
        char *uid;         /* of the node */
        Arena *placement_arena;
        char *log_links_dir, *resolv_conf;
        char **cni_bin_dirs;
} Daemon;

int daemon_paths(const char *image_dir, DaemonPaths *ret, KlError **err);
void daemon_paths_deinit(DaemonPaths *paths);

/* Fills the settings of the pod context that the configuration and the node give. */
int daemon_context_init(Daemon *d, KlError **err);
/* Takes over what the node learned since. */
void daemon_context_refresh(Daemon *d);

/* Limits all pods together; does nothing while that has not changed. */
void daemon_limit_pods(Daemon *d);
/* Limits the groups of the system and of Kubernetes to what is reserved for them, if so configured.
 */
void daemon_limit_reserved(Daemon *d);

/* Eviction and the collection of images. */
int daemon_pressure_start(Daemon *d, KlError **err);

int daemon_control_start(Daemon *d, KlError **err);
void daemon_control_stop(Daemon *d);
/* Handlers of the local socket. */
void daemon_control_exec(ControlReply *reply, const Value *request, int fd, void *daemon);
void daemon_control_attach(ControlReply *reply, const Value *request, int fd, void *daemon);
void daemon_control_forward(ControlReply *reply, const Value *request, int fd, void *daemon);

/* The kubelet API, unless the configuration wants none. */
int daemon_server_start(Daemon *d, KlError **err);

int daemon_stats_start(Daemon *d, KlError **err);
/* Put statistics and metrics behind the kubelet API. 0 or -ENOMEM. */
int daemon_stats_serve(Daemon *d);
int daemon_metrics_serve(Daemon *d);
/* Of the local socket; data is the daemon. */
void daemon_stats_command(ControlReply *reply, const Value *request, int fd, void *data);

/* sd_notify(3) without its library: does nothing where no manager listens. */
void daemon_notify(const char *state);
/* Half of the watchdog's interval, 0 if none is asked for. */
uint64_t daemon_watchdog_ms(void);

#endif
