// SPDX-License-Identifier: Apache-2.0
// The network of a cluster: a bridge in a namespace of its own, on which every node hangs by its eth0. Nothing of it is seen from the
// machine's own network.

import { spawn } from 'node:child_process'
import { command } from '../machine/command.ts'
import { OUTSIDE_IP4 } from '../network/addressing.ts'
import { GATEWAY_IP, type Network, nodeIp, NODES, podCidr } from './layout.ts'
import { inNetworkOf } from './node-command.ts'
import { pidOf, recordProcess } from './state.ts'

const FABRIC = 'fabric'
type Place = Parameters<typeof inNetworkOf>[0]

/** Makes the bridge; a process that does nothing keeps its namespace. */
export async function makeFabric(): Promise<void> {
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
    `address add ${GATEWAY_IP}/24 dev br0`,
    // Somebody who is no node and no pod.
    `address add ${OUTSIDE_IP4}/32 dev br0`,
    'link set br0 up',
    ...NODES.map((_, index) => `route add ${podCidr(index)} via ${nodeIp(index)}`),
  ])
}

/** Gives a node its eth0 and, where no CNI does, the ways to the pods of the others. */
export async function connectNode(index: number, network: Network): Promise<void> {
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
    `address add ${nodeIp(index)}/24 dev eth0`,
    `route add default via ${GATEWAY_IP}`,
    ...others.map((other) => `route add ${podCidr(other)} via ${nodeIp(other)}`),
  ])
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
