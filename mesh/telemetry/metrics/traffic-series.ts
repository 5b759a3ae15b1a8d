// SPDX-License-Identifier: Apache-2.0
// The series of Istio's TCP metrics: five sums for each label set. A label set is kept once, as the text that a scrape writes, whatever
// number of metrics has it. Bounded twice: series end with the workloads they are about, and beyond a cap new ones share one.

import type { TrafficDelta, TrafficLabels } from '../traffic.ts'
import type { MetricFamily, MetricSample } from './family.ts'
import { labelText } from './label-text.ts'

/**
 * Label sets kept at most: a node with 100 pods that each talk to 100 others, in both directions. Beyond it, new pairs share one with
 * unknown ends, so that a port scan cannot fill the memory of the agent or of Prometheus.
 */
const MAX_TRAFFIC_SERIES = 20_000

/**
 * How long a series stays after its last change once one of its ends is gone: several scrapes at any interval in use, so that the last
 * sums are seen and rates are right, and longer than Prometheus looks back for a sample (five minutes).
 */
export const ENDED_SERIES_MS = 6 * 60_000

/** Labels that survive in the overflow series: few values each. */
const BOUNDED_LABELS: ReadonlySet<string> = new Set([
  'reporter',
  'request_protocol',
  'response_flags',
  'connection_security_policy',
])

const UNKNOWN = 'unknown'

/** Whom there may still be traffic of: parties by partyKey(), services by host name. */
export interface LivingParties {
  /** Pods of this node. */
  readonly own: ReadonlySet<string>
  /** All workloads of the mesh. */
  readonly workloads: ReadonlySet<string>
  readonly services: ReadonlySet<string>
}

/** What tells workloads apart in metrics; a new revision of a workload is another party. */
export function partyKey(
  namespace: string | undefined,
  workload: string | undefined,
  revision: string | undefined,
): string {
  return `${namespace || UNKNOWN}/${workload || UNKNOWN}/${revision || UNKNOWN}`
}

type Sum = 'opened' | 'closed' | 'failed' | 'sentBytes' | 'receivedBytes'

interface Series {
  readonly labels: string
  /** The pod's whose connections they are. */
  readonly own: string
  readonly peer: string
  readonly service: string
  opened: number
  closed: number
  failed: number
  sentBytes: number
  receivedBytes: number
  hasBytes: boolean
  changedAt: number
}

const METRICS: readonly { readonly name: string; readonly help: string; readonly sum: Sum }[] = [
  { name: 'istio_tcp_connections_opened_total', help: 'TCP connections opened.', sum: 'opened' },
  { name: 'istio_tcp_connections_closed_total', help: 'TCP connections closed.', sum: 'closed' },
  {
    name: 'istio_tcp_connections_failed_total',
    help: 'TCP connections that could not be served.',
    sum: 'failed',
  },
  {
    name: 'istio_tcp_sent_bytes_total',
    help: 'Response bytes, from server to client.',
    sum: 'sentBytes',
  },
  {
    name: 'istio_tcp_received_bytes_total',
    help: 'Request bytes, from client to server.',
    sum: 'receivedBytes',
  },
]

export class TrafficSeries {
  readonly #series = new Map<string, Series>()
  readonly #maxSeries: number
  readonly #now: () => number
  #folded = 0

  constructor({
    maxSeries = MAX_TRAFFIC_SERIES,
    now = () => performance.now(),
  }: { readonly maxSeries?: number; readonly now?: () => number } = {}) {
    this.#maxSeries = maxSeries
    this.#now = now
  }

  /** Adds what a worker has gathered. Watched by bench/metrics.ts. */
  add(deltas: readonly TrafficDelta[]): void {
    const now = this.#now()
    for (const delta of deltas) {
      const series = this.#seriesOf(delta.labels)
      series.opened += delta.opened
      series.closed += delta.closed
      series.failed += delta.failed
      series.sentBytes += delta.sentBytes
      series.receivedBytes += delta.receivedBytes
      series.hasBytes ||= delta.closed > 0 || delta.sentBytes > 0 || delta.receivedBytes > 0
      series.changedAt = now
    }
  }

  /** Label sets kept now. */
  get size(): number {
    return this.#series.size
  }

  /** How often something was counted for the shared series for want of room. */
  get folded(): number {
    return this.#folded
  }

  /** Whether there may be something for sweep() to end. */
  get hasIdle(): boolean {
    const before = this.#now() - ENDED_SERIES_MS
    for (const { changedAt } of this.#series.values()) if (changedAt <= before) return true
    return false
  }

  /** Ends the series of which an end is gone and that have not changed for ENDED_SERIES_MS; says how many. */
  sweep(living: LivingParties): number {
    const before = this.#now() - ENDED_SERIES_MS
    let ended = 0
    for (const [key, series] of this.#series) {
      if (series.changedAt > before || isLiving(series, living)) continue
      this.#series.delete(key)
      ended += 1
    }
    return ended
  }

  families(): readonly MetricFamily[] {
    return METRICS.map(({ name, help, sum }) => ({
      name,
      help,
      type: 'counter',
      samples: this.#samples(name, sum),
    }))
  }

  *#samples(name: string, sum: Sum): Generator<MetricSample, void, undefined> {
    for (const series of this.#series.values())
      if (isTold(series, sum)) yield { name, labels: series.labels, value: series[sum] }
  }

  #seriesOf(labels: TrafficLabels): Series {
    const text = labelText(labels)
    const known = this.#series.get(text)
    if (known !== undefined) return known
    if (this.#series.size < this.#maxSeries) return this.#begin(text, labels)
    this.#folded += 1
    const shared = overflowLabels(labels)
    const sharedText = labelText(shared)
    return this.#series.get(sharedText) ?? this.#begin(sharedText, shared)
  }

  #begin(text: string, labels: TrafficLabels): Series {
    const source = partyKey(
      labels.source_workload_namespace,
      labels.source_workload,
      labels.source_canonical_revision,
    )
    const destination = partyKey(
      labels.destination_workload_namespace,
      labels.destination_workload,
      labels.destination_canonical_revision,
    )
    const isSource = labels.reporter === 'source'
    const series: Series = {
      labels: text,
      own: isSource ? source : destination,
      peer: isSource ? destination : source,
      service: labels.destination_service,
      opened: 0,
      closed: 0,
      failed: 0,
      sentBytes: 0,
      receivedBytes: 0,
      hasBytes: false,
      changedAt: 0,
    }
    this.#series.set(text, series)
    return series
  }
}

/** What never happened for a label set has no series: a scan that is refused leaves one, not five. */
function isTold(series: Series, sum: Sum): boolean {
  return sum === 'sentBytes' || sum === 'receivedBytes' ? series.hasBytes : series[sum] > 0
}

function isLiving(
  { own, peer, service }: Series,
  { own: pods, workloads, services }: LivingParties,
): boolean {
  return (
    (isUnknown(own) || pods.has(own)) &&
    (isUnknown(peer) || workloads.has(peer) || pods.has(peer)) &&
    (service === UNKNOWN || services.has(service))
  )
}

/** Whoever has no workload's name may be anybody: the other end decides. */
function isUnknown(party: string): boolean {
  return party.split('/', 2)[1] === UNKNOWN
}

function overflowLabels(labels: TrafficLabels): TrafficLabels {
  const folded: Record<string, string> = { ...labels }
  for (const name in folded) if (!BOUNDED_LABELS.has(name)) folded[name] = UNKNOWN
  // The loop has written names that `labels` has, and no other.
  return folded as TrafficLabels
}
