// SPDX-License-Identifier: Apache-2.0
// Memory of proxies: resident at rest, before any connection, and what each of 4,000 idle ones adds at the client's and the
// server's side. MB and KB. What the first opening lets grow once and for all (heaps, compiled code) is counted with them.

import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { agentPod } from '../lab/cluster/index.ts'
import { type BenchPath, pathOf, type Topology } from './topology.ts'
import { processesOf } from './ztunnel.ts'

/** A pod may have half of the agent's descriptors, two for each: with a limit of 20,000 for a process that is 4,500. */
const CONNECTIONS = 4000
/** Agents collect garbage when they have been calm for three seconds: memory that stands still for longer is what they hold. */
const STILL_MS = 5000
const MOST_SETTLE_MS = 60_000
const LOOK_MS = 500
/** Within which memory counts as standing still. */
const STILL_KB = 64
const KB_PER_MB = 1024

/** The proxies of both sides: their processes. */
interface Sides {
  readonly client: readonly number[]
  readonly server: readonly number[]
}

/** Weighs our agents, and the ztunnels of the pods, where there are any. */
export async function measureIdleMemory(
  topology: Topology,
  ztunnel?: string,
): Promise<Readonly<Record<string, number>>> {
  const { lab } = topology
  const agentOf = (node: string): Promise<readonly number[]> =>
    processesOf(lab, node, agentPod(lab.layout, node))
  const agents = { client: await agentOf('node-a'), server: await agentOf('node-b') }
  const ours = await weighPath(topology, pathOf(topology, 'mesh'), agents)
  const all = { ...named('agent', ours) }
  if (ztunnel === undefined) return all
  const rivals = {
    client: await processesOf(lab, 'node-a', 'zt/client', ztunnel),
    server: await processesOf(lab, 'node-b', 'zt/far', ztunnel),
  }
  return {
    ...all,
    ...named('ztunnel', await weighPath(topology, pathOf(topology, 'ztunnel'), rivals)),
  }
}

interface Weight {
  readonly restKb: number
  /** Over what it was at rest. */
  readonly clientKb: number
  readonly serverKb: number
}

function named(who: string, { restKb, clientKb, serverKb }: Weight): Record<string, number> {
  return {
    [`${who} at rest MB`]: restKb / KB_PER_MB,
    [`${who}, client side, KB/connection`]: clientKb / CONNECTIONS,
    [`${who}, server side, KB/connection`]: serverKb / CONNECTIONS,
  }
}

/**
 * Opens connections through a path, each having sent one request, and weighs its proxies before and meanwhile. Once: memory that an
 * opening before has left behind would take the next ones in for nothing.
 */
async function weighPath({ lab }: Topology, path: BenchPath, sides: Sides): Promise<Weight> {
  const weigh = async (): Promise<Weights> => [
    await residentKb(sides.client),
    await residentKb(sides.server),
  ]
  const rest = await settled(weigh)
  const holder = lab.spawn(path.client, [
    'node',
    'bench/idle-connections.ts',
    path.host,
    String(path.httpPort),
    String(CONNECTIONS),
  ])
  const exited = once(holder, 'exit')
  let said = ''
  holder.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()))
  if (holder.stdout === null || holder.stdin === null)
    throw new Error('Cannot hold connections: no streams')
  await Promise.race([
    once(holder.stdout, 'data'),
    exited.then(() =>
      Promise.reject(new Error(`Cannot hold connections: the client ended: ${said.trim()}`)),
    ),
  ])
  const during = await settled(weigh)
  holder.stdin.end()
  await exited
  return {
    restKb: Math.max(...rest),
    clientKb: during[0] - rest[0],
    serverKb: during[1] - rest[1],
  }
}

type Weights = readonly [client: number, server: number]

/** Weighs again and again until both sides stand still. */
async function settled(weigh: () => Promise<Weights>): Promise<Weights> {
  const startedAt = performance.now()
  let still = await weigh()
  let stillSince = startedAt
  for (;;) {
    await pause(LOOK_MS)
    const now = performance.now()
    const found = await weigh()
    if (found.some((kb, side) => Math.abs(kb - (still[side] ?? 0)) > STILL_KB)) {
      still = found
      stillSince = now
    }
    if (now - stillSince >= STILL_MS || now - startedAt >= MOST_SETTLE_MS) return found
  }
}

async function residentKb(pids: readonly number[]): Promise<number> {
  let total = 0
  for (const pid of pids) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    total += Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? '0')
  }
  return total
}
