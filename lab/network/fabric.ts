// SPDX-License-Identifier: Apache-2.0
// The lab's network between nodes: a bridge in the fabric's namespace, one namespace per node with an eth0
// on that bridge, routes to every node's pods, and masquerading of pods towards addresses outside the cluster.

import type { LabLayout } from '../machine/layout.ts'
import { netnsPath, nodeLayout } from '../machine/layout.ts'
import {
  clusterCidrs,
  FABRIC_CIDR4,
  FABRIC_CIDR6,
  FABRIC_GATEWAY4,
  FABRIC_GATEWAY6,
  type NodePlan,
  OUTSIDE_IP4,
  OUTSIDE_IP6,
  SERVICE_CIDR4,
  SERVICE_CIDR6,
} from './addressing.ts'
import { command, ipBatch } from '../machine/command.ts'
import { NFT_FROM_STDIN } from './nft.ts'

/** The bridge's name inside the fabric's namespace; `ambit lab capture fabric` listens on it. */
export const FABRIC_BRIDGE = 'fabric0'
/** A node's link to the fabric. */
export const NODE_UPLINK = 'eth0'

/** Makes the fabric's namespace, its bridge, and the namespaces of all nodes with their uplinks and routes. */
export async function createFabric(lab: LabLayout, nodes: readonly NodePlan[]): Promise<void> {
  const namespaces = [lab.fabricNetns, ...nodes.map((node) => nodeLayout(lab, node.name).netns)]
  await ipBatch(namespaces.map((netns) => `netns add ${netns}`))
  await ipBatch(fabricLines(lab, nodes), lab.fabricNetns)
  await Promise.all(nodes.map((node) => configureNode(lab, node, nodes)))
}

function fabricLines(lab: LabLayout, nodes: readonly NodePlan[]): readonly string[] {
  return [
    'link set lo up',
    // Without multicast snooping: there is no querier here, and snooping would drop neighbour discovery.
    `link add ${FABRIC_BRIDGE} type bridge mcast_snooping 0`,
    // Addresses of our own making, without duplicate detection, work at once.
    `link set ${FABRIC_BRIDGE} addrgenmode none`,
    `addr add ${FABRIC_GATEWAY4}/24 dev ${FABRIC_BRIDGE}`,
    `addr add ${FABRIC_GATEWAY6}/64 dev ${FABRIC_BRIDGE} nodad`,
    // Neighbour discovery for forwarded packets asks from a link-local address.
    `addr add fe80::2/64 dev ${FABRIC_BRIDGE} nodad`,
    `addr add ${OUTSIDE_IP4}/32 dev ${FABRIC_BRIDGE}`,
    `addr add ${OUTSIDE_IP6}/128 dev ${FABRIC_BRIDGE} nodad`,
    `link set ${FABRIC_BRIDGE} up`,
    ...nodes.flatMap((node) => [
      `link add ${node.name} type veth peer name ${NODE_UPLINK} netns ${nodeLayout(lab, node.name).netns}`,
      `link set ${node.name} addrgenmode none`,
      `link set ${node.name} master ${FABRIC_BRIDGE} up`,
      `route add ${node.podCidr4} via ${node.ip4}`,
      `route add ${node.podCidr6} via ${node.ip6}`,
    ]),
  ]
}

async function configureNode(
  lab: LabLayout,
  node: NodePlan,
  nodes: readonly NodePlan[],
): Promise<void> {
  const { netns } = nodeLayout(lab, node.name)
  await ipBatch(
    [
      'link set lo up',
      `link set ${NODE_UPLINK} addrgenmode none`,
      `addr add ${node.ip4}/24 dev ${NODE_UPLINK}`,
      `addr add ${node.ip6}/64 dev ${NODE_UPLINK} nodad`,
      `addr add fe80::a${node.index.toString(16)}/64 dev ${NODE_UPLINK} nodad`,
      `link set ${NODE_UPLINK} up`,
      `route add default via ${FABRIC_GATEWAY4}`,
      `route add ::/0 via ${FABRIC_GATEWAY6}`,
      ...nodes
        .filter((other) => other.index !== node.index)
        .flatMap((other) => [
          `route add ${other.podCidr4} via ${other.ip4}`,
          `route add ${other.podCidr6} via ${other.ip6}`,
        ]),
    ],
    netns,
  )
  await command(['nsenter', `--net=${netnsPath(netns)}`, 'sh', '-euc', NODE_SCRIPT], {
    input: masqueradeRules(node),
  })
}

/** A node forwards for its pods; reverse path filtering would drop what comes back by another link. */
const NODE_SCRIPT = [
  'cd /proc/sys/net',
  'echo 1 > ipv4/ip_forward',
  'echo 1 > ipv6/conf/all/forwarding',
  'echo 0 > ipv4/conf/all/rp_filter',
  'echo 0 > ipv4/conf/default/rp_filter',
  NFT_FROM_STDIN,
].join('\n')

function masqueradeRules(node: NodePlan): string {
  const cluster = clusterCidrs(node.podNet)
  return `table inet ambit-lab-masquerade {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${node.podCidr4} ip daddr != { ${cluster.ip4}, ${FABRIC_CIDR4}, ${SERVICE_CIDR4} } masquerade
    ip6 saddr ${node.podCidr6} ip6 daddr != { ${cluster.ip6}, ${FABRIC_CIDR6}, ${SERVICE_CIDR6} } masquerade
  }
}
`
}
