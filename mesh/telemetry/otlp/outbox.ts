// SPDX-License-Identifier: Apache-2.0
// Requests of one signal that wait for the collector: sent in their order, bounded in bytes, the oldest make room.

import type { Lane } from './lane.ts'
import type { EncodedRequest } from './wire.ts'

export interface OutboxOptions {
  readonly lane: Lane
  /** Of encoded requests that wait. */
  readonly longestBytes: number
  /** Why some have to go, for the log. */
  readonly tooMany: string
  /** Nothing is sent any more. */
  readonly signal: AbortSignal
}

export class Outbox {
  readonly #options: OutboxOptions
  readonly #queue: EncodedRequest[] = []
  #bytes = 0
  #sending: Promise<void> | undefined
  #isClosed = false

  constructor(options: OutboxOptions) {
    this.#options = options
  }

  /** Takes a request, and how many there was no room for before they came here; returns at once. */
  take(request: EncodedRequest, leftOut: number): void {
    const { lane, longestBytes, tooMany } = this.#options
    lane.drop(leftOut, tooMany)
    if (request.items === 0) return
    if (this.#isClosed) {
      lane.drop(request.items, 'the process ends')
      return
    }
    this.#queue.push(request)
    this.#bytes += request.body.length
    while (this.#bytes > longestBytes) lane.drop(this.#next()?.items ?? 0, tooMany)
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = undefined
    })
  }

  /** Takes no more; resolves when what waits is sent or given up. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#sending
  }

  async #sendAll(): Promise<void> {
    const { lane, signal } = this.#options
    for (let request = this.#next(); request !== undefined; request = this.#next())
      await lane.deliver(request, signal)
  }

  #next(): EncodedRequest | undefined {
    const request = this.#queue.shift()
    this.#bytes -= request?.body.length ?? 0
    return request
  }
}
