// SPDX-License-Identifier: Apache-2.0
// The waypoint beside Envoy, set up as Istio's waypoint, and nginx: CPU of the proxy for a request, in turns. Client and app are processes of
// their own, and the same for all. What a shared machine leaves to trust is CPU time and the ratios within a round.

import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { cpuSeconds } from '../loopback.ts'
import { ratios, spread, type Spread } from '../statistics.ts'
import type { ClientReport } from './client.ts'
import { measureFloods } from './floods.ts'
import { Bench, type Rounds, type Shape, warmUp } from './rig.ts'

/** One number per round for each proxy, and how many times as much of it the others take. */
export interface WaypointComparison {
  readonly unit: string
  readonly samples: Readonly<Record<string, readonly number[]>>
  readonly ratios: Readonly<Record<string, Spread>>
  readonly reports: Readonly<Record<string, readonly ClientReport[]>>
}

const IDLE_TUNNELS_EACH = 62
const IDLE_CONNECTIONS = 16
/** For memory to be what it stays at. */
const SETTLE_MS = 3_000

/** Microseconds of CPU for a request, of each proxy in turn. */
async function compareCpu(shape: Shape, rounds: Rounds): Promise<WaypointComparison> {
  await using bench = await Bench.make()
  const proxies = [...(await bench.proxies(shape))]
  const samples: Record<string, number[]> = {}
  const reports: Record<string, ClientReport[]> = {}
  for (const [name, proxy] of proxies)
    if (rounds.warmUp > 0 && (name === 'waypoint' || name === 'before'))
      await warmUp(bench, shape, proxy, rounds)
  for (let round = -rounds.warmUp; round < rounds.rounds; round += 1)
    for (let turn = 0; turn < proxies.length; turn += 1) {
      // The order turns with the round: whoever comes first meets the coldest machine.
      const [name, proxy] = proxies[(turn + round + rounds.warmUp) % proxies.length] ?? []
      if (name === undefined || proxy === undefined) continue
      const client = await bench.client(shape, proxy, rounds.seconds)
      const from = cpuSeconds(proxy.pids)
      const report = await client.run()
      const spent = cpuSeconds(proxy.pids) - from
      if (report.failed > 0 || report.requests === 0)
        throw new Error(`${name}: ${report.failed} of ${report.requests} requests failed`)
      if (round < 0) continue
      ;(samples[name] ??= []).push((spent / report.requests) * 1e6)
      ;(reports[name] ??= []).push(report)
    }
  return compared('us of CPU a request', samples, reports)
}

/** The others' by ours: above 1, ours takes less. */
function compared(
  unit: string,
  samples: Readonly<Record<string, readonly number[]>>,
  reports: WaypointComparison['reports'],
): WaypointComparison {
  const { waypoint = [], ...others } = samples
  const found = Object.entries(others).map(([name, sample]) => [
    `${name}/waypoint`,
    spread(ratios(sample, waypoint)),
  ])
  return { unit, samples, ratios: Object.fromEntries(found) as Record<string, Spread>, reports }
}

/** Latency of requests that come at half the rate that the slower one of two reaches. */
async function compareLatency(
  shape: Shape,
  rounds: Rounds,
  which: 'p50' | 'p99',
): Promise<WaypointComparison> {
  const closed = await compareCpu(shape, { ...rounds, rounds: 1 })
  const rates = Object.values(closed.reports).flatMap(([report]) =>
    report === undefined ? [] : [report.requests / report.seconds],
  )
  const rate = Math.floor(Math.min(...rates) / 2)
  console.log(`requests come at ${rate} a second`)
  const open = await compareCpu({ ...shape, rate }, rounds)
  const samples = Object.fromEntries(
    Object.entries(open.reports).map(([name, all]) => [name, all.map((report) => report[which])]),
  )
  return compared(`ms ${which} at ${rate}/s`, samples, open.reports)
}

const residentKb = (pids: readonly number[]): number =>
  pids.reduce((sum, pid) => {
    const [, found] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return sum + Number(found)
  }, 0)

/** Resident memory at rest, after a round of requests, and for each tunnel that is open and idle. */
async function measureMemory(rounds: Rounds): Promise<Readonly<Record<string, number>>> {
  const figures: Record<string, number> = {}
  const shape: Shape = { connections: IDLE_CONNECTIONS, tunnels: IDLE_TUNNELS_EACH }
  await using bench = await Bench.make()
  for (const [name, proxy] of await bench.proxies(shape)) {
    await delay(SETTLE_MS)
    figures[`${name} at rest, MB`] = residentKb(proxy.pids) / 1024
    // Once before: what the first tunnels leave behind is not theirs.
    for (const isCounted of [false, true]) {
      if (isCounted) await delay(SETTLE_MS)
      const from = residentKb(proxy.pids)
      const client = await bench.client(shape, proxy, rounds.seconds)
      await delay(SETTLE_MS)
      const grown = residentKb(proxy.pids) - from
      if (isCounted)
        figures[`${name}, KB a tunnel`] = grown / (IDLE_CONNECTIONS * IDLE_TUNNELS_EACH)
      await client.close()
    }
  }
  return figures
}

type Result = WaypointComparison | Readonly<Record<string, number>>

const row =
  (shape: Shape): ((rounds: Rounds) => Promise<Result>) =>
  (rounds) =>
    compareCpu(shape, rounds)

const MIB = 1024 * 1024
const BUSY: Shape = { connections: 16, tunnels: 8 }

/** The measurements by their names. */
export const WAYPOINT: Readonly<Record<string, (rounds: Rounds) => Promise<Result>>> = {
  'waypoint-1x16': row({ connections: 1, tunnels: 16 }),
  'waypoint-2x64': row({ connections: 2, tunnels: 64 }),
  'waypoint-16x8': row({ ...BUSY, isBesideNginx: true }),
  'waypoint-128x1': row({ connections: 128, tunnels: 1, isBesideNginx: true }),
  'waypoint-1x1': row({ connections: 1, tunnels: 1 }),
  'waypoint-grpc-1x32': row({ connections: 1, tunnels: 1, streams: 32, protocol: 'grpc' }),
  'waypoint-grpc-8x8': row({ connections: 1, tunnels: 8, streams: 8, protocol: 'grpc' }),
  'waypoint-bodies': row({ connections: 1, tunnels: 8, bytes: MIB }),
  'waypoint-1000-routes': row({ ...BUSY, routes: 1_000 }),
  'waypoint-latency': (rounds) => compareLatency(BUSY, rounds, 'p50'),
  'waypoint-latency-p99': (rounds) => compareLatency(BUSY, rounds, 'p99'),
  'waypoint-memory': measureMemory,
  'waypoint-floods': measureFloods,
}
