// SPDX-License-Identifier: Apache-2.0
// A token bucket per caller, so that one node in a loop cannot take the CA from the others.

export interface RateLimit {
  readonly perSecond: number
  readonly burst: number
}

interface Bucket {
  tokens: number
  atMs: number
}

/** A full node (250 pods, each its own identity) may prefetch twice over at once; then 20 a second. */
export const CERTIFICATE_RATE: RateLimit = { perSecond: 20, burst: 500 }
/** Bounds memory; buckets that have filled up again are dropped first, as they say nothing. */
const MAX_BUCKETS = 10_000

/** Counts by key. */
export class RateLimiter {
  readonly #limit: RateLimit
  readonly #now: () => number
  readonly #buckets = new Map<string, Bucket>()

  constructor(limit: RateLimit, now: () => number = Date.now) {
    this.#limit = limit
    this.#now = now
  }

  /** Takes one token; false when there is none. */
  take(key: string): boolean {
    const now = this.#now()
    const bucket = this.#buckets.get(key) ?? { tokens: this.#limit.burst, atMs: now }
    bucket.tokens = this.#filled(bucket, now)
    bucket.atMs = now
    this.#buckets.delete(key)
    this.#buckets.set(key, bucket)
    if (this.#buckets.size > MAX_BUCKETS) this.#evict(now)
    if (bucket.tokens < 1) return false
    bucket.tokens -= 1
    return true
  }

  #filled(bucket: Bucket, now: number): number {
    const earned = ((now - bucket.atMs) / 1000) * this.#limit.perSecond
    return Math.min(this.#limit.burst, bucket.tokens + Math.max(0, earned))
  }

  #evict(now: number): void {
    for (const [key, bucket] of this.#buckets)
      if (this.#filled(bucket, now) >= this.#limit.burst) this.#buckets.delete(key)
    for (const key of this.#buckets.keys()) {
      if (this.#buckets.size <= MAX_BUCKETS) return
      this.#buckets.delete(key)
    }
  }
}
