/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_IMAGE_REGISTRIES_INTERNAL_H
#define KUBELITE_IMAGE_REGISTRIES_INTERNAL_H

#include "base/arena.h"
#include "base/buf.h"
#include "image/image.h"

/*
 * Where an image is to be asked for, from registries.yaml (the format of k3s): mirrors in their
 * order, then the registry itself.
 */

#define REGISTRIES_BYTES_MAX (1U << 20)
#define REGISTRIES_PEM_MAX (1U << 20)

typedef struct PlanEndpoint {
        const char *base;       /* with "/v2" */
        const char *repository; /* rewritten */
        const char *host_argument;
        const char *username, *password, *identity_token, *registry_token;
        const char *ca, *cert, *key; /* PEM text */
        bool insecure;
        bool fallback;             /* only where the one before did not answer */
        const char *authorization; /* header value that worked */
} PlanEndpoint;

typedef struct RegistryPlan {
        Arena *arena;
        char *name; /* of the image, for messages */
        PlanEndpoint *endpoints;
        size_t n_endpoints, preferred;
        unsigned int stall_s;
} RegistryPlan;

/* file may be NULL or missing; auth may be NULL. */
int registry_plan_new(const char *file, const ImageRef *ref, const ImageAuth *auth,
                      RegistryPlan **ret, KlError **err);
RegistryPlan *registry_plan_free(RegistryPlan *plan);
KL_DEFINE_CLEANUP(RegistryPlan *, registry_plan_free);

/* The fetcher's first line. It has secrets. */
void registry_plan_encode(const RegistryPlan *plan, Buf *to);

#endif
