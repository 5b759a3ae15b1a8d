// SPDX-License-Identifier: Apache-2.0
// The lab's address plan. Every lab uses the same one: labs are apart by network namespace, not by address.

/** The fabric: what links the nodes, as a data centre's network would. */
export const FABRIC_GATEWAY4 = '172.30.0.2'
export const FABRIC_GATEWAY6 = 'fd98:30::2'
export const FABRIC_CIDR4 = '172.30.0.0/24'
export const FABRIC_CIDR6 = 'fd98:30::/64'
/** Numbers of pod networks: a lab has the first, unless it shares a cluster whose own addresses are in the way. */
export const POD_NETS = [244, 245, 246, 247] as const
export type PodNet = (typeof POD_NETS)[number]
export const SERVICE_CIDR4 = '10.96.0.0/16'
export const SERVICE_CIDR6 = 'fd98:96::/112'
export const KUBERNETES_SERVICE_IP = '10.96.0.1'
export const DNS_SERVICE_IP4 = '10.96.0.10'
export const DNS_SERVICE_IP6 = 'fd98:96::a'
export const API_SERVER_PORT = 6443
/** Stands for a host on the internet: outside of the cluster, reached by masquerading. */
export const OUTSIDE_IP4 = '203.0.113.10'
export const OUTSIDE_IP6 = '2001:db8:113::10'
export const OUTSIDE_NAME = 'outside.test'
/** The next hop that pods see; the node answers for it on each pod's link. */
export const POD_GATEWAY4 = '169.254.1.1'
export const POD_GATEWAY6 = 'fe80::1'

/** Letters name the nodes: node-a, node-b, ...; more than this many would need another scheme. */
export const MAX_NODES = 16

export interface NodePlan {
  readonly name: string
  readonly index: number
  readonly podNet: PodNet
  readonly ip4: string
  readonly ip6: string
  readonly podCidr4: string
  readonly podCidr6: string
}

/** What the addresses of all pods of a lab are in, by family. */
export function clusterCidrs(podNet: PodNet): { readonly ip4: string; readonly ip6: string } {
  return { ip4: `10.${podNet}.0.0/16`, ip6: `fd98:${podNet}::/32` }
}

/** The plan of the node with this index, from 0. */
export function nodePlan(index: number, podNet: PodNet = POD_NETS[0]): NodePlan {
  return {
    name: `node-${String.fromCharCode('a'.charCodeAt(0) + index)}`,
    index,
    podNet,
    ip4: `172.30.0.${10 + index}`,
    ip6: `fd98:30::a${index.toString(16)}`,
    podCidr4: `10.${podNet}.${index}.0/24`,
    podCidr6: `${podPrefix6(index, podNet)}/64`,
  }
}

/** RFC 5952 writes no zero group beside the `::`. */
function podPrefix6(index: number, podNet: PodNet): string {
  return index === 0 ? `fd98:${podNet}::` : `fd98:${podNet}:${index.toString(16)}::`
}

/** Plans for a lab of so many nodes. */
export function nodePlans(count: number, podNet?: PodNet): readonly NodePlan[] {
  return Array.from({ length: count }, (_, index) => nodePlan(index, podNet))
}

export type IpFamily = 'IPv4' | 'IPv6'

/** Hands out a node's pod addresses, each as late as possible after its release: reuse is what confuses caches. */
export class PodAddressPool {
  readonly #plan: NodePlan
  readonly #taken = new Set<number>()
  #next = FIRST_POD_HOST

  constructor(plan: NodePlan) {
    this.#plan = plan
  }

  /** Takes a host number and gives its addresses; undefined when all are taken. */
  take(): { readonly host: number; readonly ip4: string; readonly ip6: string } | undefined {
    const { index, podNet } = this.#plan
    for (let tried = FIRST_POD_HOST; tried <= LAST_POD_HOST; tried += 1) {
      const host = this.#next
      this.#next = host === LAST_POD_HOST ? FIRST_POD_HOST : host + 1
      if (this.#taken.has(host)) continue
      this.#taken.add(host)
      return {
        host,
        ip4: `10.${podNet}.${index}.${host}`,
        ip6: `${podPrefix6(index, podNet)}${host.toString(16)}`,
      }
    }
    return undefined
  }

  release(host: number): void {
    this.#taken.delete(host)
  }
}

/** .0 is the network and .1 customarily the bridge of unrouted plugins; .255 is the broadcast address. */
const FIRST_POD_HOST = 2
const LAST_POD_HOST = 254
