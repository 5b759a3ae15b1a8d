// SPDX-License-Identifier: Apache-2.0
// The addresses of a cluster, of one family or of both. The first of a list is what others call the node or the Service by.

import { OUTSIDE_IP4, OUTSIDE_IP6 } from '../network/addressing.ts'

export const FAMILIES = ['ipv4', 'ipv6', 'dual'] as const
export type Families = (typeof FAMILIES)[number]

export interface AddressPlan {
  /** Of the bridge that nodes hang on. */
  readonly gateways: readonly string[]
  /** Beside them: somebody who is no node and no pod. */
  readonly outside: readonly string[]
  /** Bits of an address that all nodes share, as those of `gateways`. */
  readonly prefixes: readonly number[]
  /** The n-th node's own. */
  nodes(index: number): readonly string[]
  /** The ranges of the n-th node's pods. */
  pods(index: number): readonly string[]
  /** Those of all pods. */
  readonly allPods: readonly string[]
  readonly services: readonly string[]
  /** The first address of `services`. */
  readonly apiService: string
  readonly dnsService: string
}

const FIRST_NODE_HOST = 11

const IPV4: AddressPlan = {
  gateways: ['172.31.77.1'],
  outside: [`${OUTSIDE_IP4}/32`],
  prefixes: [24],
  nodes: (index) => [`172.31.77.${FIRST_NODE_HOST + index}`],
  pods: (index) => [`10.244.${index + 1}.0/24`],
  allPods: ['10.244.0.0/16'],
  services: ['10.212.0.0/16'],
  apiService: '10.212.0.1',
  dnsService: '10.212.0.10',
}

const IPV6: AddressPlan = {
  gateways: ['fd98:31::1'],
  outside: [`${OUTSIDE_IP6}/128`],
  prefixes: [64],
  nodes: (index) => [`fd98:31::${FIRST_NODE_HOST + index}`],
  pods: (index) => [`fd98:244:0:${index + 1}::/64`],
  allPods: ['fd98:244::/48'],
  services: ['fd98:212::/112'],
  apiService: 'fd98:212::1',
  dnsService: 'fd98:212::a',
}

/** Both, IPv4 first, as clusters of two families mostly are. */
const DUAL: AddressPlan = {
  gateways: [...IPV4.gateways, ...IPV6.gateways],
  outside: [...IPV4.outside, ...IPV6.outside],
  prefixes: [...IPV4.prefixes, ...IPV6.prefixes],
  nodes: (index) => [...IPV4.nodes(index), ...IPV6.nodes(index)],
  pods: (index) => [...IPV4.pods(index), ...IPV6.pods(index)],
  allPods: [...IPV4.allPods, ...IPV6.allPods],
  services: [...IPV4.services, ...IPV6.services],
  apiService: IPV4.apiService,
  dnsService: IPV4.dnsService,
}

const PLANS: Readonly<Record<Families, AddressPlan>> = { ipv4: IPV4, ipv6: IPV6, dual: DUAL }

export const addressPlan = (families: Families): AddressPlan => PLANS[families]

/** What nodes and others call the n-th node by. */
export function nodeIp(plan: AddressPlan, index: number): string {
  const [first] = plan.nodes(index)
  if (first === undefined) throw new RangeError('Cannot plan addresses: a node has none')
  return first
}
