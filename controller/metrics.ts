// SPDX-License-Identifier: Apache-2.0
// What the controller counts about itself.

import { Counter, Gauge, Registry, collectDefaultMetrics } from 'prom-client'
import {
  type MetricFamily,
  type MetricsSource,
  registryFamilies,
} from '../mesh/telemetry/metrics/family.ts'

export interface ControllerMetrics extends MetricsSource {
  certificateOutcome(outcome: string): void
  rootWritten(): void
  setLeader(isLeader: boolean): void
  setRootExpiry(notAfter: Date): void
  /** Whether the Secret with the authority, as it is now, cannot be used. */
  setSecretRefused(isRefused: boolean): void
  /** A gRPC call was refused before its method saw it. */
  callRefused(reason: string): void
  /** A connection to the gRPC port was ended by a bound. */
  connectionCut(bound: string): void
  /** Where to read how many connections the gRPC port has, at each scrape. */
  watchConnections(read: () => Readonly<Record<string, number>>): void
  /** Where to read for how many seconds nothing has been heard of kinds of objects, at each scrape. */
  watchStaleness(read: () => Readonly<Record<string, number>>): void
  /** Where to read metrics that others keep. */
  include(others: () => readonly MetricFamily[]): void
}

/** Makes the metrics in a registry of their own, so that two controllers in one process do not clash. */
export function createMetrics(): ControllerMetrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const certificates = new Counter({
    name: 'ambit_controller_certificate_requests_total',
    help: 'Certificate requests by outcome: issued, or why refused.',
    labelNames: ['outcome'],
    registers: [registry],
  })
  const rootWrites = new Counter({
    name: 'ambit_controller_root_config_map_writes_total',
    help: 'Times the root was written into a namespace.',
    registers: [registry],
  })
  const leader = new Gauge({
    name: 'ambit_controller_is_leader',
    help: '1 on the replica that writes.',
    registers: [registry],
  })
  const rootExpiry = new Gauge({
    name: 'ambit_controller_root_not_after_seconds',
    help: 'When the authority that signs, or one above it, expires, in seconds since the epoch.',
    registers: [registry],
  })
  const secretRefused = new Gauge({
    name: 'ambit_controller_ca_secret_refused',
    help: '1 while the Secret with the authority cannot be used and the one before it goes on.',
    registers: [registry],
  })
  const refused = new Counter({
    name: 'ambit_controller_calls_refused_total',
    help: 'gRPC calls without a good token, by what was wrong.',
    labelNames: ['reason'],
    registers: [registry],
  })
  const cut = new Counter({
    name: 'ambit_controller_connections_cut_total',
    help: 'Connections to the gRPC port that had to go, by the bound.',
    labelNames: ['bound'],
    registers: [registry],
  })
  let readConnections = (): Readonly<Record<string, number>> => ({})
  const connections: Gauge<'of'> = new Gauge({
    name: 'ambit_controller_connections',
    help: 'Connections to the gRPC port: of callers with a good token, and of newcomers.',
    labelNames: ['of'],
    registers: [registry],
    collect: (): void => {
      for (const [of, count] of Object.entries(readConnections())) connections.set({ of }, count)
    },
  })
  let readStaleness = (): Readonly<Record<string, number>> => ({})
  const stale: Gauge<'kind'> = new Gauge({
    name: 'ambit_controller_stale_seconds',
    help: 'How long nothing has been heard of a kind of objects that cannot be listed or watched.',
    labelNames: ['kind'],
    registers: [registry],
    collect: (): void => {
      stale.reset()
      for (const [kind, seconds] of Object.entries(readStaleness())) stale.set({ kind }, seconds)
    },
  })
  let readOthers = (): readonly MetricFamily[] => []
  return {
    families: async () => [...(await registryFamilies(registry)), ...readOthers()],
    certificateOutcome: (outcome) => certificates.inc({ outcome }),
    rootWritten: () => rootWrites.inc(),
    setLeader: (isLeader) => leader.set(isLeader ? 1 : 0),
    setRootExpiry: (notAfter) => rootExpiry.set(notAfter.getTime() / 1000),
    setSecretRefused: (isRefused) => secretRefused.set(isRefused ? 1 : 0),
    callRefused: (reason) => refused.inc({ reason }),
    connectionCut: (bound) => cut.inc({ bound }),
    watchConnections: (read) => {
      readConnections = read
    },
    watchStaleness: (read) => {
      readStaleness = read
    },
    include: (others) => {
      readOthers = others
    },
  }
}
