/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_ENVIRONMENT_H
#define KUBELITE_POD_ENVIRONMENT_H

#include "api/objects.h"
#include "api/pod-fields.h"

/*
 * A container's environment and its command line, with $(VAR) expanded.
 */

/* Finds a config map or secret that the pod references; never NULL for one that does. */
typedef const ObjectRef *(*ObjectLookup)(ObjectKind kind, const char *name, void *data);

typedef struct EnvInput {
        const Pod *pod;
        const Container *container;
        const PodFacts *facts;
        char *const *service_env; /* KEY=value of the cluster's services; the pod's own win */
        ObjectLookup lookup;
        void *lookup_data;
        /* The text of a file in a volume of the pod; NULL: there is none. 1: not read yet. */
        int (*file)(const char *volume, const char *path, const char **ret_text, void *data,
                    KlError **err);
} EnvInput;

/*
 * KEY=value strings in their order. 1: a config map, secret or file has not been read yet, ask
 * again when it was. -EINVAL with reason CreateContainerConfigError and upstream's text (`configmap
 * "x" not found`, `couldn't find key k in Secret ns/x`).
 */
int environment_build(const EnvInput *in, char ***ret, KlError **err);

/* What a container gets: HOSTNAME and the image's variables, overridden by `env`. References in the
 * pod see none of the former. To be freed; NULL: out of memory. */
char **environment_complete(const char *hostname, char *const *image_env, char *const *env);

/* $(VAR) replaced from env, $$ by $, unknown references left as they are (KEP-less:
 * third_party/forked expansion). To be freed. */
char *environment_expand(const char *text, char *const *env);
char **environment_expand_all(char *const *texts, char *const *env);

/* As environment_expand, for subPathExpr: an unknown reference is an error. */
int environment_expand_strict(const char *text, char *const *env, char **ret, KlError **err);

#endif
