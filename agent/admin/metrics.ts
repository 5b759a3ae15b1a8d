// SPDX-License-Identifier: Apache-2.0
// The agent's metrics, by Istio's names. Workers send sums per label set; here they become Prometheus series, with a
// bound on how many there may be.

import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import {
  TRAFFIC_LABELS,
  type TrafficDelta,
  type TrafficLabels,
} from '../../mesh/telemetry/traffic.ts'
import { END_REASONS } from '../../mesh/telemetry/end-reason.ts'
import type { EjectionChange } from '../proxy/balance/ejection-lines.ts'

/**
 * Series of traffic metrics kept at most: a node with 100 pods that each talk to 100 others. Beyond it, new pairs
 * share one series with unknown ends, so that a port scan cannot fill the memory of the agent or of Prometheus.
 */
const MAX_TRAFFIC_SERIES = 20_000

/** Labels that survive in the overflow series: few values each. */
const BOUNDED_LABELS: ReadonlySet<string> = new Set([
  'reporter',
  'request_protocol',
  'response_flags',
  'connection_security_policy',
])

export class AgentMetrics {
  readonly registry = new Registry()
  readonly #opened: Counter
  readonly #closed: Counter
  readonly #failed: Counter
  readonly #sent: Counter
  readonly #received: Counter
  readonly #endpoints: Counter<'change'>
  readonly #revoked: Counter<'reporter'>
  readonly #series = new Set<string>()
  readonly #maxSeries: number

  constructor(options: {
    readonly version: string
    readonly activePods: () => number
    /** What the BPF programs have counted, by event; read at each scrape. */
    readonly captureEvents: () => Readonly<Record<string, number>>
    /** Pods whose policies are not enforced. */
    readonly podsWithMissingPolicies: () => number
    readonly maxSeries?: number
  }) {
    this.#maxSeries = options.maxSeries ?? MAX_TRAFFIC_SERIES
    const counter = (name: string, help: string): Counter =>
      new Counter({ name, help, labelNames: TRAFFIC_LABELS, registers: [this.registry] })
    this.#opened = counter('istio_tcp_connections_opened_total', 'TCP connections opened.')
    this.#closed = counter('istio_tcp_connections_closed_total', 'TCP connections closed.')
    this.#failed = counter(
      'istio_tcp_connections_failed_total',
      'TCP connections that could not be served.',
    )
    this.#sent = counter('istio_tcp_sent_bytes_total', 'Response bytes, from server to client.')
    this.#received = counter(
      'istio_tcp_received_bytes_total',
      'Request bytes, from client to server.',
    )
    const build = new Gauge({
      name: 'istio_build',
      help: 'Version of this component; always 1.',
      labelNames: ['component', 'tag'],
      registers: [this.registry],
    })
    build.set({ component: 'ambit-agent', tag: options.version }, 1)
    const active: Gauge = new Gauge({
      name: 'workload_manager_active_proxy_count',
      help: 'Pods served by this agent.',
      registers: [this.registry],
      collect: (): void => active.set(options.activePods()),
    })
    const missing: Gauge = new Gauge({
      name: 'ambit_pods_with_missing_policies',
      help: 'Pods served by this agent of whose authorization policies one has not arrived or cannot be read.',
      registers: [this.registry],
      collect: (): void => missing.set(options.podsWithMissingPolicies()),
    })
    const captureEvents: Counter = new Counter({
      name: 'ambit_capture_events_total',
      help: 'What the BPF programs did with connections, by event.',
      labelNames: ['event'],
      registers: [this.registry],
      // The sums are kept in a pinned map, which outlives the agent: they are shown, not added up again.
      collect: (): void => {
        captureEvents.reset()
        for (const [event, count] of Object.entries(options.captureEvents()))
          captureEvents.inc({ event }, count)
      },
    })
    this.#revoked = new Counter({
      name: 'istio_crl_policy_rejections_total',
      help: 'Connections refused or closed because the certificate of the peer is revoked (CRL).',
      labelNames: ['reporter'],
      registers: [this.registry],
    })
    this.#endpoints = new Counter({
      name: 'ambit_endpoint_ejections_total',
      help: 'Times that an endpoint of a Service was ejected for a pod, or recovered.',
      labelNames: ['change'],
      registers: [this.registry],
    })
    collectDefaultMetrics({ register: this.registry })
  }

  /** Adds what a worker has gathered. */
  add(deltas: readonly TrafficDelta[]): void {
    for (const delta of deltas) {
      const labels = this.#admit(delta.labels)
      if (delta.opened > 0) this.#opened.inc(labels, delta.opened)
      if (delta.closed > 0) this.#closed.inc(labels, delta.closed)
      if (delta.failed > 0) this.#failed.inc(labels, delta.failed)
      if (labels.response_flags === END_REASONS.certificateRevoked.flag)
        this.#revoked.inc({ reporter: labels.reporter }, delta.failed + delta.closed)
      if (delta.closed > 0 || delta.sentBytes > 0 || delta.receivedBytes > 0) {
        this.#sent.inc(labels, delta.sentBytes)
        this.#received.inc(labels, delta.receivedBytes)
      }
    }
  }

  /** An endpoint of a Service is ejected for a pod, or has recovered. */
  endpoint(change: EjectionChange): void {
    this.#endpoints.inc({ change })
  }

  #admit(labels: TrafficLabels): TrafficLabels {
    const key = Object.values(labels).join('|')
    if (this.#series.has(key)) return labels
    if (this.#series.size < this.#maxSeries) {
      this.#series.add(key)
      return labels
    }
    return overflowLabels(labels)
  }
}

function overflowLabels(labels: TrafficLabels): TrafficLabels {
  const folded: Record<string, string> = { ...labels }
  for (const name of TRAFFIC_LABELS) if (!BOUNDED_LABELS.has(name)) folded[name] = 'unknown'
  // The loop has written every name that `labels` has, and no other.
  return folded as TrafficLabels
}
