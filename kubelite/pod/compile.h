/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_COMPILE_H
#define KUBELITE_POD_COMPILE_H

#include "pod/context.h"

/*
 * A pod's spec into what the runtime takes. Pure but for reading the host's resolv.conf and hosts.
 */

typedef struct CompileInput {
        const PodContext *context;
        const Pod *pod;
        const Container *container;
        const Image *image;
        const PodVolumes *volumes;
        char *const *env;
        const char *id; /* of the new container */
        unsigned int attempt;
        char *const *pod_ips;
        const char *hostname;
        const char *pid_target; /* id of the container whose pid namespace it enters, or NULL */
} CompileInput;

typedef struct Compiled {
        Arena *arena;
        ContainerSpec spec;
        DnsNotes dns_notes;
} Compiled;

/* Errors carry CreateContainerConfigError or CreateContainerError. */
int compile_container(const CompileInput *in, Compiled *ret, KlError **err);
void compiled_deinit(Compiled *compiled);

/* The sandbox of a pod; strings live in the arena. */
int compile_sandbox(const PodContext *context, const Pod *pod, const char *id, unsigned int attempt,
                    Arena *arena, SandboxSpec *ret, KlError **err);

/* Resources of a container, and of the whole pod, in the kernel's terms (upstream's pkg/kubelet/cm
 * helpers). */
Resources compile_container_resources(const PodContext *context, const Pod *pod,
                                      const Container *container);
Resources compile_pod_resources(const PodContext *context, const Pod *pod);
/* Of the group of all burstable pods, given these. */
Resources compile_burstable_resources(const Pod *const *pods, size_t n);
/* By QoS, as upstream's pkg/kubelet/qos. */
int compile_oom_score_adj(const PodContext *context, const Pod *pod, const Container *container);

/* /var/log/pods/<ns>_<name>_<uid>, and a container's file in it; in the arena. */
char *compile_log_dir(const PodContext *context, const Pod *pod, Arena *arena);
char *compile_log_path(const PodContext *context, const Pod *pod, const char *container,
                       unsigned int attempt, Arena *arena);

/* Where log collectors look; in the arena. */
char *compile_log_link(const PodContext *context, const Pod *pod, const char *container,
                       const char *id, Arena *arena);

/* Host path of the file behind the termination message of one run; in the arena. */
char *compile_termination_path(const PodContext *context, const Pod *pod, const char *container,
                               const char *id, Arena *arena);

#endif
