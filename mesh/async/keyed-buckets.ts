// SPDX-License-Identifier: Apache-2.0
// A token bucket for each key, so that what one of many does costs the others nothing. It outlives whatever the key came by:
// who reconnects finds its bucket as it left it.

import { Bucket, type BucketSize, type MonotonicClock } from './bucket.ts'

/** Bounds memory, about 200 bytes each; buckets that have filled up again are dropped first, as they say nothing. */
const MAX_KEYS = 10_000

export class KeyedBuckets {
  readonly #size: BucketSize
  readonly #now: MonotonicClock | undefined
  /** The longest unused first. */
  readonly #buckets = new Map<string, Bucket>()

  constructor(size: BucketSize, now?: MonotonicClock) {
    this.#size = size
    this.#now = now
  }

  /** How many keys are remembered. */
  get keys(): number {
    return this.#buckets.size
  }

  /** Takes tokens of the key's, or none at all: false when there are too few. */
  take(key: string, tokens = 1): boolean {
    return this.of(key).take(tokens)
  }

  /** Whether the key could take a token now. A key that is unknown is not remembered for being asked about. */
  peek(key: string): boolean {
    return this.#buckets.get(key)?.hasToken ?? true
  }

  /** The key's own bucket; a later call may give another one, once this one is full again. */
  of(key: string): Bucket {
    const known = this.#buckets.get(key)
    const bucket = known ?? new Bucket(this.#size, this.#now)
    if (known !== undefined) this.#buckets.delete(key)
    this.#buckets.set(key, bucket)
    if (this.#buckets.size > MAX_KEYS) this.#evict()
    return bucket
  }

  #evict(): void {
    for (const [key, bucket] of this.#buckets) if (bucket.isFull) this.#buckets.delete(key)
    for (const key of this.#buckets.keys()) {
      // A tenth more than needed: else a crowd of strangers would cost a walk over all keys at each call.
      if (this.#buckets.size <= MAX_KEYS * 0.9) return
      this.#buckets.delete(key)
    }
  }
}
