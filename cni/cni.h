/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_CNI_H
#define KUBELITE_CNI_CNI_H

#include "base/error.h"
#include "loop/loop.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Container Network Interface, spec 1.1.0 and older: configuration lists, invocation of plugin
 * chains, the result cache. Knows nothing of pods but the names it passes on.
 */
typedef struct Cni Cni;

typedef struct CniOptions {
        const char *conf_dir;        /* followed by inotify; the first valid file by name wins */
        char *const *bin_dirs;       /* searched in order, at each call */
        const char *cache_dir;       /* results and intents, one file an attachment */
        uint64_t timeout_ms;         /* of one plugin invocation; 60 s where this is more, or 0 */
        void (*changed)(void *data); /* cni_ready may answer otherwise now */
        void *data;
} CniOptions;

int cni_new(Loop *loop, const CniOptions *options, Cni **ret, KlError **err);
Cni *cni_free(Cni *cni);
KL_DEFINE_CLEANUP(Cni *, cni_free);

/* NULL when there is a usable configuration, else upstream's (containerd's) message:
 * "cni plugin not initialized". Borrowed. */
const char *cni_not_ready_message(const Cni *cni);
/* Name of the network in use, or NULL. */
const char *cni_network_name(const Cni *cni);

typedef struct CniPortMapping {
        uint16_t host_port, container_port;
        const char *protocol; /* "tcp", "udp", "sctp" */
        const char *host_ip;  /* or "" */
} CniPortMapping;

typedef struct CniAttachment {
        const char *id;                                 /* sandbox id */
        const char *netns;                              /* path; may be gone at DEL: "" then */
        const char *ifname;                             /* "eth0" */
        const char *pod_namespace, *pod_name, *pod_uid; /* CNI_ARGS K8S_POD_… and IgnoreUnknown=1 */
        const CniPortMapping *ports;
        size_t n_ports;
        /* kubernetes.io/ingress-bandwidth and egress-bandwidth, bits per second; 0: none */
        uint64_t ingress_bps, egress_bps;
} CniAttachment;

typedef struct CniResult {
        char *const *ips; /* of the sandbox's interface, without prefix length, v4 and v6 in the
                             plugin's order */
        const char *json; /* the whole result */
} CniResult;

typedef struct CniCall CniCall;
/* error NULL on success. Its message is what FailedCreatePodSandBox shows:
 * `plugin type="bridge" failed (add): …`. result is NULL for DEL and CHECK. */
typedef void (*CniFunc)(CniCall *call, const CniResult *result, const KlError *error, void *data);

/*
 * ADD: writes an intent (netns, configuration, arguments) before the first plugin runs, caches the
 * result after the last; a failing chain is DELed again from its end before the callback. DEL uses
 * the configuration and result of the cache, so a changed or missing configuration does not matter;
 * without a record it succeeds at once. Calls for one id are serialised. The callback never comes
 * within the call; the call object is freed after it.
 */
int cni_add(Cni *cni, const CniAttachment *attachment, CniFunc done, void *data, CniCall **ret,
            KlError **err);
int cni_del(Cni *cni, const char *id, const char *ifname, CniFunc done, void *data, CniCall **ret,
            KlError **err);
int cni_check(Cni *cni, const char *id, const char *ifname, CniFunc done, void *data, CniCall **ret,
              KlError **err);
/* Forgets the callback; the plugins run on to their end (an ADD that nobody waits for is DELed). */
CniCall *cni_call_abandon(CniCall *call);

/* The cached result of an attachment, e.g. after a restart; to be freed with cni_result_free. */
int cni_cached_result(Cni *cni, const char *id, const char *ifname, CniResult **ret);
CniResult *cni_result_free(CniResult *result);
KL_DEFINE_CLEANUP(CniResult *, cni_result_free);

/*
 * After a start: every attachment on record whose id is not in `live` is DELed (plugins of a dead
 * daemon that still run are waited for, or killed by the record's process identity), and plugins
 * that know the GC verb get it with the live set. Runs in the background; failures are logged and
 * retried each minute.
 */
int cni_collect(Cni *cni, char *const *live, KlError **err);

/* The ids of all attachments on record, to be freed with strv_free. */
int cni_attached(Cni *cni, char ***ret, KlError **err);

#endif
