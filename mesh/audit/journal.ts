// SPDX-License-Identifier: Apache-2.0
// The audit of one process: writes each event as a line of the log, and keeps the last ones for whoever asks. Bounded whoever
// causes how many: each owner has a budget, and what it exceeds is counted and told.

import type { BucketSize, MonotonicClock } from '../async/bucket.ts'
import { KeyedBuckets } from '../async/keyed-buckets.ts'
import { type AuditEvent, auditLine } from './event.ts'

/** Lines that one owner may cause: enough for a person to read, and no flood that hides the others'. */
const AUDIT_LINES: BucketSize = { burst: 200, perSecond: 10 }
/** What is kept for those who ask: some 2 MB. */
const KEPT_LINES = 4_096
/** How long left-out lines may stay untold, when no other line of their owner comes. */
const TELL_LEFT_OUT_MS = 10_000
/** Owners with untold lines; of more than these it is told that there were some. */
const MAX_OWNERS = 1_000
const OTHERS = ''

/** A line that is kept. */
export interface AuditEntry {
  /** One more than the one before. */
  readonly sequence: number
  readonly time: number
  readonly namespace: string
  readonly line: string
}

export interface AuditJournalOptions {
  /** Takes each line, for the process's log. */
  readonly write: (line: string) => void
  readonly budget?: BucketSize
  readonly keptLines?: number
  readonly now?: MonotonicClock
}

export class AuditJournal {
  readonly #write: (line: string) => void
  readonly #budgets: KeyedBuckets
  readonly #kept: AuditEntry[] = []
  readonly #keptLines: number
  readonly #leftOut = new Map<string, { count: number; readonly namespace: string }>()
  readonly #listeners = new Set<() => void>()
  #telling: NodeJS.Timeout | undefined
  #next = 0

  constructor({ write, budget = AUDIT_LINES, keptLines = KEPT_LINES, now }: AuditJournalOptions) {
    this.#write = write
    this.#keptLines = keptLines
    this.#budgets = new KeyedBuckets(budget, now)
  }

  /** The number of the next entry. */
  get next(): number {
    return this.#next
  }

  /** The number of the oldest entry that is kept. */
  get first(): number {
    return Math.max(0, this.#next - this.#keptLines)
  }

  /**
   * Puts an event on record, at the expense of `owner` (a pod, an account): beyond its budget it is counted only. Without an owner
   * it always is: for what the mesh's own components do. `more` is how many events whoever reports it has left out already.
   */
  record(owner: string | undefined, event: AuditEvent, more = 0): void {
    if (owner === undefined) {
      this.#keep(event)
      return
    }
    if (this.admits(owner, event.namespace, more)) this.recordAdmitted(owner, event, more)
  }

  /**
   * Whether the owner may cause one event more, which is then to be recorded as admitted; beyond its budget the event is counted only. For whoever
   * would not make one in vain: those who flood the audit are not to cost more than those who do not.
   */
  admits(owner: string, namespace: string, more = 0): boolean {
    if (this.#budgets.take(owner)) return true
    this.leaveOut(owner, namespace, 1 + more)
    return false
  }

  /** Puts an event on record that was admitted. */
  recordAdmitted(owner: string, event: AuditEvent, more = 0): void {
    const untold = this.#leftOut.get(owner)?.count ?? 0
    this.#leftOut.delete(owner)
    const leftOut = untold + more
    const details = leftOut === 0 ? event.details : { ...event.details, leftOut }
    this.#keep({ ...event, ...(details && { details }) })
  }

  /** Counts events of the owner that whoever reports them has left out; told with the next line, or soon. */
  leaveOut(owner: string, namespace: string, count: number): void {
    const isKnown = this.#leftOut.has(owner)
    const key = isKnown || this.#leftOut.size < MAX_OWNERS ? owner : OTHERS
    const before = this.#leftOut.get(key)
    if (before === undefined)
      this.#leftOut.set(key, { count, namespace: key === OTHERS ? '' : namespace })
    else before.count += count
    this.#telling ??= setTimeout(() => this.#tellLeftOut(), TELL_LEFT_OUT_MS).unref()
  }

  /** An entry by its number; undefined when it is not kept any more, or not there yet. */
  at(sequence: number): AuditEntry | undefined {
    if (sequence < this.first || sequence >= this.#next) return undefined
    return this.#kept[sequence % this.#keptLines]
  }

  /** The number of the first kept entry of this time (milliseconds since the epoch) or later. */
  since(time: number): number {
    let sequence = this.#next
    while (sequence > this.first && (this.at(sequence - 1)?.time ?? 0) >= time) sequence -= 1
    return sequence
  }

  /** Calls back after each new entry; returns the unsubscriber. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Tells what is untold. */
  close(): void {
    this.#tellLeftOut()
  }

  #tellLeftOut(): void {
    clearTimeout(this.#telling)
    this.#telling = undefined
    for (const [owner, { count, namespace }] of this.#leftOut)
      this.#keep({
        kind: 'leftOut',
        time: Date.now(),
        namespace,
        who: owner === OTHERS ? 'others' : owner,
        what: 'lines of the audit',
        why: 'there were more than one owner may cause',
        details: { leftOut: count },
      })
    this.#leftOut.clear()
  }

  #keep(event: AuditEvent): void {
    const { time, namespace } = event
    const line = auditLine(event)
    this.#kept[this.#next % this.#keptLines] = { sequence: this.#next, time, namespace, line }
    this.#next += 1
    this.#write(line)
    for (const listener of this.#listeners) listener()
  }
}
