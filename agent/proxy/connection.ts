// SPDX-License-Identifier: Apache-2.0
// One connection through the data plane, from accept to its single access line. Whatever way it ends, `finish`
// writes the line and the metrics exactly once; later calls do nothing.

import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { Service, SocketAddress, SpiffeId, Workload } from '../../mesh/model/types.ts'
import { END_REASONS, type EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { Logger } from '../../mesh/telemetry/log.ts'
import type { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import type { ByteCounts } from '../../mesh/relay/relay.ts'
import type { LocalPod } from './local-pod.ts'
import type { TrafficCounters } from './traffic-counters.ts'

export type Direction = 'inbound' | 'outbound'

/** One end of a connection, as far as it is known. A local pod is known even when the mesh state lags. */
export interface Party {
  readonly workload: Workload | undefined
  readonly pod: LocalPod | undefined
  /** The proven identity; undefined for plaintext. */
  readonly identity: SpiffeId | undefined
}

export const UNKNOWN_PARTY: Party = { workload: undefined, pod: undefined, identity: undefined }

/** Which sides a connection reports metrics for; a same-node relay is both proxies in one. */
export type Reporter = 'source' | 'destination'

/** The facts of a connection; the owner fills them in as they become known. */
export interface ConnectionFacts {
  readonly direction: Direction
  readonly reporters: readonly Reporter[]
  readonly sourceAddress: SocketAddress | undefined
  source: Party
  /** The address dialled: the peer's HBONE port for tunnels. */
  destinationAddress: SocketAddress | undefined
  /** The address asked for inside the tunnel. */
  hboneTarget: SocketAddress | undefined
  destination: Party
  service: Service | undefined
  isMutualTls: boolean
}

/** How a connection ended. */
export interface ConnectionEnd {
  readonly reason: EndReason
  /** More than the reason's own text, where there is more to say. */
  readonly message?: string
  readonly bytesToUpstream: number
  readonly bytesToDownstream: number
}

/** Ends that are an ordinary part of TCP or of operations: not errors of the mesh or of its configuration. */
const ORDINARY_ENDS: ReadonlySet<EndReason> = new Set([
  'ok',
  'clientReset',
  'serverReset',
  'drained',
  'podRemoved',
])

const NO_BYTES: ByteCounts = { bytesToUpstream: 0, bytesToDownstream: 0 }

/** What a connection needs to report itself. */
export interface ConnectionSinks {
  readonly accessLog: Logger
  /** Bounds the lines a pod can cause. */
  readonly accessBudget: LogBudget
  readonly counters: TrafficCounters
  /** The open connections of the pod, for the admin dump. */
  readonly open: Set<Connection>
}

/** A connection that is being served. */
export class Connection {
  readonly facts: ConnectionFacts
  readonly #sinks: ConnectionSinks
  readonly #startedAt = performance.now()
  /** One of its own: on a signal shared by thousands, each listener's coming and going walks the list of all. */
  readonly #cut = new AbortController()
  #read: (() => ByteCounts) | undefined
  /** What the metrics have been told already. */
  #reported: ByteCounts = NO_BYTES
  #isEstablished = false
  #isFinished = false

  constructor(facts: ConnectionFacts, sinks: ConnectionSinks) {
    this.facts = facts
    this.#sinks = sinks
    sinks.open.add(this)
  }

  /** Cuts the connection; its reason is the end reason. */
  get signal(): AbortSignal {
    return this.#cut.signal
  }

  cut(reason: EndReason): void {
    this.#cut.abort(reason)
  }

  /** Both legs stand: the connection counts as opened. */
  established(): void {
    this.#isEstablished = true
    this.#sinks.counters.opened(this.facts)
  }

  /** Takes the way to read the bytes of the running relay. */
  metered(read: () => ByteCounts): void {
    this.#read = read
  }

  /** Adds what has passed since the last call to the metrics; a connection may last for days. */
  reportTraffic(): void {
    const counts = this.#read?.()
    if (counts !== undefined) this.#sinks.counters.carried(this.facts, '-', ...this.#new(counts))
  }

  /** Response and request bytes that the metrics have not been told yet. */
  #new(counts: ByteCounts): readonly [sent: number, received: number] {
    const before = this.#reported
    this.#reported = counts
    return [
      counts.bytesToDownstream - before.bytesToDownstream,
      counts.bytesToUpstream - before.bytesToUpstream,
    ]
  }

  /** Writes the access line and the metrics. Only the first call counts. */
  finish(end: ConnectionEnd): void {
    if (this.#isFinished) return
    this.#isFinished = true
    this.#sinks.open.delete(this)
    const flag = END_REASONS[end.reason].flag
    if (this.#isEstablished) this.#sinks.counters.closed(this.facts, flag, ...this.#new(end))
    else this.#sinks.counters.failed(this.facts, flag)
    this.#log(end)
  }

  /** Ends a connection that never carried a byte. */
  fail(reason: EndReason, message?: string): void {
    this.finish({
      reason,
      ...(message === undefined ? {} : { message }),
      bytesToUpstream: 0,
      bytesToDownstream: 0,
    })
  }

  #log(end: ConnectionEnd): void {
    const level = ORDINARY_ENDS.has(end.reason) ? 'info' : 'error'
    const log = this.#sinks.accessLog
    if (!log.isLevelEnabled(level)) return
    const keptBack = this.#sinks.accessBudget.take()
    if (keptBack === undefined) return
    const fields = accessFields(this.facts, end, performance.now() - this.#startedAt)
    if (keptBack > 0) fields['lines_kept_back'] = keptBack
    log[level](fields, 'connection complete')
  }
}

/** The access line's fields, by Istio's names; what is unknown is left out. */
function accessFields(
  facts: ConnectionFacts,
  end: ConnectionEnd,
  durationMs: number,
): Record<string, string | number | undefined> {
  const { source, destination, direction } = facts
  // Bytes are told from the point of view of the pod whose agent writes the line.
  const isOutbound = direction === 'outbound'
  return {
    'src.addr': address(facts.sourceAddress),
    'src.workload': workloadName(source),
    'src.namespace': namespaceName(source),
    'src.identity': source.identity,
    'dst.addr': address(facts.destinationAddress),
    'dst.hbone_addr': address(facts.hboneTarget),
    'dst.service': facts.service?.hostname,
    'dst.workload': workloadName(destination),
    'dst.namespace': namespaceName(destination),
    'dst.identity': destination.identity,
    direction,
    bytes_sent: isOutbound ? end.bytesToUpstream : end.bytesToDownstream,
    bytes_recv: isOutbound ? end.bytesToDownstream : end.bytesToUpstream,
    duration: `${Math.round(durationMs)}ms`,
    error: errorText(end),
  }
}

function errorText({ reason, message }: ConnectionEnd): string | undefined {
  if (reason === 'ok') return undefined
  const { text } = END_REASONS[reason]
  return message === undefined || message === text ? text : `${text}: ${message}`
}

function address(value: SocketAddress | undefined): string | undefined {
  return value === undefined ? undefined : formatSocketAddress(value)
}

function workloadName({ workload, pod }: Party): string | undefined {
  return pod?.name ?? workload?.name
}

function namespaceName({ workload, pod }: Party): string | undefined {
  return pod?.namespace ?? workload?.namespace
}
