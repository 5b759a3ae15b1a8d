// SPDX-License-Identifier: Apache-2.0
// What the lab's kubelet will not run, with the explanation that the user reads in the pod's status.

import type { Pod } from '../../mesh/kube/resources.ts'
import { IP_FAMILIES_ANNOTATION, parseIpFamilies } from './lab-net-plugin.ts'

/** The only image there is: the host's own file system, under a private writable layer. */
const HOST_IMAGE = 'host'

/** Why this pod cannot be run, if it cannot. */
export function refusal(
  pod: Pod,
): { readonly reason: string; readonly message: string } | undefined {
  const annotation = pod.metadata?.annotations?.[IP_FAMILIES_ANNOTATION]
  if (parseIpFamilies(annotation) === undefined) {
    return {
      reason: 'CreateContainerConfigError',
      message: `annotation ${IP_FAMILIES_ANNOTATION} must be "IPv4", "IPv6" or "IPv4,IPv6", not "${annotation ?? ''}"`,
    }
  }
  for (const container of [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])]) {
    if (container.image !== HOST_IMAGE) {
      return {
        reason: 'ErrImageNeverPull',
        message: `container "${container.name}": the lab has no image "${container.image ?? ''}": it has no container runtime and no registry; use image "${HOST_IMAGE}" (this machine's own file system) and give a command`,
      }
    }
    if ((container.command ?? []).length === 0 && (container.args ?? []).length === 0) {
      return {
        reason: 'CreateContainerConfigError',
        message: `container "${container.name}": image "${HOST_IMAGE}" has no command of its own; give one in spec.containers[].command`,
      }
    }
  }
  return undefined
}
