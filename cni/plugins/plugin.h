/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_PLUGINS_PLUGIN_H
#define KUBELITE_CNI_PLUGINS_PLUGIN_H

#include "base/buf.h"
#include "codec/value.h"

/*
 * What every CNI plugin does before and after its work: environment and configuration in, checked;
 * result or error object out. CNI specification 0.3.0 to 1.1.0.
 */

#define PLUGIN_CONFIG_MAX (1024 * 1024)
#define PLUGIN_NETWORK_NAME_MAX 90
#define PLUGIN_CONTAINER_ID_MAX 128
#define PLUGIN_ATTACHMENTS_MAX 65536
/* "<network>/<container>/<interface>" and its terminator. */
#define PLUGIN_OWNER_SIZE (PLUGIN_NETWORK_NAME_MAX + 1 + PLUGIN_CONTAINER_ID_MAX + 1 + 16)

typedef enum PluginVersion {
        PLUGIN_0_3_0,
        PLUGIN_0_3_1,
        PLUGIN_0_4_0,
        PLUGIN_1_0_0,
        PLUGIN_1_1_0,
} PluginVersion;

const char *plugin_version_text(PluginVersion version);

/* Error codes of the specification; from 100 on they are a plugin's own. */
typedef enum PluginCode {
        PLUGIN_VERSION_UNSUPPORTED = 1,
        PLUGIN_CONTAINER_UNKNOWN = 3,
        PLUGIN_ENVIRONMENT = 4,
        PLUGIN_IO = 5,
        PLUGIN_DECODE = 6,
        PLUGIN_CONFIG = 7,
        PLUGIN_NETNS = 8,
        PLUGIN_TRY_AGAIN = 11,
        PLUGIN_UNAVAILABLE = 50,
        PLUGIN_FAILED = 100,
} PluginCode;

/* As kl_error, for the code that the runtime gets to see. Returns a negative errno. */
int plugin_error(KlError **err, PluginCode code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* PLUGIN_FAILED for errors that were not made by plugin_error. */
PluginCode plugin_error_code(const KlError *err);
/* The nearest of the codes above for what another plugin reported. */
PluginCode plugin_code_from(int64_t code);

/* One invocation. Strings are "" where the runtime gave none. */
typedef struct PluginCall {
        const char *container_id, *netns, *ifname, *args, *path;
        const char *network;
        PluginVersion version;
        const Value *config;
        const char *config_text;
        size_t config_len;
        Arena *arena;
} PluginCall;

typedef int (*PluginVerb)(const PluginCall *call, KlError **err);

typedef struct PluginOps {
        /* Appends the result object. */
        int (*add)(const PluginCall *call, Buf *result, KlError **err);
        PluginVerb check, del, status, gc;
} PluginOps;

/* The whole program; returns the exit status. */
int plugin_main(const PluginOps *ops);

/* --- checks --- */

/* Container ids and network names: a letter or digit, then those, '_', '.' and '-'. */
bool plugin_name_valid(const char *name, size_t max);
bool plugin_ifname_valid(const char *name);

/* PLUGIN_CONFIG, naming the key, for members that are not in `known` (NULL-terminated). Members of
 * the configuration that every plugin accepts are allowed too when path is "". */
int plugin_check_keys(const Value *object, const char *path, const char *const *known,
                      KlError **err);
/* PLUGIN_CONFIG for a value that is understood and not implemented. */
int plugin_refuse(const char *key, const char *why, KlError **err);

/* Turns the -EINVAL of field_* functions into PLUGIN_CONFIG. */
int plugin_config_error(int r, KlError **err);

/* --- what configurations share --- */

/* The value of a key in CNI_ARGS ("IP=10.0.0.2;IgnoreUnknown=1"), in the arena; NULL if absent. */
int plugin_arg(const PluginCall *call, const char *key, const char **ret, KlError **err);
/* PLUGIN_ENVIRONMENT for keys other than known ones and IgnoreUnknown, unless that is set. */
int plugin_check_args(const PluginCall *call, const char *const *known, KlError **err);

/* "<network>/<container>/<interface>": the name under which a plugin keeps what it made. */
void plugin_owner(const PluginCall *call, char to[static PLUGIN_OWNER_SIZE]);

typedef struct PluginAttachment {
        const char *container_id, *ifname;
} PluginAttachment;

/* GC's cni.dev/valid-attachments, in the arena. */
int plugin_valid_attachments(const PluginCall *call, PluginAttachment **ret, size_t *ret_n,
                             KlError **err);
/* Whether an owner of this network is not among the attachments; false for other networks. */
bool plugin_owner_is_stale(const PluginCall *call, const PluginAttachment *attachments, size_t n,
                           const char *owner);

#endif
