// SPDX-License-Identifier: Apache-2.0
// A token bucket for each key, so that what one of many does costs the others nothing. It outlives whatever the key came by:
// who reconnects finds its bucket as it left it.

import { Bucket, type BucketSize, type MonotonicClock } from './bucket.ts'

/** Bounds memory, about 200 bytes each; buckets that have filled up again are dropped first, as they say nothing. */
const MAX_KEYS = 10_000

/** Of them so many stay when there are too many: else a crowd of strangers would cost a walk over all keys at each call. */
const KEPT_KEYS = 0.9 * MAX_KEYS

interface Entry {
  readonly bucket: Bucket
  /** Counts uses of all keys: the longest unused has the least. */
  usedAt: number
}

export class KeyedBuckets {
  readonly #size: BucketSize
  readonly #now: MonotonicClock | undefined
  // Not in the order of their use: moving an entry to a Map's end leaves a hole behind, and the Map is copied when there are enough of them.
  readonly #entries = new Map<string, Entry>()
  #uses = 0

  constructor(size: BucketSize, now?: MonotonicClock) {
    this.#size = size
    this.#now = now
  }

  /** How many keys are remembered. */
  get keys(): number {
    return this.#entries.size
  }

  /** Takes tokens of the key's, or none at all: false when there are too few. */
  take(key: string, tokens = 1): boolean {
    return this.of(key).take(tokens)
  }

  /** Whether the key could take a token now. A key that is unknown is not remembered for being asked about. */
  peek(key: string): boolean {
    return this.#entries.get(key)?.bucket.hasToken ?? true
  }

  /** The key's own bucket; a later call may give another one, once this one is full again. */
  of(key: string): Bucket {
    this.#uses += 1
    let entry = this.#entries.get(key)
    if (entry !== undefined) {
      entry.usedAt = this.#uses
      return entry.bucket
    }
    entry = { bucket: new Bucket(this.#size, this.#now), usedAt: this.#uses }
    this.#entries.set(key, entry)
    if (this.#entries.size > MAX_KEYS) this.#evict(entry)
    return entry.bucket
  }

  #evict(newest: Entry): void {
    for (const [key, entry] of this.#entries)
      if (entry !== newest && entry.bucket.isFull) this.#entries.delete(key)
    const excess = this.#entries.size - KEPT_KEYS
    if (excess <= 0) return
    const uses = Float64Array.from(this.#entries.values(), ({ usedAt }) => usedAt).sort()
    const oldestKept = uses[excess] ?? 0
    for (const [key, { usedAt }] of this.#entries)
      if (usedAt < oldestKept) this.#entries.delete(key)
  }
}
