/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_API_POD_INTERNAL_H
#define KUBELITE_API_POD_INTERNAL_H

#include "api/pod.h"

/* Decoders of the parts of a pod; all fill what they are given in place. */

typedef struct Decode {
        Arena *arena;
        KlError **err;
} Decode;

int decode_containers(const Decode *d, const Field *spec, Pod *pod);
int decode_environment(const Decode *d, const Field *container, Container *c);
int decode_volumes(const Decode *d, const Field *spec, Pod *pod);
int decode_placement(const Decode *d, const Field *spec, Pod *pod);
/* The container's ports, kind and the pod's grace period are known by then. */
int decode_probes_and_hooks(const Decode *d, const Field *container, const Pod *pod, Container *c);

int decode_key_values(const Decode *d, const Field *object, const char *key, KeyValues *ret);
int decode_quantities(const Decode *d, const Field *object, const char *key, KeyValues *ret);
/* restartPolicy of a pod or container; Always where it is absent. */
int decode_restart_policy(const Decode *d, const Field *owner, RestartPolicy *ret);
int decode_seccomp(const Decode *d, const Field *security, SeccompProfile *ret);
int decode_apparmor(const Decode *d, const Field *security, AppArmorProfile *ret);
int decode_selinux(const Decode *d, const Field *security, bool *ret_given);
/* Security settings that are none or do not go together. */
int pod_check_security(const Field *spec, const Pod *pod, KlError **err);
int decode_field_ref(const Decode *d, const Field *owner, FieldSelector *ret, bool *ret_found);
/* What is well-formed and still makes no sense (pod-check.c): names, addresses, enumerations, host
 * ports, and fields that exclude each other, as upstream's validation. */
int pod_check_spec(const Field *spec, const Pod *pod, KlError **err);
/* -1 stays where the member is absent. */
int decode_tristate(const Decode *d, const Field *object, const char *key, int *ret);
/* A member that must be there and not empty. */
int decode_name(const Decode *d, const Field *object, const char *key, char **ret);

#endif
