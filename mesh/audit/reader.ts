// SPDX-License-Identifier: Apache-2.0
// Reads a journal from some entry on, and goes on with it. It holds a place, not a queue: a reader who is slower than the journal
// finds lines gone, and is told how many.

import { Readable } from 'node:stream'
import { auditLine } from './event.ts'
import type { AuditJournal } from './journal.ts'

export interface AuditQuery {
  /** Entries of this namespace alone. */
  readonly namespace: string | undefined
  /** Entries of this time (milliseconds since the epoch) and later; all that are kept when undefined. */
  readonly since: number | undefined
  /** Goes on with new entries until it is destroyed. */
  readonly follow: boolean
}

/** The lines that the query asks for, each with its line feed. */
export class AuditReader extends Readable {
  readonly #journal: AuditJournal
  readonly #query: AuditQuery
  #at: number
  #isWanted = false
  #unsubscribe: (() => void) | undefined

  constructor(journal: AuditJournal, query: AuditQuery) {
    super({ encoding: 'utf8' })
    this.#journal = journal
    this.#query = query
    this.#at = query.since === undefined ? journal.first : journal.since(query.since)
    if (query.follow) this.#unsubscribe = journal.subscribe(() => this.#more())
  }

  override _read(): void {
    this.#isWanted = true
    this.#more()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#unsubscribe?.()
    done(error)
  }

  #more(): void {
    const { first, next } = this.#journal
    while (this.#isWanted && this.#at < next) {
      if (this.#at < first) {
        this.#isWanted = this.push(`${this.#missed(first - this.#at)}\n`)
        this.#at = first
        continue
      }
      const entry = this.#journal.at(this.#at)
      this.#at += 1
      const { namespace } = this.#query
      if (entry !== undefined && (namespace === undefined || entry.namespace === namespace))
        this.#isWanted = this.push(`${entry.line}\n`)
    }
    if (!this.#query.follow && this.#at >= next) this.push(null)
  }

  #missed(count: number): string {
    return auditLine({
      kind: 'leftOut',
      time: Date.now(),
      namespace: this.#query.namespace ?? '',
      who: 'the reader',
      what: 'lines of the audit',
      why: 'they came faster than they were read',
      details: { leftOut: count },
    })
  }
}
