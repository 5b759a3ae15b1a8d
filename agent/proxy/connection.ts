// SPDX-License-Identifier: Apache-2.0
// One connection of one pod while it runs. Each step says what it adds to what is known; whatever way it ends, `finish` writes
// the record, line and metrics, exactly once.

import { isOnRecord } from '../../mesh/audit/connection-audit.ts'
import { Cut, type CutSignal } from '../../mesh/async/cut.ts'
import type { Drain } from '../../mesh/async/drain.ts'
import type { Listed } from '../../mesh/async/roster.ts'
import type { SocketAddress, SpiffeId } from '../../mesh/model/types.ts'
import { accessLevel } from '../../mesh/telemetry/access-line.ts'
import {
  type ByteCounts,
  type ConnectionAbout,
  type ConnectionRecord,
  type DecidedBy,
  flagOf,
  type PolicyReports,
} from '../../mesh/telemetry/connection-record.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { LogBudget } from '../../mesh/telemetry/log-budget.ts'
import type { Metered } from '../../mesh/relay/relay-result.ts'
import type { AccessLog } from './access-log.ts'
import type { InboundCall, Permit, Refusal } from './admission.ts'
import type { OutboundCall } from './decision/network-judge.ts'
import type { LocalPod } from './local-pod.ts'
import type { PodAudit, PodAuditEvents } from './pod-audit.ts'
import type { TrafficCounters } from './traffic-counters.ts'

/** Where the records of a worker go. */
export interface RecordSinks {
  readonly accessLog: AccessLog
  readonly counters: TrafficCounters
  /** Takes what goes on record of a pod. */
  readonly postAudit: (pod: LocalPod, events: PodAuditEvents) => void
}

/** Who looks on while a pod's connections come to stand, and end. */
export interface Witness {
  readonly opened: (connection: Connection) => void
  readonly ended: (
    connection: Connection,
    reason: EndReason,
    message: string | undefined,
    by: DecidedBy | undefined,
  ) => void
}

/** What connections of one pod share: where they are filed while they run. */
export interface Folder {
  readonly sinks: RecordSinks
  /** Bounds the lines the pod can cause. */
  readonly accessBudget: LogBudget
  readonly audit: Pick<PodAudit, 'record'>
  readonly drain: Drain<Connection>
  /** While a call of the pod is being tried. */
  readonly witness?: Witness | undefined
}

/** What the decision adds, or a next one replaces. */
export type Decided = Pick<
  ConnectionAbout,
  'source' | 'destination' | 'destinationAddress' | 'hboneTarget' | 'service' | 'security'
>

const NO_BYTES: ByteCounts = { bytesToUpstream: 0, bytesToDownstream: 0 }

export class Connection {
  readonly #filed: Folder
  readonly #startedAt = performance.now()
  /** One of its own: on a signal shared by thousands, each listener's coming and going walks the list of all. */
  readonly #cut: Cut
  /** What the app asked for, of one that the pod makes: where it leads may be another address. */
  readonly #asked: SocketAddress | undefined
  #about: ConnectionAbout
  #call: InboundCall | undefined
  #outboundCall: OutboundCall | undefined
  #permit: Permit | undefined
  /** Why it was cut, where a rule or a policy did. */
  #refusal: Refusal | undefined
  #reports: PolicyReports | undefined
  #running: Metered | undefined
  /** What the metrics have been told already. */
  #reported: ByteCounts = NO_BYTES
  /** Among those of its folder. */
  listed: Listed | undefined
  #isOpened = false
  #isFinished = false

  /**
   * Files the connection under its pod. The inbound end of a call inside the node is `carriedWith` its outbound end: they are two
   * records of one connection, and who cuts one cuts it.
   */
  constructor(about: Omit<ConnectionAbout, 'startedAt'>, filed: Folder, carriedWith?: Connection) {
    this.#about = { ...about, startedAt: performance.timeOrigin + this.#startedAt }
    this.#asked = about.direction === 'outbound' ? about.destinationAddress : undefined
    this.#filed = filed
    this.#cut = carriedWith === undefined ? new Cut() : carriedWith.#cut
    filed.drain.enter(this)
  }

  get about(): ConnectionAbout {
    return this.#about
  }

  /** The address that was called, as whoever calls sees it. */
  get called(): SocketAddress | undefined {
    return this.#asked ?? this.#about.hboneTarget ?? this.#about.destinationAddress
  }

  /** As it asked to be let in; undefined for one that the pod makes, or that was not let in. */
  get call(): InboundCall | undefined {
    return this.#call
  }

  /** As its pod may make it; undefined for one into the pod. */
  get outboundCall(): OutboundCall | undefined {
    return this.#outboundCall
  }

  /** Its pod may make it: filed in the turn in which that was asked, so that no change falls between. */
  allowedOut(call: OutboundCall): void {
    this.#outboundCall = call
  }

  /** Cuts the connection; its reason is the end reason. */
  get signal(): CutSignal {
    return this.#cut
  }

  /** Says whether this call was the one that cut it. */
  cut(reason: EndReason, refusal?: Refusal): boolean {
    if (this.#cut.aborted) return false
    this.#refusal = refusal
    this.#cut.abort(reason)
    return true
  }

  /** A rule that has changed forbids it now; says whether that cut it. */
  forbid(refusal: Refusal): boolean {
    // It was let in: that is another thing to look for than a call that was turned away.
    const reason = refusal.reason === 'policyDenied' ? 'policyChanged' : refusal.reason
    return this.cut(reason, { ...refusal, reason })
  }

  /** It was decided where it leads. */
  decided(step: Decided): void {
    this.#about = { ...this.#about, ...step }
  }

  /** It may be carried; the permit is given back at its end. */
  admitted(permit: Permit, call?: InboundCall): void {
    this.#permit = permit
    this.#call = call
    permit.heldBy(this)
  }

  /** What policies that are not enforced say of it. */
  reported(reports: PolicyReports | undefined): void {
    this.#reports = reports
  }

  /** Both legs stand: the connection counts as opened. */
  opened(peerIdentity: SpiffeId | undefined): void {
    if (peerIdentity !== undefined && this.#about.direction === 'outbound')
      this.#about = {
        ...this.#about,
        destination: { ...this.#about.destination, identity: peerIdentity },
        security: 'mutual_tls',
      }
    this.#isOpened = true
    const { counters, accessLog } = this.#filed.sinks
    counters.opened(this.#about)
    if (accessLog.isEnabled('debug')) accessLog.opened(this.#about)
    this.#filed.witness?.opened(this)
  }

  /** Takes the running connection, to read its bytes. */
  metered(running: Metered): void {
    this.#running = running
  }

  /** Adds what has passed since the last call to the metrics; a connection may last for days. */
  reportTraffic(): void {
    const counts = this.#running?.counts()
    if (counts !== undefined) this.#filed.sinks.counters.carried(this.#about, this.#new(counts))
  }

  /** What the metrics have not been told yet. */
  #new(counts: ByteCounts): ByteCounts {
    const before = this.#reported
    this.#reported = counts
    return {
      bytesToDownstream: counts.bytesToDownstream - before.bytesToDownstream,
      bytesToUpstream: counts.bytesToUpstream - before.bytesToUpstream,
    }
  }

  /** Writes the record. Only the first call counts. */
  finish(end: EndReason, bytes: ByteCounts, message?: string, by?: DecidedBy): void {
    if (this.#isFinished) return
    this.#isFinished = true
    this.#permit?.release()
    this.#filed.drain.leave(this)
    const { counters } = this.#filed.sinks
    if (this.#isOpened) counters.closed(this.#about, flagOf(end), this.#new(bytes))
    else counters.failed(this.#about, flagOf(end))
    // What it was cut for, unless it had ended otherwise just before.
    const cutFor = this.#refusal?.reason === end ? this.#refusal : undefined
    this.#log(end, bytes, message ?? cutFor?.message, by ?? cutFor?.by)
    this.#filed.witness?.ended(this, end, message ?? cutFor?.message, by ?? cutFor?.by)
  }

  /** Ends a connection that never carried a byte. */
  fail(end: EndReason, message?: string, by?: DecidedBy): void {
    this.finish(end, NO_BYTES, message, by)
  }

  #log(
    end: EndReason,
    bytes: ByteCounts,
    message: string | undefined,
    by: DecidedBy | undefined,
  ): void {
    const level = accessLevel(end)
    const { sinks, accessBudget } = this.#filed
    const log = sinks.accessLog
    const isLoud = log.isEnabled(level)
    // A filter has to see the record, which is not put together where nobody wants it.
    const asksFilter = isLoud && log.isFiltered
    const line = isLoud && !asksFilter ? log.take(level, accessBudget) : undefined
    const { direction } = this.#about
    const onRecord = isOnRecord({ direction, end, reports: this.#reports, policy: by?.policy })
    if (line === undefined && !asksFilter && !onRecord) return
    const record: ConnectionRecord = {
      ...this.#about,
      ...bytes,
      durationMs: performance.now() - this.#startedAt,
      end,
      message,
      policy: by?.policy,
      rule: by?.rule,
      madeOf: by?.madeOf,
      reports: this.#reports,
    }
    if (onRecord) this.#filed.audit.record(record)
    const missing = asksFilter && log.passes(record) ? log.take(level, accessBudget) : line
    if (missing !== undefined) log.write(level, record, missing)
  }
}
