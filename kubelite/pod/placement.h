/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_POD_PLACEMENT_H
#define KUBELITE_POD_PLACEMENT_H

#include "pod/context.h"

/* Whether a pod may be on this node, by what its spec says of nodes. Pure. */

/* nodeSelector and required node affinity (k8s.io/component-helpers nodeaffinity). */
bool pod_selects_node(const PodContext *context, const Pod *pod);

bool pod_tolerates(const Pod *pod, const NodeTaint *taint);
/* True if a NoExecute taint of the node is not tolerated: the only effect that a kubelet acts on.
 */
bool pod_is_tainted_off(const PodContext *context, const Pod *pod);

/* Both want the same port of the node. */
bool pods_share_port(const Pod *a, const Pod *b);

/* Static, or of a system priority (pkg/kubelet/types IsCriticalPod): admitted under pressure, never
 * evicted, and others make room for it. */
bool pod_is_critical(const Pod *pod);

#endif
