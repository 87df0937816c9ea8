/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_SYSCTL_NAMES_H
#define KUBELITE_CODEC_SYSCTL_NAMES_H

#include <stdbool.h>

/*
 * Names of sysctls. A name whose first separator is a slash has its dots and slashes the other way
 * round ("net/ipv4/conf/eno2.100/rp_filter"), as sysctl(8) takes both; dotted is what is compared.
 */
#define SYSCTL_NAME_MAX 253

/* Upstream's syntax of names; no "..", nothing that a path or a shell would see more in. */
bool sysctl_name_is_valid(const char *name);
/* The same, and the last part may end in '*'. */
bool sysctl_pattern_is_valid(const char *pattern);

/* In place; a dotted name stays. */
void sysctl_name_to_dots(char *name);
/* In place, of a dotted name: its path beneath /proc/sys. */
void sysctl_name_to_path(char *dotted);

/* "ipc" or "net": by which of a pod's namespaces the kernel keeps it apart. NULL: by none known. */
const char *sysctl_namespace(const char *dotted);

#endif
