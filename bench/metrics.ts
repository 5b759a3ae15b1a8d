// SPDX-License-Identifier: Apache-2.0
// What counting costs: a connection in its worker, a label set on the main thread, and a scrape of 10,000 label sets. By itself:
// node --expose-gc bench/metrics.ts

import { createGzip } from 'node:zlib'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { TrafficCounters } from '../agent/proxy/traffic-counters.ts'
import type { SpiffeId, Workload } from '../mesh/model/types.ts'
import { type ConnectionAbout, type Party, partyOf } from '../mesh/telemetry/connection-record.ts'
import { exposition } from '../mesh/telemetry/metrics/exposition.ts'
import { TrafficSeries } from '../mesh/telemetry/metrics/traffic-series.ts'
import { type TrafficDelta, trafficLabels } from '../mesh/telemetry/traffic.ts'

const SERIES = 10_000
const CONNECTIONS = 400_000
const ROUNDS = 10
const BYTES = { bytesToUpstream: 1_000, bytesToDownstream: 4_000 }

function party(index: number): Party {
  const name = `deployment-${index}`
  // What partyOf() and the labels read of it.
  const workload = {
    uid: `Kubernetes//Pod/namespace-${index % 50}/${name}-5d8f9c7b6-x2x4z`,
    name: `${name}-5d8f9c7b6-x2x4z`,
    namespace: `namespace-${index % 50}`,
    workloadName: name,
    canonicalName: name,
    canonicalRevision: 'v1',
    clusterId: 'Kubernetes',
    locality: { region: 'eu-central-1', zone: 'eu-central-1a' },
  } as unknown as Workload
  const identity = `spiffe://cluster.local/ns/namespace-${index % 50}/sa/${name}` as SpiffeId
  return partyOf(workload, identity)
}

function abouts(): readonly ConnectionAbout[] {
  const parties = Array.from({ length: 100 }, (_, index) => party(index))
  return parties.flatMap((source) =>
    parties.map((destination) => ({
      direction: 'outbound' as const,
      startedAt: 0,
      source,
      sourceAddress: undefined,
      destination,
      destinationAddress: undefined,
      hboneTarget: undefined,
      service: undefined,
      security: 'mutual_tls' as const,
    })),
  )
}

/** Each figure with its name and unit. */
export async function measureMetrics(): Promise<Readonly<Record<string, number>>> {
  const connections = abouts()
  const deltas: TrafficDelta[] = connections.map((about) => ({
    labels: trafficLabels(about, '-', 'node_local'),
    opened: 1,
    closed: 1,
    failed: 0,
    sentBytes: 10,
    receivedBytes: 5,
  }))
  const before = heapBytes()
  const series = new TrafficSeries()
  series.add(deltas)
  // The texts become what they stay with the first scrape.
  await scrape(series)
  const held = heapBytes() - before
  const adding = cpuMs(() => {
    for (let round = 0; round < ROUNDS; round += 1) series.add(deltas)
  })
  let bytes = 0
  const writing = cpuMs(() => {
    for (let round = 0; round < ROUNDS; round += 1) {
      bytes = 0
      for (const piece of exposition(series.families(), 'prometheus')) bytes += piece.length
    }
  })
  const gzip = await scrape(series)
  return {
    'ns a connection, in its worker': countingNs(connections),
    'ns a label set, on the main thread': (adding * 1e6) / (ROUNDS * SERIES),
    'ms a scrape': writing / ROUNDS,
    'MB a scrape': bytes / 1e6,
    'MB a scrape, compressed': gzip / 1e6,
    ...(globalThis.gc === undefined ? {} : { 'MB of memory': held / 1e6 }),
  }
}

/** Of a beginning and an end, of connections between a hundred workloads. */
function countingNs(connections: readonly ConnectionAbout[]): number {
  const counters = new TrafficCounters(() => undefined, 'node_local')
  const count = (about: ConnectionAbout): void => {
    counters.opened(about)
    counters.closed(about, '-', BYTES)
  }
  for (const about of connections) count(about)
  const ms = cpuMs(() => {
    for (let index = 0; index < CONNECTIONS; index += 1) {
      const about = connections[index % 1_000]
      if (about !== undefined) count(about)
    }
  })
  counters.flush()
  return (ms * 1e6) / CONNECTIONS
}

async function scrape(series: TrafficSeries): Promise<number> {
  const gzip = createGzip({ level: 1 })
  const pieces = Readable.from(exposition(series.families(), 'prometheus'))
  const [page] = await Promise.all([buffer(gzip), pipeline(pieces, gzip)])
  return page.length
}

/** Of this process, in user mode: a busy neighbour does not count. */
function cpuMs(work: () => void): number {
  const before = process.cpuUsage().user
  work()
  return (process.cpuUsage().user - before) / 1000
}

function heapBytes(): number {
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

if (import.meta.main)
  for (const [name, value] of Object.entries(await measureMetrics()))
    console.log(`${name} ${value.toFixed(2)}`)
