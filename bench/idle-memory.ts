// SPDX-License-Identifier: Apache-2.0
// Memory of idle captured connections: both agents' resident memory with and without 1,000 open connections. KB each.

import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { nodeLayout } from '../lab/machine/layout.ts'
import { agentPod, type Lab } from '../lab/cluster/index.ts'
import type { Topology } from './topology.ts'

const CONNECTIONS = 1000
/** Rounds to warm allocators up; the first opening grows heaps that stay. */
const ROUNDS = 3
const SETTLE_MS = 2000

/** Resident memory of the agent's processes on one node. KB. */
async function agentMemory(lab: Lab, node: string): Promise<number> {
  const podsCgroup = nodeLayout(lab.layout, node).podsCgroup
  const name = lab.pod(agentPod(lab.layout, node)).uid
  let total = 0
  for (const entry of await readdir(join(podsCgroup, `pod${name}`), { withFileTypes: true })) {
    if (!entry.isDirectory()) continue
    const pids = await readFile(join(podsCgroup, `pod${name}`, entry.name, 'cgroup.procs'), 'utf8')
    for (const pid of pids.split('\n').filter((line) => line !== '')) {
      const status = await readFile(`/proc/${pid}/status`, 'utf8')
      total += Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? '0')
    }
  }
  return total
}

/** Opens connections through the mesh, each having sent one request, and weighs both agents. */
export async function measureIdleMemory(
  topology: Topology,
): Promise<Readonly<Record<string, number>>> {
  const { lab, paths } = topology
  const weigh = async (): Promise<readonly [number, number]> => [
    await agentMemory(lab, 'node-a'),
    await agentMemory(lab, 'node-b'),
  ]
  let before = await weigh()
  let during = before
  for (let round = 0; round < ROUNDS; round += 1) {
    before = await weigh()
    const holder = lab.spawn(paths.mesh.client, [
      'node',
      'bench/idle-connections.ts',
      paths.mesh.host,
      String(paths.mesh.httpPort),
      String(CONNECTIONS),
    ])
    const exited = once(holder, 'exit')
    if (holder.stdout === null || holder.stdin === null)
      throw new Error('Cannot hold connections: no streams')
    await Promise.race([
      once(holder.stdout, 'data'),
      exited.then(() => Promise.reject(new Error('Cannot hold connections: the client ended'))),
    ])
    // Garbage of the opening is collected in the agents' own time.
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
    during = await weigh()
    holder.stdin.end()
    await exited
  }
  return {
    'client-side agent KB/connection': (during[0] - before[0]) / CONNECTIONS,
    'server-side agent KB/connection': (during[1] - before[1]) / CONNECTIONS,
    'agent RSS MB': during[0] / 1024,
  }
}
