// SPDX-License-Identifier: Apache-2.0
// A pod's network: a namespace and a veth pair, routed point to point as most CNI plugins do (no bridge: the
// pod has one address with a full-length prefix, and the node holds one host route to it). Runs in the
// node's own network namespace.

import { writeFile } from 'node:fs/promises'
import { type IpFamily, POD_GATEWAY4, POD_GATEWAY6, type NodePlan } from './addressing.ts'
import { command, ipBatch } from '../machine/command.ts'

export interface PodLink {
  readonly netns: string
  /** The node's end of the pair. */
  readonly hostInterface: string
  readonly families: readonly IpFamily[]
  readonly ip4: string
  readonly ip6: string
}

/** Makes a pod's network namespace, with only a loopback device in it. */
export async function createPodNetns(netns: string): Promise<void> {
  await command(['ip', 'netns', 'add', netns])
}

/** Removes a pod's network namespace and with it everything in it; no error if it is gone. */
export async function deletePodNetns(netns: string): Promise<void> {
  await ipBatch([`netns del ${netns}`]).catch((error: unknown) => {
    if (error instanceof Error && error.message.includes('No such file')) return
    throw error
  })
}

/** Links a pod's namespace to the node with its addresses and routes. */
export async function attachPodLink(link: PodLink, node: NodePlan): Promise<void> {
  const host = link.hostInterface
  const withIp4 = link.families.includes('IPv4')
  const withIp6 = link.families.includes('IPv6')
  await ipBatch([
    `link add ${host} type veth peer name eth0 netns ${link.netns}`,
    `link set ${host} addrgenmode none`,
  ])
  if (withIp4) await answerForGateway(host)
  await Promise.all([
    ipBatch([
      `link set ${host} up`,
      ...(withIp4 ? [`route add ${link.ip4}/32 dev ${host} src ${node.ip4}`] : []),
      ...(withIp6
        ? [
            `addr add ${POD_GATEWAY6}/64 dev ${host} nodad`,
            `route add ${link.ip6}/128 dev ${host} src ${node.ip6}`,
          ]
        : []),
    ]),
    ipBatch(
      [
        'link set lo up',
        'link set eth0 addrgenmode none',
        'link set eth0 up',
        ...(withIp4
          ? [
              `addr add ${link.ip4}/32 dev eth0`,
              `route add ${POD_GATEWAY4} dev eth0 scope link`,
              `route add default via ${POD_GATEWAY4} dev eth0`,
            ]
          : []),
        ...(withIp6
          ? [
              'addr add fe80::2/64 dev eth0 nodad',
              `addr add ${link.ip6}/128 dev eth0 nodad`,
              `route add ::/0 via ${POD_GATEWAY6} dev eth0`,
            ]
          : []),
      ],
      link.netns,
    ),
  ])
}

/** Takes a pod's link away; its routes go with it. No error if it is gone. */
export async function detachPodLink(hostInterface: string): Promise<void> {
  await ipBatch([`link del ${hostInterface}`]).catch((error: unknown) => {
    if (error instanceof Error && /Cannot find device/.test(error.message)) return
    throw error
  })
}

/** The node answers ARP for the pod's gateway, at once: by default the kernel delays such answers at random. */
async function answerForGateway(hostInterface: string): Promise<void> {
  await writeFile(`/proc/sys/net/ipv4/neigh/${hostInterface}/proxy_delay`, '0')
  await writeFile(`/proc/sys/net/ipv4/conf/${hostInterface}/proxy_arp`, '1')
}

/** The hardware address of an interface of the current namespace. */
export async function hardwareAddress(name: string): Promise<string> {
  const links: unknown = JSON.parse(await command(['ip', '-json', 'link', 'show', 'dev', name]))
  const first: unknown = Array.isArray(links) ? links[0] : undefined
  const address =
    typeof first === 'object' && first !== null && 'address' in first ? first.address : undefined
  return typeof address === 'string' ? address : ''
}
