// SPDX-License-Identifier: Apache-2.0
// The way of one signal to the collector: a request at a time, again with back-off or when the collector wishes, and an account of what
// became of all.

import { Backoff, type BackoffOptions, delay } from '../../async/backoff.ts'
import type { PartialSuccess } from './answer.ts'
import type { Collector, Signal } from './post.ts'
import type { EncodedRequest } from './wire.ts'

export interface LaneOptions {
  readonly signal: Signal
  readonly collector: Collector
  readonly backoff: BackoffOptions
  /** Hears why something failed, each time. */
  readonly onFailure: (reason: string) => void
  /** Hears what a collector says of a request that it took, but not twice the same. */
  readonly onPartial: (signal: Signal, partial: PartialSuccess) => void
}

export class Lane {
  readonly #options: LaneOptions
  readonly #backoff: Backoff
  /** By performance.now(); not earlier, whatever there is to send. */
  #notBefore = 0
  #lastPartial: string | undefined
  /** Data points, log records or spans: taken by the collector, and given up. */
  sent = 0
  dropped = 0
  /** Requests that failed, each try. */
  failures = 0

  constructor(options: LaneOptions) {
    this.#options = options
    this.#backoff = new Backoff(options.backoff)
  }

  /** Sends until it is taken, refused, or given up. Never rejects. */
  async deliver({ body, items }: EncodedRequest, giveUp: AbortSignal): Promise<void> {
    const { signal, collector } = this.#options
    for (;;) {
      const wait = this.#notBefore - performance.now()
      if (wait > 0) await delay(wait, giveUp)
      if (giveUp.aborted) break
      const outcome = await collector.post(signal, body, giveUp)
      if (outcome.kind === 'done') {
        this.#taken(items, outcome.partial)
        return
      }
      this.failures += 1
      if (giveUp.aborted) break
      if (outcome.kind === 'refused') {
        this.drop(items, outcome.reason)
        return
      }
      const afterMs = outcome.afterMs ?? this.#backoff.next()
      this.#notBefore = performance.now() + afterMs
      this.#options.onFailure(outcome.reason)
    }
    this.drop(items, 'not taken in time')
  }

  /** Counts what is given up. */
  drop(items: number, reason: string): void {
    if (items === 0) return
    this.dropped += items
    this.#options.onFailure(reason)
  }

  #taken(items: number, partial: PartialSuccess | undefined): void {
    this.#backoff.reset()
    const rejected = Math.min(items, partial?.rejected ?? 0)
    this.sent += items - rejected
    this.dropped += rejected
    if (partial === undefined || partial.message === this.#lastPartial) return
    this.#lastPartial = partial.message
    this.#options.onPartial(this.#options.signal, partial)
  }
}
