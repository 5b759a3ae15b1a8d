// SPDX-License-Identifier: Apache-2.0
// Finds workers that hang: captured connections of their pods are accepted by the kernel and then wait for ever, which no app can tell
// from a slow server. A worker that does not answer is ended; its pods get fresh listeners on its successor, their connections a reset.

import { inTime, LATE } from '../../../mesh/async/deadline.ts'

/** What the watchdog needs of a worker. */
export interface Watched {
  readonly index: number
  /** Resolves when the event loop of the worker came to it; rejects when the worker is gone. */
  ping(): Promise<unknown>
  /** How long its thread has waited for a CPU since it started; undefined when that cannot be told. Milliseconds. */
  cpuWaitMs(): number | undefined
  /** Ends the worker, whatever it does. */
  end(): void
}

export interface WatchdogOptions {
  readonly workers: () => readonly Watched[]
  readonly onHung: (worker: Watched, silentMs: number) => void
  /** Tests pass their own. Milliseconds. */
  readonly intervalMs?: number
  readonly silenceMs?: number
}

/** Between two looks. */
const INTERVAL_MS = 1_000
/**
 * A worker that has not come to its event loop for this long hangs: the longest turn under load is a tenth of a second. Time
 * in which it had no CPU does not count: ended for that, it would lose its connections to a machine that is merely busy.
 */
const SILENCE_MS = 5_000
/** Whoever looks this much later than intended was stopped itself (SIGSTOP, a suspended machine), and so was what it watches. */
const OWN_STALL_MS = 1_000

export class Watchdog {
  readonly #options: WatchdogOptions
  readonly #silenceMs: number
  readonly #intervalMs: number
  /** Whose answer is being waited for. */
  readonly #asked = new Set<number>()
  readonly #timer: NodeJS.Timeout

  constructor(options: WatchdogOptions) {
    this.#options = options
    this.#silenceMs = options.silenceMs ?? SILENCE_MS
    this.#intervalMs = options.intervalMs ?? INTERVAL_MS
    this.#timer = setInterval(() => this.#look(), this.#intervalMs)
    this.#timer.unref()
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    for (const worker of this.#options.workers())
      if (!this.#asked.has(worker.index)) void this.#ask(worker)
  }

  async #ask(worker: Watched): Promise<void> {
    this.#asked.add(worker.index)
    // One that is gone has been noticed by its exit.
    const answered = worker.ping().catch(() => undefined)
    const silentMs = await this.#silence(worker, answered)
    this.#asked.delete(worker.index)
    if (silentMs === undefined) return
    this.#options.onHung(worker, silentMs)
    worker.end()
  }

  /** How long the worker has been silent when it has been so for too long; undefined when it answers, or nobody can tell. */
  async #silence(worker: Watched, answered: Promise<unknown>): Promise<number | undefined> {
    const askedAt = performance.now()
    const waitedMs = worker.cpuWaitMs() ?? 0
    for (let leftMs = this.#silenceMs; ; ) {
      const before = performance.now()
      if ((await inTime(answered, leftMs)) !== LATE) return undefined
      const now = performance.now()
      if (now - before > leftMs + OWN_STALL_MS) return undefined
      const starvedMs = (worker.cpuWaitMs() ?? waitedMs) - waitedMs
      const idleMs = now - askedAt - starvedMs
      if (idleMs >= this.#silenceMs) return now - askedAt
      // Never less than an interval: on a machine this busy, looking costs, too.
      leftMs = Math.max(this.#silenceMs - idleMs, this.#intervalMs)
    }
  }
}
