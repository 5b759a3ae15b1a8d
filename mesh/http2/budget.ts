// SPDX-License-Identifier: Apache-2.0
// How much nuisance one peer may cause: a token bucket. Honest peers stay far below; floods end the connection.

export interface BudgetSize {
  /** What may come at once. */
  readonly burst: number
  /** What comes back per second. */
  readonly perSecond: number
}

/** PING, SETTINGS, PRIORITY, empty DATA and unknown frames: an honest peer sends a handful a minute. */
export const CONTROL_FRAMES: BudgetSize = { burst: 500, perSecond: 50 }
/** Streams reset before we answered them, malformed or refused: costs us work and the peer nothing (rapid reset). */
export const WASTED_STREAMS: BudgetSize = { burst: 400, perSecond: 200 }

export class Budget {
  readonly #size: BudgetSize
  #left: number
  #countedAtMs = performance.now()

  constructor(size: BudgetSize) {
    this.#size = size
    this.#left = size.burst
  }

  /** Takes one; false when it is used up. */
  take(): boolean {
    if (this.#left < 1) {
      const now = performance.now()
      const back = ((now - this.#countedAtMs) / 1000) * this.#size.perSecond
      this.#left = Math.min(this.#size.burst, this.#left + back)
      this.#countedAtMs = now
      if (this.#left < 1) return false
    }
    this.#left -= 1
    return true
  }
}
