/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_CNI_CONFIG_H
#define KUBELITE_CNI_CNI_CONFIG_H

#include "codec/value.h"

#include <stdbool.h>
#include <stddef.h>

/* One file of the configuration directory; how many of them are looked at. */
#define CNI_CONF_MAX (1024 * 1024)
#define CNI_FILES_MAX 1024
#define CNI_PLUGINS_MAX 32

/* Versions of the specification, oldest first; an index into cni_versions. */
typedef enum CniVersion {
        CNI_0_1_0,
        CNI_0_2_0,
        CNI_0_3_0,
        CNI_0_3_1,
        CNI_0_4_0,
        CNI_1_0_0,
        CNI_1_1_0,
        CNI_VERSIONS,
} CniVersion;

extern const char *const cni_versions[CNI_VERSIONS];

/* -EINVAL when it is none that we speak. */
int cni_version_parse(const char *text, CniVersion *ret);
/* The highest one in a set of bits (1 << version), which must not be empty. */
CniVersion cni_version_highest(unsigned int set);

/*
 * A network: a configuration list, or a single plugin's configuration turned into a list of one.
 * Immutable.
 */
typedef struct CniConfig {
        Value *list;
        char *text;            /* the list as JSON */
        const char *name;      /* in list */
        unsigned int versions; /* bits; more than one only where "cniVersions" leaves a choice */
        bool disable_check, disable_gc;
        size_t n_plugins;
} CniConfig;

CniConfig *cni_config_free(CniConfig *config);
KL_DEFINE_CLEANUP(CniConfig *, cni_config_free);

/* dir: where plugins of the subdirectory <name> are looked for, or NULL. -EINVAL says why it is no
 * usable configuration. */
int cni_config_parse(const char *json, size_t len, bool is_list, const char *dir, CniConfig **ret,
                     KlError **err);

/*
 * The first usable file of a directory by name order: *.conflist, *.conf, *.json. >0 (1) when there
 * is none. Unusable ones that stand before it are logged.
 */
int cni_config_load(const char *dir, CniConfig **ret, KlError **err);

/* Borrowed. */
const Value *cni_config_plugin(const CniConfig *config, size_t i);

/* Sandbox ids and interface names that are safe in environments and file names. */
bool cni_id_is_valid(const char *id);
bool cni_ifname_is_valid(const char *ifname);

#endif
