// SPDX-License-Identifier: Apache-2.0
// The network of a cluster: a bridge in a namespace of its own, on which every node hangs by its eth0. Nothing of it is seen from the
// machine's own network.

import { spawn } from 'node:child_process'
import { command } from '../machine/command.ts'
import type { AddressPlan } from './addresses.ts'
import { type Network, NODES } from './layout.ts'
import { inNetworkOf } from './node-command.ts'
import { pidOf, recordProcess } from './state.ts'

const FABRIC = 'fabric'
type Place = Parameters<typeof inNetworkOf>[0]

/** Makes the bridge; a process that does nothing keeps its namespace. */
export async function makeFabric(plan: AddressPlan): Promise<void> {
  const child = spawn('unshare', ['--net', 'sleep', 'infinity'], {
    detached: true,
    stdio: 'ignore',
  })
  child.unref()
  recordProcess(FABRIC, child.pid ?? 0)
  await untilUnshared(pidOf(FABRIC))
  await ip(FABRIC, [
    'link set lo up',
    'link add br0 type bridge',
    ...withPrefixes(plan.gateways, plan).map((gateway) => addAddress(gateway, 'br0')),
    ...plan.outside.map((outside) => addAddress(outside, 'br0')),
    'link set br0 up',
    ...NODES.flatMap((_, index) => waysToPods(plan, index)),
  ])
}

/** Gives a node its eth0 and, where no CNI does, the ways to the pods of the others. */
export async function connectNode(
  plan: AddressPlan,
  index: number,
  network: Network,
): Promise<void> {
  const name = NODES[index]
  if (name === undefined) throw new RangeError(`Cannot connect node ${index}: there is none`)
  const pid = pidOf(name)
  await ip(FABRIC, [
    `link add ${name} type veth peer name eth0 netns ${pid}`,
    `link set ${name} master br0 up`,
  ])
  const others = network === 'bridge' ? [...NODES.keys()].filter((other) => other !== index) : []
  await ip(name, [
    'link set lo up',
    'link set eth0 up',
    ...withPrefixes(plan.nodes(index), plan).map((address) => addAddress(address, 'eth0')),
    ...plan.gateways.map((gateway) => `route add default via ${gateway}`),
    ...others.flatMap((other) => waysToPods(plan, other)),
  ])
}

/** Each address is its only holder's: nobody waits for IPv6 to find that out. */
function addAddress(withPrefix: string, device: string): string {
  return `address add ${withPrefix} dev ${device}${withPrefix.includes(':') ? ' nodad' : ''}`
}

function withPrefixes(addresses: readonly string[], { prefixes }: AddressPlan): readonly string[] {
  return addresses.map((address, family) => `${address}/${prefixes[family] ?? ''}`)
}

/** To those of the n-th node. */
function waysToPods(plan: AddressPlan, index: number): readonly string[] {
  const nodes = plan.nodes(index)
  return plan.pods(index).map((range, family) => `route add ${range} via ${nodes[family] ?? ''}`)
}

async function ip(role: Place, lines: readonly string[]): Promise<void> {
  await command([...inNetworkOf(role), 'ip', '-batch', '-'], { input: `${lines.join('\n')}\n` })
}

/** A process that was just started may still be in the network of the machine: nothing may be made there. */
async function untilUnshared(pid: number): Promise<void> {
  const script =
    'until [ "$(readlink "/proc/$0/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done'
  await command(['sh', '-euc', script, String(pid)])
}
