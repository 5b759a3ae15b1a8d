// SPDX-License-Identifier: Apache-2.0
// A token bucket: how often somebody may do a thing, with a burst. Hot where it guards frames: a take costs a comparison and
// a subtraction while tokens are left, and reads the clock only when they are not.

export interface BucketSize {
  /** Tokens that may be taken at once. */
  readonly burst: number
  /** Tokens that come back per second. */
  readonly perSecond: number
}

/** Milliseconds on a clock that never goes back. */
export type MonotonicClock = () => number

const monotonic: MonotonicClock = () => performance.now()

/** Born full. */
export class Bucket {
  readonly #size: BucketSize
  readonly #now: MonotonicClock
  #left: number
  #countedAtMs: number

  constructor(size: BucketSize, now: MonotonicClock = monotonic) {
    this.#size = size
    this.#now = now
    this.#left = size.burst
    this.#countedAtMs = now()
  }

  /** Takes `tokens`, or none at all: false when there are too few. */
  take(tokens = 1): boolean {
    if (this.#left < tokens) this.#refill()
    if (this.#left < tokens) return false
    this.#left -= tokens
    return true
  }

  /** Takes what may already have been spent: the bucket can go into debt, at most by one burst. */
  charge(tokens: number): void {
    if (this.#left < tokens) this.#refill()
    this.#left = Math.max(-this.#size.burst, this.#left - tokens)
  }

  /** Whether one token could be taken now. */
  get hasToken(): boolean {
    if (this.#left < 1) this.#refill()
    return this.#left >= 1
  }

  /** Whether it says nothing any more: as good as a new one. */
  get isFull(): boolean {
    this.#refill()
    return this.#left >= this.#size.burst
  }

  #refill(): void {
    const now = this.#now()
    const back = ((now - this.#countedAtMs) / 1000) * this.#size.perSecond
    this.#left = Math.min(this.#size.burst, this.#left + Math.max(0, back))
    this.#countedAtMs = now
  }
}
