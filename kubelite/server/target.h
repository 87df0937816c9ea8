/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_SERVER_TARGET_H
#define KUBELITE_SERVER_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A request target, "/containerLogs/ns/pod/c?follow=true", cut into decoded segments and query
 * parameters. Slashes separate before anything is decoded, so "%2f" is part of a segment and never
 * a separator. Refused: bad escapes, NUL, empty segments but a last one, "." and "..".
 */
#define TARGET_SEGMENTS_MAX 64
#define TARGET_PARAMETERS_MAX 256 /* ?command=a&command=b… */

typedef struct TargetParameter {
        const char *name, *value;
} TargetParameter;

typedef struct Target {
        char *text; /* what the strings lie in */
        char *segments[TARGET_SEGMENTS_MAX];
        size_t n_segments;
        bool ends_in_slash;
        TargetParameter *parameters;
        size_t n_parameters;
} Target;

/* 0, -EINVAL, -E2BIG or -ENOMEM. */
int target_parse(const char *text, Target *ret);
void target_deinit(Target *target);

/* The first of that name, NULL if there is none. */
const char *target_get(const Target *target, const char *name);
/* As upstream reads booleans: absent is false, "false" and "0" are, anything else is true. */
bool target_bool(const Target *target, const char *name);
/* *ret stays when absent; -EINVAL when it is no number. */
int target_int(const Target *target, const char *name, int64_t *ret);

#endif
