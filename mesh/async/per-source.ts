// SPDX-License-Identifier: Apache-2.0
// How many of something each source has at once: connections, handshakes, reviews. Holds nothing for a source that has none.

export interface SourceLimits {
  /** Of one source. */
  readonly perSource: number
  /** Of all sources together. */
  readonly total: number
}

export class PerSource {
  readonly #limits: SourceLimits
  readonly #counts = new Map<string, number>()
  #total = 0

  constructor(limits: SourceLimits) {
    this.#limits = limits
  }

  /** Of all sources together. */
  get total(): number {
    return this.#total
  }

  of(source: string): number {
    return this.#counts.get(source) ?? 0
  }

  /** Whether one more of the source would be counted. */
  hasRoom(source: string): boolean {
    return this.of(source) < this.#limits.perSource && this.#total < this.#limits.total
  }

  /** Counts one more; false, and not counted, when the source or all together have as many as they may. */
  enter(source: string): boolean {
    if (!this.hasRoom(source)) return false
    this.#counts.set(source, this.of(source) + 1)
    this.#total += 1
    return true
  }

  /** One that was counted is gone; to be called once for each. */
  leave(source: string): void {
    const count = this.#counts.get(source)
    if (count === undefined) return
    this.#total -= 1
    if (count > 1) this.#counts.set(source, count - 1)
    else this.#counts.delete(source)
  }
}
