// SPDX-License-Identifier: Apache-2.0
// TCP metrics inside a worker: adds up per label set and hands the sums over in batches, so that the registry
// lives on the main thread and a connection costs the worker two map look-ups.

import type { Workload } from '../../mesh/model/types.ts'
import type { ConnectionFacts, Party, Reporter } from './connection.ts'

/** The label names of Istio's TCP metrics, in full. */
export const TRAFFIC_LABELS = [
  'reporter',
  'source_workload',
  'source_canonical_service',
  'source_canonical_revision',
  'source_workload_namespace',
  'source_principal',
  'source_app',
  'source_version',
  'source_cluster',
  'source_region',
  'source_zone',
  'destination_service',
  'destination_service_namespace',
  'destination_service_name',
  'destination_workload',
  'destination_canonical_service',
  'destination_canonical_revision',
  'destination_workload_namespace',
  'destination_principal',
  'destination_app',
  'destination_version',
  'destination_cluster',
  'destination_region',
  'destination_zone',
  'request_protocol',
  'response_flags',
  'connection_security_policy',
] as const

export type TrafficLabels = Readonly<Record<(typeof TRAFFIC_LABELS)[number], string>>

/** What changed for one label set since the last batch. */
export interface TrafficDelta {
  readonly labels: TrafficLabels
  opened: number
  closed: number
  failed: number
  /** Response bytes, for both reporters. */
  sentBytes: number
  /** Request bytes, for both reporters. */
  receivedBytes: number
}

/** How long sums wait for company; metrics are scraped in tens of seconds. No timer runs while nothing changes. */
const FLUSH_AFTER_MS = 500

export class TrafficCounters {
  #pending = new Map<string, TrafficDelta>()
  #timer: NodeJS.Timeout | undefined
  readonly #deliver: (deltas: readonly TrafficDelta[]) => void

  constructor(deliver: (deltas: readonly TrafficDelta[]) => void) {
    this.#deliver = deliver
  }

  opened(facts: ConnectionFacts): void {
    for (const reporter of facts.reporters) this.#delta(facts, reporter, '-').opened += 1
  }

  closed(facts: ConnectionFacts, flag: string, sentBytes: number, receivedBytes: number): void {
    for (const reporter of facts.reporters) {
      const delta = this.#delta(facts, reporter, flag)
      delta.closed += 1
      delta.sentBytes += sentBytes
      delta.receivedBytes += receivedBytes
    }
  }

  /** Bytes of a connection that goes on. */
  carried(facts: ConnectionFacts, flag: string, sentBytes: number, receivedBytes: number): void {
    if (sentBytes === 0 && receivedBytes === 0) return
    for (const reporter of facts.reporters) {
      const delta = this.#delta(facts, reporter, flag)
      delta.sentBytes += sentBytes
      delta.receivedBytes += receivedBytes
    }
  }

  failed(facts: ConnectionFacts, flag: string): void {
    for (const reporter of facts.reporters) this.#delta(facts, reporter, flag).failed += 1
  }

  /** Hands over what has gathered. */
  flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#pending.size === 0) return
    const deltas = [...this.#pending.values()]
    this.#pending = new Map()
    this.#deliver(deltas)
  }

  #delta(facts: ConnectionFacts, reporter: Reporter, flag: string): TrafficDelta {
    const key = seriesKey(facts, reporter, flag)
    let delta = this.#pending.get(key)
    if (delta === undefined) {
      delta = {
        labels: trafficLabels(facts, reporter, flag),
        opened: 0,
        closed: 0,
        failed: 0,
        sentBytes: 0,
        receivedBytes: 0,
      }
      this.#pending.set(key, delta)
      this.#timer ??= setTimeout(() => this.flush(), FLUSH_AFTER_MS).unref()
    }
    return delta
  }
}

function seriesKey(
  { source, destination, service, isMutualTls }: ConnectionFacts,
  reporter: Reporter,
  flag: string,
): string {
  return `${reporter}|${partyKey(source)}|${partyKey(destination)}|${service?.key ?? ''}|${isMutualTls}|${flag}`
}

function partyKey({ workload, pod, identity }: Party): string {
  return `${workload?.uid ?? pod?.uid ?? ''}#${identity ?? ''}`
}

/** The full label set of a connection; what is not known is `unknown`, as in Istio. */
export function trafficLabels(
  facts: ConnectionFacts,
  reporter: Reporter,
  flag: string,
): TrafficLabels {
  const { source, destination, service } = facts
  return {
    reporter,
    source_workload: workloadLabel(source),
    source_canonical_service: text(source.workload?.canonicalName),
    source_canonical_revision: text(source.workload?.canonicalRevision),
    source_workload_namespace: text(source.pod?.namespace ?? source.workload?.namespace),
    source_principal: text(source.identity),
    source_app: text(source.workload?.canonicalName),
    source_version: text(source.workload?.canonicalRevision),
    source_cluster: text(source.workload?.clusterId),
    source_region: text(source.workload?.locality.region),
    source_zone: text(source.workload?.locality.zone),
    destination_service: text(service?.hostname),
    destination_service_namespace: text(service?.namespace),
    destination_service_name: text(service?.name),
    destination_workload: workloadLabel(destination),
    destination_canonical_service: text(destination.workload?.canonicalName),
    destination_canonical_revision: text(destination.workload?.canonicalRevision),
    destination_workload_namespace: text(
      destination.pod?.namespace ?? destination.workload?.namespace,
    ),
    destination_principal: text(destination.identity),
    destination_app: text(destination.workload?.canonicalName),
    destination_version: text(destination.workload?.canonicalRevision),
    destination_cluster: text(destination.workload?.clusterId),
    destination_region: text(destination.workload?.locality.region),
    destination_zone: text(destination.workload?.locality.zone),
    request_protocol: 'tcp',
    response_flags: flag,
    connection_security_policy: facts.isMutualTls ? 'mutual_tls' : 'unknown',
  }
}

function text(value: string | undefined): string {
  return value === undefined || value === '' ? 'unknown' : value
}

/** The owner's name (the Deployment's, say), so that series do not multiply with every pod. */
function workloadLabel({
  workload,
  pod,
}: {
  workload: Workload | undefined
  pod: { name: string } | undefined
}): string {
  return text(workload?.workloadName ?? pod?.name)
}
