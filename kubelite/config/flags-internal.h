/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CONFIG_FLAGS_INTERNAL_H
#define KUBELITE_CONFIG_FLAGS_INTERNAL_H

#include "config/flags.h"

#include <stddef.h>

typedef enum FlagKind {
        FLAG_STR,      /* char * of Flags; empty is as if not given */
        FLAG_LIST,     /* char ** of Flags, separated by commas; given again, it adds */
        FLAG_ONE_LIST, /* given again, it replaces */
        FLAG_PAIRS,    /* ConfigPair * of Flags */
        FLAG_BOOL,     /* bool of Flags */
        FLAG_CONFIG,   /* a field of the KubeletConfiguration */
        FLAG_UNUSED,   /* upstream's, with a value */
        FLAG_UNUSED_BOOL,
} FlagKind;

typedef struct FlagSpec {
        const char *name;
        FlagKind kind;
        size_t offset;        /* into Flags */
        const char *path;     /* of the configuration */
        const char *fallback; /* for FLAG_STR */
        const char *help;
} FlagSpec;

extern const FlagSpec flag_specs[];
extern const size_t flag_specs_len;

#endif
