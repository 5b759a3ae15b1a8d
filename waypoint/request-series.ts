// SPDX-License-Identifier: Apache-2.0
// Istio's metrics of requests, as a waypoint reports them (reporter="waypoint"): true source, chosen destination. A label set is resolved once
// and kept as the text that a scrape writes; a request adds to a few numbers of it. Series end with the workloads they are about, as the
// agents' do; beyond a cap new label sets share one, and whoever has many has his share before that, so that others have theirs.

import {
  type CalledService,
  type Party,
  partyOf,
  UNKNOWN_PARTY,
} from '../mesh/telemetry/connection-record.ts'
import type { MetricFamily, MetricSample } from '../mesh/telemetry/metrics/family.ts'
import { labelText } from '../mesh/telemetry/metrics/label-text.ts'
import {
  ENDED_SERIES_MS,
  type LivingParties,
  partyKey,
} from '../mesh/telemetry/metrics/traffic-series.ts'
import { trafficLabels } from '../mesh/telemetry/traffic.ts'
import type { RequestRecord, RequestSource } from './exchange/types.ts'
import { provenIdentity, securityOf } from './seen-parties.ts'

/** Label sets kept at most. Each has some 70 lines in a scrape: what Prometheus is asked to keep is bounded with it. */
const MAX_SERIES = 2_000
/**
 * Label sets that a source and a destination have together for the asking: the answers that an app usually gives. It may give a thousand others,
 * of which each of the two has at most half as many as there is room left: one that gives them all takes a third of it, and leaves the rest.
 */
const USUAL_ANSWERS = 4
const KEYS_PER_SERIES = 4

/** Istio's own bounds, of milliseconds and of bytes. */
const DURATION_BOUNDS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000,
  600_000, 1_800_000, 3_600_000,
]
const BYTE_BOUNDS: readonly number[] = [...DURATION_BOUNDS]

const HISTOGRAMS = [
  {
    name: 'istio_request_duration_milliseconds',
    help: 'Duration of requests.',
    bounds: DURATION_BOUNDS,
    valueOf: ({ durationMs }: RequestRecord) => durationMs,
  },
  {
    name: 'istio_request_bytes',
    help: 'Bytes of the bodies of requests.',
    bounds: BYTE_BOUNDS,
    valueOf: ({ requestBytes }: RequestRecord) => requestBytes,
  },
  {
    name: 'istio_response_bytes',
    help: 'Bytes of the bodies of answers.',
    bounds: BYTE_BOUNDS,
    valueOf: ({ responseBytes }: RequestRecord) => responseBytes,
  },
] as const

/** Numbers of one histogram: a count for each bound and beyond them, and the sum. */
const SLOTS = DURATION_BOUNDS.length + 2

/** Whom a series is about; undefined: nobody who could go. */
interface About {
  readonly source: string | undefined
  readonly destination: string | undefined
  readonly service: string | undefined
}

interface Series extends About {
  readonly labels: string
  /** Whose it is; undefined: everybody's. */
  readonly owners: Owners | undefined
  requests: number
  readonly slots: Float64Array
  changedAt: number
}

/** At whose expense a label set is kept. */
interface Owners {
  /** Source and destination. */
  readonly pair: string
  /** Each of them, where it is beyond what the pair has for the asking. */
  readonly payers: readonly string[]
}

/** Workloads and services that there are, by partyKey() and host name. */
export type LivingEnds = Pick<LivingParties, 'workloads' | 'services'>

const NOBODY: About = { source: undefined, destination: undefined, service: undefined }

export class RequestSeries {
  /** By labels: pods of one workload share them. */
  readonly #series = new Map<string, Series>()
  /** The same by what is at hand when a request is over. A cache: emptied when pods that came and went have filled it. */
  readonly #byKey = new Map<string, Series>()
  /** Label sets by pair, and of those that pay by payer. */
  readonly #owned = new Map<string, number>()
  readonly #maxSeries: number
  readonly #now: () => number

  constructor(maxSeries = MAX_SERIES, now: () => number = () => performance.now()) {
    this.#maxSeries = maxSeries
    this.#now = now
  }

  /** Label sets kept now. */
  get size(): number {
    return this.#series.size
  }

  /** Counts a request that is over. Hot: once a request. */
  add(source: RequestSource, service: CalledService | undefined, record: RequestRecord): void {
    const series = this.#seriesOf(source, service, record)
    series.requests += 1
    series.changedAt = this.#now()
    for (let at = 0; at < HISTOGRAMS.length; at += 1) {
      const histogram = HISTOGRAMS[at]
      if (histogram === undefined) continue
      const value = histogram.valueOf(record)
      let bucket = 0
      while (bucket < histogram.bounds.length && value > (histogram.bounds[bucket] ?? 0))
        bucket += 1
      const first = at * SLOTS
      series.slots[first + bucket] = (series.slots[first + bucket] ?? 0) + 1
      series.slots[first + SLOTS - 1] = (series.slots[first + SLOTS - 1] ?? 0) + value
    }
  }

  /** Whether there may be something for sweep() to end. */
  get hasIdle(): boolean {
    const before = this.#now() - ENDED_SERIES_MS
    for (const { changedAt } of this.#series.values()) if (changedAt <= before) return true
    return false
  }

  /** Ends the series of which an end is gone and that have not changed for ENDED_SERIES_MS; says how many. */
  sweep(living: LivingEnds): number {
    const before = this.#now() - ENDED_SERIES_MS
    let ended = 0
    for (const [labels, series] of this.#series) {
      if (series.changedAt > before || isLiving(series, living)) continue
      this.#series.delete(labels)
      this.#count(series.owners, -1)
      ended += 1
    }
    // What it leads to may be gone.
    if (ended > 0) this.#byKey.clear()
    return ended
  }

  families(): readonly MetricFamily[] {
    const requests: MetricFamily = {
      name: 'istio_requests_total',
      help: 'Requests.',
      type: 'counter',
      samples: this.#requests(),
    }
    const histograms = HISTOGRAMS.map(({ name, help, bounds }, at) => ({
      name,
      help,
      type: 'histogram' as const,
      samples: this.#histogram(name, bounds, at * SLOTS),
    }))
    return [requests, ...histograms]
  }

  *#requests(): Generator<MetricSample, void, undefined> {
    for (const { labels, requests } of this.#series.values())
      yield { name: 'istio_requests_total', labels, value: requests }
  }

  *#histogram(
    name: string,
    bounds: readonly number[],
    first: number,
  ): Generator<MetricSample, void, undefined> {
    for (const { labels, slots, requests } of this.#series.values()) {
      let count = 0
      for (const [place, bound] of bounds.entries()) {
        count += slots[first + place] ?? 0
        yield { name: `${name}_bucket`, labels: `${labels},le="${bound}"`, value: count }
      }
      yield { name: `${name}_bucket`, labels: `${labels},le="+Inf"`, value: requests }
      yield { name: `${name}_sum`, labels, value: slots[first + SLOTS - 1] ?? 0 }
      yield { name: `${name}_count`, labels, value: requests }
    }
  }

  #seriesOf(
    source: RequestSource,
    service: CalledService | undefined,
    record: RequestRecord,
  ): Series {
    const destination = record.endpoint?.workload
    const key = `${source.workload?.uid ?? ''}|${source.identity ?? ''}|${service?.key ?? ''}|${destination?.uid ?? ''}|${record.status}|${record.flag}|${record.isGrpc ? (record.grpcStatus ?? 'grpc') : ''}`
    const known = this.#byKey.get(key)
    if (known !== undefined) return known
    const series = this.#find(
      partyOf(source.workload, source.identity),
      partyOf(destination, destination && provenIdentity(destination)),
      service,
      record,
    )
    if (this.#byKey.size >= this.#maxSeries * KEYS_PER_SERIES) this.#byKey.clear()
    this.#byKey.set(key, series)
    return series
  }

  #find(source: Party, destination: Party, service: CalledService | undefined, told: Told): Series {
    const labels = labelsOf(source, destination, service, told)
    const known = this.#series.get(labels)
    if (known !== undefined) return known
    const owners = this.#room(labelsOf(source, destination, service, NOTHING_TOLD), [
      `from ${keyOf(source) ?? source.identity ?? ''}`,
      `to ${keyOf(destination) ?? service?.hostname ?? ''}`,
    ])
    if (owners !== undefined) {
      this.#count(owners, 1)
      const about: About = {
        source: keyOf(source),
        destination: keyOf(destination),
        service: service?.hostname,
      }
      return this.#begin(labels, about, owners)
    }
    // The classes of answers are few, and what an operator looks for first.
    const status = Math.floor(told.status / 100) * 100
    const shared = labelsOf(UNKNOWN_PARTY, UNKNOWN_PARTY, undefined, {
      status,
      flag: 'unknown',
      isGrpc: false,
      grpcStatus: undefined,
    })
    return this.#series.get(shared) ?? this.#begin(shared, NOBODY, undefined)
  }

  /** Who pays for another label set of a pair; undefined: there is no room for it. */
  #room(pair: string, both: readonly string[]): Owners | undefined {
    const left = this.#maxSeries - this.#series.size
    if (left <= 0) return undefined
    if ((this.#owned.get(pair) ?? 0) < USUAL_ANSWERS) return { pair, payers: [] }
    const isModest = both.every((payer) => (this.#owned.get(payer) ?? 0) < left / 2)
    return isModest ? { pair, payers: both } : undefined
  }

  #count(owners: Owners | undefined, change: 1 | -1): void {
    if (owners === undefined) return
    for (const owner of [owners.pair, ...owners.payers]) {
      const count = (this.#owned.get(owner) ?? 0) + change
      if (count > 0) this.#owned.set(owner, count)
      else this.#owned.delete(owner)
    }
  }

  #begin(labels: string, about: About, owners: Owners | undefined): Series {
    const slots = new Float64Array(SLOTS * HISTOGRAMS.length)
    const series: Series = { ...about, owners, labels, requests: 0, slots, changedAt: 0 }
    this.#series.set(labels, series)
    return series
  }
}

/** Of a pair, whatever it says. */
const NOTHING_TOLD: Told = { status: 0, flag: '', isGrpc: false, grpcStatus: undefined }

/** What the client was told. */
type Told = Pick<RequestRecord, 'status' | 'isGrpc' | 'grpcStatus'> & { readonly flag: string }

/** Whose name nobody knows may be anybody. */
function keyOf({ labels, namespace }: Party): string | undefined {
  return labels && partyKey(namespace, labels.workloadName, labels.canonicalRevision)
}

function isLiving(
  { source, destination, service }: About,
  { workloads, services }: LivingEnds,
): boolean {
  return (
    (source === undefined || workloads.has(source)) &&
    (destination === undefined || workloads.has(destination)) &&
    (service === undefined || services.has(service))
  )
}

function labelsOf(
  source: Party,
  destination: Party,
  service: CalledService | undefined,
  { status, flag, isGrpc, grpcStatus }: Told,
): string {
  const about = {
    direction: 'inbound' as const,
    startedAt: 0,
    source,
    sourceAddress: undefined,
    destination,
    destinationAddress: undefined,
    hboneTarget: undefined,
    service,
    security: securityOf(source),
  }
  return labelText({
    ...trafficLabels(about, flag, 'mutual_tls'),
    reporter: 'waypoint',
    request_protocol: isGrpc ? 'grpc' : 'http',
    response_code: status,
    ...(grpcStatus !== undefined && { grpc_response_status: grpcStatus }),
  })
}
