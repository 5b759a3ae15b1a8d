// SPDX-License-Identifier: Apache-2.0
// One agent, asked for its metrics, its own part of the config dump and its audit; remembers what it told last, and since when it cannot
// be asked. Part of an answer is used: an agent whose audit is garbage still has metrics.

import { errorMessage } from '../../../mesh/errors.ts'
import { parseJson } from '../../../mesh/json.ts'
import { err, type Result } from '../../../mesh/result.ts'
import type { AgentPod } from '../../cluster/agents.ts'
import { readAudit } from '../model/audit.ts'
import { CounterWindow } from '../model/counter-window.ts'
import { type LocalFacts, readLocalFacts } from '../model/local-facts.ts'
import { type MeshFacts, readMeshFacts } from '../model/mesh-facts.ts'
import type { AgentSnapshot } from '../model/snapshot.ts'
import { readTraffic } from '../model/traffic-series.ts'
import type { AuditView } from '../view.ts'
import type { AgentClient } from './agent-client.ts'

const ADMIN_PORT = 15_000
const METRICS_PORT = 15_020
const MEBIBYTE = 1024 * 1024
/** 20,000 series of five metrics are some 60 MB. */
const MOST_BYTES = {
  metrics: 96 * MEBIBYTE,
  local: 64 * MEBIBYTE,
  mesh: 512 * MEBIBYTE,
  audit: 16 * MEBIBYTE,
}
/** The first look at the audit goes back this far. */
const AUDIT_MS = 3_600_000
/** Between tries of an agent that cannot be asked: doubled each time, so that those that hang do not keep the others waiting. */
const RETRY_MS = { first: 2_000, most: 60_000 }

export interface PollOptions {
  readonly intervalMs: number
  readonly windowMs: number
  /** For each answer. */
  readonly deadlineMs: number
  readonly now: () => number
}

export class AgentPoll {
  pod: AgentPod
  readonly #client: AgentClient
  readonly #options: PollOptions
  readonly #window: CounterWindow
  #facts: LocalFacts | undefined
  #answeredAt: number | undefined
  #silent: { readonly since: number; readonly reason: string } | undefined
  #failures = 0
  #dueAt = 0
  #auditSince: string
  #isAsked = false

  constructor(pod: AgentPod, client: AgentClient, options: PollOptions) {
    this.pod = pod
    this.#client = client
    this.#options = options
    this.#window = new CounterWindow(options.windowMs)
    this.#auditSince = new Date(options.now() - AUDIT_MS).toISOString()
  }

  /** Whether it is to be asked now. */
  get isDue(): boolean {
    return !this.#isAsked && this.#options.now() >= this.#dueAt
  }

  get meshDigest(): string | undefined {
    return this.#silent === undefined ? this.#facts?.meshDigest : undefined
  }

  /** Asks it; gives what is new in its audit. Never throws. */
  async poll(): Promise<readonly AuditView[]> {
    this.#isAsked = true
    const startedAt = this.#options.now()
    const audit: AuditView[] = []
    try {
      const failure =
        (await this.#askLocal()) ?? (await this.#askMetrics()) ?? (await this.#askAudit(audit))
      this.#note(failure, startedAt)
    } catch (thrown) {
      this.#note(errorMessage(thrown), startedAt)
    } finally {
      this.#isAsked = false
    }
    return audit
  }

  /** What the control plane has told it. */
  async askMesh(): Promise<Result<MeshFacts, string>> {
    const answer = await this.#ask(ADMIN_PORT, '/config_dump', MOST_BYTES.mesh)
    if (!answer.ok) return answer
    const json = parseJson(answer.value)
    return json.ok ? readMeshFacts(json.value) : err(json.error)
  }

  snapshot(): AgentSnapshot {
    return {
      ...this.pod,
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

  async #askLocal(): Promise<string | undefined> {
    const answer = await this.#ask(ADMIN_PORT, '/config_dump?local', MOST_BYTES.local)
    if (!answer.ok) return answer.error
    const json = parseJson(answer.value)
    const facts = json.ok ? readLocalFacts(json.value) : json
    if (!facts.ok) return facts.error
    this.#facts = facts.value
    return undefined
  }

  async #askMetrics(): Promise<string | undefined> {
    const answer = await this.#ask(METRICS_PORT, '/metrics', MOST_BYTES.metrics)
    if (!answer.ok) return answer.error
    this.#window.push(this.#options.now(), readTraffic(answer.value))
    return undefined
  }

  async #askAudit(events: AuditView[]): Promise<string | undefined> {
    const path = `/audit?since=${encodeURIComponent(this.#auditSince)}`
    const answer = await this.#ask(ADMIN_PORT, path, MOST_BYTES.audit)
    if (!answer.ok) return answer.error
    for (const line of answer.value.split('\n')) {
      const event = line === '' ? undefined : readAudit(line)
      if (event === undefined) continue
      events.push(event)
      // By the agent's own clock; what is of the same millisecond is read again.
      if (event.time > this.#auditSince) this.#auditSince = event.time
    }
    return undefined
  }

  async #ask(port: number, path: string, mostBytes: number): Promise<Result<string, string>> {
    return await this.#client.ask({ port, path, mostBytes, deadlineMs: this.#options.deadlineMs })
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
