// SPDX-License-Identifier: Apache-2.0
// Access lines or spans on their way to a collector: gathered, written as OTLP where they arise, and handed on a batch at a time. Bounded by
// a rate, which is what keeps the inbox of whoever sends them and the cost of writing bounded, too.

import type { EncodedRequest } from './wire.ts'

export interface BatchesOptions<T> {
  /** Writes them as a request, with when they were seen, in milliseconds since the epoch. */
  readonly encode: (items: readonly T[], observedMs: number) => Uint8Array
  /** Hears of a batch, which may be empty, and of how many were left out since the last. */
  readonly post: (request: EncodedRequest, leftOut: number) => void
}

/** How long one may wait for others. */
const BATCH_MS = 1_000
const ITEMS_IN_A_BATCH = 500
/** Of one thread: ten pods' worth of what a pod may log at most. */
const ITEMS_IN_A_SECOND = 5_000

export class Batches<T> {
  readonly #options: BatchesOptions<T>
  #items: T[] = []
  #leftOut = 0
  /** Of the second that runs. */
  #taken = 0
  #timer: NodeJS.Timeout | undefined

  constructor(options: BatchesOptions<T>) {
    this.#options = options
  }

  /** Takes one, or counts it where there were too many. */
  add(item: T): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#taken = 0
      this.flush()
    }, BATCH_MS).unref()
    if (this.#taken >= ITEMS_IN_A_SECOND) {
      this.#leftOut += 1
      return
    }
    this.#taken += 1
    this.#items.push(item)
    if (this.#items.length >= ITEMS_IN_A_BATCH) this.flush()
  }

  /** Hands on what waits. */
  flush(): void {
    const [items, leftOut] = [this.#items, this.#leftOut]
    if (items.length === 0 && leftOut === 0) return
    this.#items = []
    this.#leftOut = 0
    const body = this.#options.encode(items, Date.now())
    this.#options.post({ body, items: items.length }, leftOut)
  }
}
