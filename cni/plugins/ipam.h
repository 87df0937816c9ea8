/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_PLUGINS_IPAM_H
#define KUBELITE_CNI_PLUGINS_IPAM_H

#include "cni/plugins/plugin.h"
#include "cni/plugins/result.h"

#define IPAM_OUTPUT_MAX PLUGIN_CONFIG_MAX

/*
 * Delegation to an IPAM plugin found in CNI_PATH, with the caller's configuration and environment.
 * If what is found is the host-local that was installed beside this program, its code is called
 * here: same configuration, same answers, one process less.
 */
int ipam_add(const PluginCall *call, const char *type, Result *ret, KlError **err);
/* command: "DEL", "CHECK", "STATUS" or "GC". */
int ipam_run(const PluginCall *call, const char *type, const char *command, KlError **err);

#endif
