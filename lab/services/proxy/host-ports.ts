// SPDX-License-Identifier: Apache-2.0
// The ports of nodes that pods have asked for (hostPort), kept current from a watch. On a real node the CNI's portmap
// plugin does this.

import type { ClusterApi } from '../../kubernetes/objects/cluster-api.ts'
import type { StoredObject } from '../../kubernetes/objects/stored-object.ts'
import { fieldsOf, ipOf, listOf, portNumberOf, textOf } from '../kube-view.ts'

export interface HostPort {
  readonly node: string
  readonly protocol: string
  readonly hostPort: number
  /** Only on this address of the node; on all when undefined. */
  readonly hostIp: string | undefined
  /** The pod's, one of each family. */
  readonly addresses: readonly string[]
  readonly port: number
}

/** Unset, or every address of a family. */
const ANY_ADDRESS = new Set([undefined, '0.0.0.0', '::'])

/** The ports of its node that a pod has; none before it has an address, and none once it has ended. */
function hostPortsOf({ spec, status }: StoredObject): readonly HostPort[] {
  const { nodeName, hostNetwork, containers, initContainers } = fieldsOf(spec)
  const { podIP, podIPs, phase } = fieldsOf(status)
  const node = textOf(nodeName)
  // A pod of the node's own network has its ports there already.
  if (node === undefined || hostNetwork === true || phase === 'Succeeded' || phase === 'Failed')
    return []
  const addresses = new Set(
    [podIP, ...listOf(podIPs).map((each) => fieldsOf(each)['ip'])].flatMap((ip) => ipOf(ip) ?? []),
  )
  if (addresses.size === 0) return []
  return [...listOf(containers), ...listOf(initContainers)].flatMap((container) =>
    listOf(fieldsOf(container)['ports']).flatMap((item) => {
      const { hostPort, containerPort, hostIP, protocol } = fieldsOf(item)
      const [from, to] = [portNumberOf(hostPort), portNumberOf(containerPort)]
      if (from === undefined || to === undefined) return []
      const hostIp = ipOf(hostIP)
      return [
        {
          node,
          protocol: textOf(protocol) ?? 'TCP',
          hostPort: from,
          hostIp: ANY_ADDRESS.has(hostIp) ? undefined : hostIp,
          addresses: [...addresses],
          port: to,
        },
      ]
    }),
  )
}

/** The host ports of all pods of a cluster. */
export class HostPortIndex {
  readonly #byPod = new Map<string, readonly HostPort[]>()
  readonly stop: () => void

  /** Calls `onChange` after each change of a pod that has or had some, the first ones before this returns. */
  constructor(api: Pick<ClusterApi, 'watch'>, onChange: () => void) {
    this.stop = api.watch('pods', {}, ({ type, object }) => {
      const { uid } = object.metadata
      const ports = type === 'DELETED' ? [] : hostPortsOf(object)
      if (ports.length === 0 && !this.#byPod.has(uid)) return
      if (ports.length === 0) this.#byPod.delete(uid)
      else this.#byPod.set(uid, ports)
      onChange()
    })
  }

  of(node: string): readonly HostPort[] {
    return [...this.#byPod.values()].flat().filter((port) => port.node === node)
  }
}
