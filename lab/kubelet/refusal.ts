// SPDX-License-Identifier: Apache-2.0
// What the lab's kubelet will not run, with the explanation that the user reads in the pod's status.

import type { Pod } from '../../mesh/kube/resources.ts'
import { findImage, HOST_IMAGE } from './images.ts'
import { IP_FAMILIES_ANNOTATION, parseIpFamilies } from './lab-net-plugin.ts'

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
    const image = findImage(container.image)
    if (image === undefined) {
      return {
        reason: 'ErrImageNeverPull',
        message: `container "${container.name}": the lab has no image "${container.image ?? ''}": it has no container runtime and no registry; use image "${HOST_IMAGE}" (this machine's own file system) and give a command`,
      }
    }
    const words = [...image.entrypoint, ...(container.command ?? []), ...(container.args ?? [])]
    if (words.length === 0) {
      return {
        reason: 'CreateContainerConfigError',
        message: `container "${container.name}": image "${container.image ?? ''}" has no command of its own; give one in spec.containers[].command`,
      }
    }
  }
  return undefined
}
