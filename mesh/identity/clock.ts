// SPDX-License-Identifier: Apache-2.0
// Time as a parameter, so that what waits for hours can be tested in milliseconds.

export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number
  /** Calls back once after the delay; returns the canceller. */
  after(delayMs: number, callback: () => void): () => void
}

/** setTimeout's limit; a longer delay would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** The machine's clock. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(Math.max(delayMs, 0), MAX_TIMER_MS))
    timer.unref()
    return () => clearTimeout(timer)
  },
}
