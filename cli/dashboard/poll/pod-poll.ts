// SPDX-License-Identifier: Apache-2.0
// One pod of the mesh, asked for its config dump, its metrics and its audit; remembers what it told last, and since when it cannot be
// asked. Part of an answer is used: one whose audit is garbage still has metrics.

import { errorMessage } from '../../../mesh/errors.ts'
import { parseJson } from '../../../mesh/json.ts'
import type { Result } from '../../../mesh/result.ts'
import { readAudit } from '../model/audit.ts'
import { CounterWindow } from '../model/counter-window.ts'
import type { TrafficCounts } from '../model/traffic-series.ts'
import type { AuditView } from '../view.ts'
import type { AgentClient } from './agent-client.ts'

export const ADMIN_PORT = 15_000
const METRICS_PORT = 15_020
const MEBIBYTE = 1024 * 1024
/** 20,000 series of five metrics are some 60 MB. */
const MOST_BYTES = { metrics: 96 * MEBIBYTE, audit: 16 * MEBIBYTE }
/** The first look at the audit goes back this far. */
const AUDIT_MS = 3_600_000
/** Between tries of a pod that cannot be asked: doubled each time, so that those that hang do not keep the others waiting. */
const RETRY_MS = { first: 2_000, most: 60_000 }

export interface PollOptions {
  readonly intervalMs: number
  readonly windowMs: number
  /** For each answer. */
  readonly deadlineMs: number
  readonly now: () => number
}

/** What is asked of one kind of pod, and how its answers are read. */
interface PollForm<F> {
  readonly dump: { readonly path: string; readonly mostBytes: number }
  readonly readFacts: (dump: unknown) => Result<F, string>
  readonly readTraffic: (exposition: string) => TrafficCounts
}

/** What it has told last. */
interface Seen<F> {
  readonly answeredAt: number | undefined
  readonly silent: { readonly since: number; readonly reason: string } | undefined
  readonly facts: F | undefined
  readonly totals: TrafficCounts
  readonly rates: TrafficCounts
}

export class PodPoll<F> {
  readonly #client: AgentClient
  readonly #options: PollOptions
  readonly #form: PollForm<F>
  readonly #window: CounterWindow
  #facts: F | undefined
  #answeredAt: number | undefined
  #silent: Seen<F>['silent']
  #failures = 0
  #dueAt = 0
  #auditSince: string
  #isAsked = false

  constructor(client: AgentClient, options: PollOptions, form: PollForm<F>) {
    this.#client = client
    this.#options = options
    this.#form = form
    this.#window = new CounterWindow(options.windowMs)
    this.#auditSince = new Date(options.now() - AUDIT_MS).toISOString()
  }

  /** Whether it is to be asked now. */
  get isDue(): boolean {
    return !this.#isAsked && this.#options.now() >= this.#dueAt
  }

  get isSilent(): boolean {
    return this.#silent !== undefined
  }

  get facts(): F | undefined {
    return this.#facts
  }

  /** Asks it; gives what is new in its audit. Never throws. */
  async poll(): Promise<readonly AuditView[]> {
    this.#isAsked = true
    const startedAt = this.#options.now()
    const audit: AuditView[] = []
    try {
      const failure =
        (await this.#askFacts()) ?? (await this.#askMetrics()) ?? (await this.#askAudit(audit))
      this.#note(failure, startedAt)
    } catch (thrown) {
      this.#note(errorMessage(thrown), startedAt)
    } finally {
      this.#isAsked = false
    }
    return audit
  }

  async ask(port: number, path: string, mostBytes: number): Promise<Result<string, string>> {
    return await this.#client.ask({ port, path, mostBytes, deadlineMs: this.#options.deadlineMs })
  }

  seen(): Seen<F> {
    return {
      answeredAt: this.#answeredAt,
      silent: this.#silent,
      facts: this.#facts,
      totals: this.#window.totals,
      rates: this.#window.rates(this.#options.now()),
    }
  }

  close(): void {
    this.#client.close()
  }

  async #askFacts(): Promise<string | undefined> {
    const { dump, readFacts } = this.#form
    const answer = await this.ask(ADMIN_PORT, dump.path, dump.mostBytes)
    if (!answer.ok) return answer.error
    const json = parseJson(answer.value)
    const facts = json.ok ? readFacts(json.value) : json
    if (!facts.ok) return facts.error
    this.#facts = facts.value
    return undefined
  }

  async #askMetrics(): Promise<string | undefined> {
    const answer = await this.ask(METRICS_PORT, '/metrics', MOST_BYTES.metrics)
    if (!answer.ok) return answer.error
    this.#window.push(this.#options.now(), this.#form.readTraffic(answer.value))
    return undefined
  }

  async #askAudit(events: AuditView[]): Promise<string | undefined> {
    const path = `/audit?since=${encodeURIComponent(this.#auditSince)}`
    const answer = await this.ask(ADMIN_PORT, path, MOST_BYTES.audit)
    if (!answer.ok) return answer.error
    for (const line of answer.value.split('\n')) {
      const event = line === '' ? undefined : readAudit(line)
      if (event === undefined) continue
      events.push(event)
      // By the pod's own clock; what is of the same millisecond is read again.
      if (event.time > this.#auditSince) this.#auditSince = event.time
    }
    return undefined
  }

  #note(failure: string | undefined, startedAt: number): void {
    const now = this.#options.now()
    if (failure === undefined) {
      this.#answeredAt = now
      this.#silent = undefined
      this.#failures = 0
      // One that takes its time to answer is asked less often: at most a fifth of its time is for us.
      this.#dueAt = Math.max(startedAt + this.#options.intervalMs, now + 4 * (now - startedAt))
      return
    }
    this.#silent = { since: this.#silent?.since ?? now, reason: failure }
    this.#dueAt = now + Math.min(RETRY_MS.most, RETRY_MS.first * 2 ** this.#failures)
    this.#failures += 1
  }
}
