// SPDX-License-Identifier: Apache-2.0
// How many lines somebody whom we do not trust may make us write: a token bucket that remembers how many it kept back.

export interface LogBudgetSize {
  /** Lines that may come at once. */
  readonly burst: number
  /** Lines that come back per second. */
  readonly perSecond: number
}

/** Keeps one pod or one service from filling the log. */
export class LogBudget {
  readonly #size: LogBudgetSize
  readonly #now: () => number
  #left: number
  #countedAtMs: number
  #keptBack = 0

  /** `now` gives milliseconds. */
  constructor(size: LogBudgetSize, now: () => number = () => performance.now()) {
    this.#size = size
    this.#now = now
    this.#left = size.burst
    this.#countedAtMs = now()
  }

  /** Whether a line may be written: the number of lines kept back since the last one, or undefined for no. */
  take(): number | undefined {
    if (this.#left < 1) this.#refill()
    if (this.#left < 1) {
      this.#keptBack += 1
      return undefined
    }
    this.#left -= 1
    const keptBack = this.#keptBack
    this.#keptBack = 0
    return keptBack
  }

  #refill(): void {
    const now = this.#now()
    const back = ((now - this.#countedAtMs) / 1000) * this.#size.perSecond
    this.#left = Math.min(this.#size.burst, this.#left + back)
    this.#countedAtMs = now
  }
}
