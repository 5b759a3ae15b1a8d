// SPDX-License-Identifier: Apache-2.0
// What the waypoint counts: of itself, and of requests (request-series.ts).

import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import type { MirrorEnd } from './exchange/mirrors.ts'
import type { RequestRecord } from './exchange/types.ts'
import { RequestSeries } from './request-series.ts'
import { DiscoveryCounters } from '../mesh/telemetry/metrics/discovery-counters.ts'
import {
  type MetricFamily,
  type MetricsSource,
  registryFamilies,
} from '../mesh/telemetry/metrics/family.ts'

export interface WaypointMetricsOptions {
  readonly version: string
  readonly tunnels: () => number
  readonly connections: () => Readonly<Record<string, number>>
  /** How much of the mesh is kept in memory, by kind. */
  readonly meshSizes: () => Readonly<Record<string, number>>
  /** Metrics that others keep. */
  readonly others: () => readonly MetricFamily[]
}

/** Of what policies refuse. */
const DENIED_FLAG: RequestRecord['flag'] = 'RBAC'
const FIRST_SERVER_ERROR = 500

export class WaypointMetrics implements MetricsSource {
  readonly requests = new RequestSeries()
  readonly #traffic = { requests: 0, failed: 0, denied: 0 }
  readonly discovery: DiscoveryCounters
  readonly #registry = new Registry()
  readonly #others: () => readonly MetricFamily[]
  readonly #calls: Counter<'response_flags'>
  readonly #refused: Counter<'reason'>
  readonly #mirrored: Counter<'result' | 'response_flags'>
  /** By flag, then by status. Numbers of our own: a library's counter looks labels up for each request. */
  readonly #requests = new Map<RequestRecord['flag'], Map<number, number>>()

  constructor(options: WaypointMetricsOptions) {
    this.#others = options.others
    this.#addGauges(options)
    this.#calls = this.#counter(
      'ambit_waypoint_tcp_calls_total',
      'Calls that were carried as they are, or could not be, by how they ended.',
      'response_flags',
    )
    this.#refused = this.#counter(
      'ambit_waypoint_refused_total',
      'Callers that got no tunnel, by reason.',
      'reason',
    )
    const requests: Counter<'response_code' | 'response_flags'> = new Counter({
      name: 'ambit_waypoint_requests_total',
      help: 'Requests, by what their clients were told.',
      labelNames: ['response_code', 'response_flags'],
      registers: [this.#registry],
      collect: () => {
        requests.reset()
        for (const [response_flags, counts] of this.#requests)
          for (const [response_code, count] of counts)
            requests.inc({ response_code, response_flags }, count)
      },
    })
    this.#mirrored = new Counter({
      name: 'ambit_waypoint_mirrored_requests_total',
      help: 'Copies of requests that were to go to a mirror, by what became of them.',
      labelNames: ['result', 'response_flags'],
      registers: [this.#registry],
    })
    this.discovery = new DiscoveryCounters(this.#registry)
    collectDefaultMetrics({ register: this.#registry })
  }

  async families(): Promise<readonly MetricFamily[]> {
    const own = await registryFamilies(this.#registry)
    return [...this.requests.families(), ...own, ...this.#others()]
  }

  callEnded(flag: string): void {
    this.#calls.inc({ response_flags: flag })
  }

  /** A request is over. */
  request({ status, flag }: Pick<RequestRecord, 'status' | 'flag'>): void {
    this.#traffic.requests += 1
    if (flag === DENIED_FLAG) this.#traffic.denied += 1
    else if (status >= FIRST_SERVER_ERROR || status === 0) this.#traffic.failed += 1
    let counts = this.#requests.get(flag)
    if (counts === undefined) {
      counts = new Map()
      this.#requests.set(flag, counts)
    }
    counts.set(status, (counts.get(status) ?? 0) + 1)
  }

  /** Requests since the start: all, those that policies refused, and those that ended in 5xx or without an answer. */
  get traffic(): Readonly<Record<'requests' | 'failed' | 'denied', number>> {
    return { ...this.#traffic }
  }

  /** A copy of a request is over. */
  mirrored({ result, flag }: MirrorEnd): void {
    this.#mirrored.inc({ result, response_flags: flag })
  }

  refused(reason: string): void {
    this.#refused.inc({ reason })
  }

  #counter<L extends string>(name: string, help: string, label: L): Counter<L> {
    return new Counter({ name, help, labelNames: [label], registers: [this.#registry] })
  }

  #addGauges({ version, tunnels, connections, meshSizes }: WaypointMetricsOptions): void {
    const registers = [this.#registry]
    new Gauge({
      name: 'istio_build',
      help: 'Version of this component; always 1.',
      labelNames: ['component', 'tag'],
      registers,
    }).set({ component: 'ambit-waypoint', tag: version }, 1)
    const open: Gauge = new Gauge({
      name: 'ambit_waypoint_tunnels',
      help: 'Tunnels of clients that are open.',
      registers,
      collect: () => open.set(tunnels()),
    })
    const hbone: Gauge<'side'> = new Gauge({
      name: 'ambit_waypoint_hbone_connections',
      help: 'HBONE connections that are open: of clients, and to endpoints.',
      labelNames: ['side'],
      registers,
      collect: () => {
        for (const [side, count] of Object.entries(connections())) hbone.set({ side }, count)
      },
    })
    const resources: Gauge<'kind'> = new Gauge({
      name: 'ambit_mesh_resources',
      help: 'What is kept of the mesh, by kind.',
      labelNames: ['kind'],
      registers,
      collect: () => {
        for (const [kind, count] of Object.entries(meshSizes())) resources.set({ kind }, count)
      },
    })
  }
}
