// SPDX-License-Identifier: Apache-2.0
// The last holder of a key, remembered for a while after it has left: what the mesh remembers of addresses (former-addresses.ts).

import type { MonotonicClock } from '../async/bucket.ts'

/** What has left in a burst is remembered up to so many; then the oldest are forgotten, however young. Bounds memory. */
const MOST = 10_000

interface Memory<V> {
  readonly holder: V
  readonly leftAtMs: number
}

/** A key, its last holder, and for how many milliseconds nobody has it: whoever is told goes by another clock. */
export type FormerHolder<K, V> = readonly [key: K, holder: V, goneForMs: number]

/** The last holder of each key, for a while after it has left. */
export class FormerHolders<K, V> {
  readonly #keptMs: number
  readonly #now: MonotonicClock
  /** The longest gone first. */
  readonly #byKey = new Map<K, Memory<V>>()

  /** @param keptMs how long a holder is remembered, in milliseconds */
  constructor(keptMs: number, now: MonotonicClock) {
    this.#keptMs = keptMs
    this.#now = now
  }

  /** It has left the key, and is remembered as the last that had it; undefined: whoever has, is nobody to be remembered. */
  left(key: K, holder: V | undefined): void {
    // Anew at the end: the order is that of leaving.
    this.#byKey.delete(key)
    if (holder !== undefined) this.#byKey.set(key, { holder, leftAtMs: this.#now() })
  }

  /** Who had the key last, if that is not too long ago. */
  get(key: K): V | undefined {
    const memory = this.#byKey.get(key)
    return memory === undefined || this.#isOver(memory) ? undefined : memory.holder
  }

  /** What is remembered, in the order of leaving. */
  *[Symbol.iterator](): Generator<FormerHolder<K, V>> {
    for (const [key, { holder, leftAtMs }] of this.#byKey)
      yield [key, holder, this.#now() - leftAtMs]
  }

  /** Remembers what another one does, in place of anything else. */
  recall(memory: readonly FormerHolder<K, V>[]): void {
    this.#byKey.clear()
    for (const [key, holder, goneForMs] of memory)
      this.#byKey.set(key, { holder, leftAtMs: this.#now() - goneForMs })
  }

  /** Drops what is too old, or too much. */
  prune(): void {
    for (const [key, memory] of this.#byKey) {
      if (this.#byKey.size <= MOST && !this.#isOver(memory)) return
      this.#byKey.delete(key)
    }
  }

  #isOver({ leftAtMs }: Memory<V>): boolean {
    return this.#now() - leftAtMs >= this.#keptMs
  }
}
