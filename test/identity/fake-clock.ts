// SPDX-License-Identifier: Apache-2.0
// A clock that moves only when told to.

import type { Clock } from '../../mesh/identity/clock.ts'

interface Timer {
  readonly dueMs: number
  readonly callback: () => void
}

/** Starts at the machine's time or so long before it, so that real certificates are in date, and stands still. */
export class FakeClock implements Clock {
  #nowMs: number
  #setByMs = 0
  readonly #timers = new Set<Timer>()

  constructor(behindMs = 0) {
    this.#nowMs = Date.now() - behindMs
  }

  now(): number {
    return this.#nowMs + this.#setByMs
  }

  /** Somebody sets it, forwards or back; no time passes. */
  set(byMs: number): void {
    this.#setByMs += byMs
  }

  elapsed(): number {
    return this.#nowMs
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { dueMs: this.#nowMs + delayMs, callback }
    this.#timers.add(timer)
    return () => this.#timers.delete(timer)
  }

  /** Moves time on, firing what falls due in order. */
  advance(ms: number): void {
    const end = this.#nowMs + ms
    for (;;) {
      const next = [...this.#timers]
        .filter((timer) => timer.dueMs <= end)
        .sort((a, b) => a.dueMs - b.dueMs)[0]
      if (next === undefined) break
      this.#timers.delete(next)
      this.#nowMs = Math.max(this.#nowMs, next.dueMs)
      next.callback()
    }
    this.#nowMs = end
  }

  get pendingTimers(): number {
    return this.#timers.size
  }
}
