// SPDX-License-Identifier: Apache-2.0
// The agent's metrics, by Istio's names where Istio has them. Traffic has a store of its own (mesh/telemetry/metrics/traffic-series.ts); the
// rest are few series each.

import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import { END_REASONS } from '../../mesh/telemetry/end-reason.ts'
import { DiscoveryCounters } from '../../mesh/telemetry/metrics/discovery-counters.ts'
import {
  type MetricFamily,
  type MetricsSource,
  registryFamilies,
} from '../../mesh/telemetry/metrics/family.ts'
import { TrafficSeries } from '../../mesh/telemetry/metrics/traffic-series.ts'
import type { TrafficDelta } from '../../mesh/telemetry/traffic.ts'
import type { EjectionChange } from '../proxy/ejection-lines.ts'
import { OpenSockets } from './open-sockets.ts'

export interface AgentMetricsOptions {
  readonly version: string
  /** Pods served, and pods of the mesh that are not yet. */
  readonly pods: () => { readonly active: number; readonly pending: number }
  /** What the BPF programs have counted, by event; read at each scrape. */
  readonly captureEvents: () => Readonly<Record<string, number>>
  /** Pods whose policies are not enforced. */
  readonly podsWithMissingPolicies: () => number
  /** How much of the mesh is kept in memory, by kind. */
  readonly meshSizes: () => Readonly<Record<string, number>>
  /** Metrics that others keep. */
  readonly others?: () => readonly MetricFamily[]
  readonly maxSeries?: number
  readonly now?: () => number
}

type Read = () => number | readonly (readonly [Readonly<Record<string, string>>, number])[]

export class AgentMetrics implements MetricsSource {
  readonly traffic: TrafficSeries
  readonly discovery: DiscoveryCounters
  readonly #registry = new Registry()
  readonly #others: () => readonly MetricFamily[]
  readonly #sockets = new OpenSockets()
  readonly #endpoints: Counter<'change'>
  readonly #revoked: Counter<'reporter'>
  readonly #proxies: Readonly<Record<'started' | 'stopped', Counter>>

  constructor(options: AgentMetricsOptions) {
    this.traffic = new TrafficSeries(options)
    this.#others = options.others ?? (() => [])
    this.#addGauges(options)
    this.#revoked = this.#counter(
      'istio_crl_policy_rejections_total',
      'Connections refused or closed because the certificate of the peer is revoked (CRL).',
      'reporter',
    )
    this.#endpoints = this.#counter(
      'ambit_endpoint_ejections_total',
      'Times that an endpoint of a Service was ejected for a pod, or recovered.',
      'change',
    )
    this.#proxies = {
      started: this.#counter('workload_manager_proxies_started_total', 'Pods that were taken on.'),
      stopped: this.#counter('workload_manager_proxies_stopped_total', 'Pods that were let go.'),
    }
    this.discovery = new DiscoveryCounters(this.#registry)
    collectDefaultMetrics({ register: this.#registry })
  }

  async families(): Promise<readonly MetricFamily[]> {
    const own = await registryFamilies(this.#registry)
    return [...this.traffic.families(), ...own, ...this.#others()]
  }

  /** Adds what a worker has gathered. */
  add(deltas: readonly TrafficDelta[], worker = 0): void {
    this.traffic.add(deltas)
    this.#sockets.add(deltas, worker)
    for (const { labels, failed, closed } of deltas)
      if (labels.response_flags === END_REASONS.certificateRevoked.flag)
        this.#revoked.inc({ reporter: labels.reporter }, failed + closed)
  }

  /** A worker died, and its connections with it. */
  workerLost(worker: number): void {
    this.#sockets.forget(worker)
  }

  /** An endpoint of a Service is ejected for a pod, or has recovered. */
  endpoint(change: EjectionChange): void {
    this.#endpoints.inc({ change })
  }

  /** A pod is served from now on, or no more. */
  proxy(change: 'started' | 'stopped'): void {
    this.#proxies[change].inc()
  }

  #addGauges(options: AgentMetricsOptions): void {
    const { version, pods, podsWithMissingPolicies, meshSizes, captureEvents } = options
    const { traffic } = this
    this.#read('gauge', 'istio_build', 'Version of this component; always 1.', () => [
      [{ component: 'ambit-agent', tag: version }, 1],
    ])
    this.#read('gauge', 'istio_tcp_sockets_open', 'Connections that are open.', () =>
      this.#sockets.open(),
    )
    this.#read(
      'gauge',
      'workload_manager_active_proxy_count',
      'Pods served by this agent.',
      () => pods().active,
    )
    this.#read(
      'gauge',
      'workload_manager_pending_proxy_count',
      'Pods of the mesh that this agent does not serve yet.',
      () => pods().pending,
    )
    this.#read(
      'gauge',
      'ambit_pods_with_missing_policies',
      'Pods served by this agent of whose authorization policies one has not arrived or cannot be read.',
      podsWithMissingPolicies,
    )
    this.#read('gauge', 'ambit_mesh_resources', 'What is kept of the mesh, by kind.', () =>
      Object.entries(meshSizes()).map(([kind, count]) => [{ kind }, count]),
    )
    this.#read(
      'gauge',
      'ambit_traffic_series',
      'Label sets of the traffic metrics.',
      () => traffic.size,
    )
    this.#read(
      'counter',
      'ambit_traffic_series_folded_total',
      'Times that traffic was counted for the shared series, since there were too many label sets.',
      () => traffic.folded,
    )
    // The sums are kept in a pinned map, which outlives the agent: they are shown, not added up again.
    this.#read(
      'counter',
      'ambit_capture_events_total',
      'What the BPF programs did with connections, by event.',
      () => Object.entries(captureEvents()).map(([event, count]) => [{ event }, count]),
    )
  }

  #counter<L extends string>(name: string, help: string, ...labelNames: L[]): Counter<L> {
    return new Counter({ name, help, labelNames, registers: [this.#registry] })
  }

  /** A metric whose values are kept elsewhere, and read at each scrape. */
  #read(type: 'gauge' | 'counter', name: string, help: string, read: Read): void {
    const registers = [this.#registry]
    const labelNames = ['component', 'tag', 'reporter', 'kind', 'event']
    const collect = (set: (labels: Readonly<Record<string, string>>, value: number) => void) => {
      const values = read()
      if (typeof values === 'number') set({}, values)
      else for (const [labels, value] of values) set(labels, value)
    }
    if (type === 'gauge') {
      const gauge: Gauge = new Gauge({
        name,
        help,
        labelNames,
        registers,
        collect: () => collect((labels, value) => gauge.set(labels, value)),
      })
      return
    }
    const counter: Counter = new Counter({
      name,
      help,
      labelNames,
      registers,
      collect: () => {
        counter.reset()
        collect((labels, value) => counter.inc(labels, value))
      },
    })
  }
}
