// SPDX-License-Identifier: Apache-2.0
// How many lines somebody whom we do not trust may make us write: a token bucket that remembers how many it kept back.

import { Bucket, type BucketSize, type MonotonicClock } from '../async/bucket.ts'

/** Keeps one pod or one service from filling the log. */
export class LogBudget {
  readonly #lines: Bucket
  #keptBack = 0
  #skipped = 0

  constructor(size: BucketSize, now?: MonotonicClock) {
    this.#lines = new Bucket(size, now)
  }

  /** A line that is not wanted: it is counted apart, and costs nothing. */
  skip(): void {
    this.#skipped += 1
  }

  /** The number of lines skipped since the last call. */
  takeSkipped(): number {
    const skipped = this.#skipped
    this.#skipped = 0
    return skipped
  }

  /** Whether a line may be written: the number of lines kept back since the last one, or undefined for no. */
  take(): number | undefined {
    if (!this.#lines.take()) {
      this.#keptBack += 1
      return undefined
    }
    const keptBack = this.#keptBack
    this.#keptBack = 0
    return keptBack
  }
}
