/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CONFIG_FLAGS_H
#define KUBELITE_CONFIG_FLAGS_H

#include "config/kubelet-config.h"

#include <stdio.h>

/*
 * The daemon's command line: kubelet's flags and our own. One table says for each flag whether it
 * is a path or name of the daemon's own (a member below), a field of the KubeletConfiguration
 * (applied over the file), or one of upstream's that means nothing here (a warning).
 *
 * What was not given, has no default, or was given empty is NULL.
 */
typedef struct Flags {
        char *config, *config_dir;
        char *kubeconfig, *bootstrap_kubeconfig, *cert_dir;
        char *root_dir, *state_dir, *image_dir;
        char *cni_conf_dir;
        char **cni_bin_dirs; /* NULL: ours, then /opt/cni/bin and /usr/lib/cni */
        char *registries;
        char **runtime_handlers; /* "name=/path", or NULL */
        char *image_credential_provider_config, *image_credential_provider_bin_dir;
        char *hostname_override;
        char **node_ips;         /* at most two, of different families; NULL: found out */
        ConfigPair *node_labels; /* checked as upstream does */
        char *cloud_provider;    /* NULL or "external" */
        char *lock_file;
        bool exit_on_lock_contention;
        bool help, version; /* asked for: print and end */

        ConfigPair *overrides; /* KubeletConfiguration path and text, in their order */
        char **warnings;       /* for whoever parses to log */
        Arena *arena;
} Flags;

/* argv[0] is the program. -EINVAL for an unknown flag (with the nearest known one), a missing or
 * wrong value, or an argument that is no flag. */
int flags_parse(int argc, char *const *argv, Flags **ret, KlError **err);
Flags *flags_free(Flags *flags);
KL_DEFINE_CLEANUP(Flags *, flags_free);

void flags_print_help(FILE *to);

/* "v1.36.0", from a version file (one line, with or without the v), the default where there is
 * none. */
#define KUBERNETES_VERSION_FILE "/etc/kubelite/version"
#define KUBERNETES_VERSION_DEFAULT "v1.36.0"
#define KUBERNETES_VERSION_SIZE 64
void kubernetes_version(const char *file, char ret[static KUBERNETES_VERSION_SIZE]);

/* The configuration file, its drop-ins, the flags over them, defaults, checks. */
int daemon_config_load(const Flags *flags, KubeletConfig **ret, KlError **err);

/* hostname_override, or the machine's name; lower case, checked. */
int flags_node_name(const Flags *flags, char **ret, KlError **err);

#endif
