/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the agent was taken off the cluster and left this plugin behind. The kubelet keeps a directory of logs for
 * each pod of its node, <namespace>_<name>_<uid>, from before the pod's sandbox is made until the pod is deleted: an
 * agent that crashes, hangs, cannot pull its image or is being replaced has one. One that was deleted has none.
 */
#ifndef AMBIT_CNI_ORPHAN_H
#define AMBIT_CNI_ORPHAN_H

#include <stdbool.h>

/*
 * True when the directory is surely the one of this node's kubelet, as it holds the given pod's own logs, and holds
 * none of a pod whose directory begins with agent_prefix.
 */
bool agent_has_no_pod(const char *directory, const char *agent_prefix, const char *pod_namespace,
		      const char *pod_name);

#endif
