/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CONFIG_KUBELET_CONFIG_INTERNAL_H
#define KUBELITE_CONFIG_KUBELET_CONFIG_INTERNAL_H

#include "config/kubelet-config.h"

#include "codec/value.h"

#include <stddef.h>

#define KUBELET_CONFIG_API_VERSION "kubelet.config.k8s.io/v1beta1"
#define KUBELET_CONFIG_KIND "KubeletConfiguration"
#define KUBELET_CONFIG_SIZE_MAX (1U << 20) /* of one file */
#define KUBELET_CONFIG_LIST_MAX 1024       /* elements of a list or map */
#define KUBELET_CONFIG_DROPINS_MAX 256

typedef enum ConfigKind {
        CONFIG_STR,
        CONFIG_BOOL,
        CONFIG_INT,
        CONFIG_DURATION, /* "1m0s"; microseconds */
        CONFIG_STRV,
        CONFIG_PAIRS, /* map of strings (numbers are taken as text) */
        CONFIG_GATES, /* map of booleans */
        CONFIG_TAINTS,
        CONFIG_JSON, /* carried as text */
} ConfigKind;

/* Not given or zero means the default; pointers upstream, where only "not given" does. */
enum { CONFIG_POINTER = 1 };

/* Known, checked and shown, but nobody's business yet: the value lives in ConfigState. */
#define CONFIG_NOWHERE ((size_t)-1)

typedef struct ConfigField {
        const char *path;
        ConfigKind kind;
        size_t offset;
        unsigned int flags;
        const char *fallback; /* as a flag's text (JSON text for CONFIG_JSON), or NULL */
        int64_t min, max;     /* of integers and durations, when max > min */
        const char *choices;  /* "a|b|c", or NULL */
} ConfigField;

/* In the order in which the document is shown; members of one object stand together. */
extern const ConfigField config_fields[];
extern const size_t config_fields_len;

typedef union ConfigSlot {
        char *text;
        bool on;
        int64_t number;
        char **list;
        ConfigPair *pairs;
        ConfigTaint *taints;
} ConfigSlot;

typedef struct ConfigState {
        bool *given;
        ConfigSlot *slots;
} ConfigState;

/* Where a field's value is; cast by kind. */
void *config_slot(const KubeletConfig *config, size_t i);
/* Index into config_fields, or -1. */
int config_field_find(const char *path);
bool config_field_is_zero(const KubeletConfig *config, size_t i);

/* Reads a value of the document, or the text of a flag, into the field's slot. */
int config_decode(KubeletConfig *config, size_t i, const Field *from, KlError **err);
int config_decode_text(KubeletConfig *config, size_t i, const char *text, KlError **err);

bool config_gate_known(const char *name);

int config_warn(KubeletConfig *config, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

/* Go's time.Duration.String(): "1m0s", "100ms". */
#define CONFIG_DURATION_SIZE 48
void config_format_duration(int64_t us, char ret[static CONFIG_DURATION_SIZE]);

#endif
