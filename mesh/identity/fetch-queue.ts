// SPDX-License-Identifier: Apache-2.0
// Runs at most so many fetches at a time, the most urgent first, first come first served among equals.

/** What a connection waits for, before what a pod will soon need, before what is merely half-way to expiry. */
export type FetchPriority = 'realtime' | 'warmup' | 'background'

const PRIORITIES: readonly FetchPriority[] = ['realtime', 'warmup', 'background']

/** One queued fetch; must not reject. */
export type Fetch = () => Promise<void>

/** A bounded runner with three priorities. A key is queued at most once. */
export class FetchQueue {
  readonly #concurrency: number
  readonly #waiting: Record<FetchPriority, Map<string, Fetch>> = {
    realtime: new Map(),
    warmup: new Map(),
    background: new Map(),
  }
  #running = 0

  constructor(concurrency: number) {
    this.#concurrency = concurrency
  }

  /** Queues a fetch, or raises the one already queued under this key when the priority is higher. */
  add(key: string, priority: FetchPriority, fetch: Fetch): void {
    const queuedAt = PRIORITIES.find((each) => this.#waiting[each].has(key))
    if (queuedAt !== undefined) {
      if (PRIORITIES.indexOf(priority) >= PRIORITIES.indexOf(queuedAt)) return
      this.#waiting[queuedAt].delete(key)
    }
    this.#waiting[priority].set(key, fetch)
    this.#pump()
  }

  /** Takes a fetch back that has not started. */
  remove(key: string): void {
    for (const priority of PRIORITIES) this.#waiting[priority].delete(key)
  }

  #pump(): void {
    while (this.#running < this.#concurrency) {
      const fetch = this.#takeNext()
      if (fetch === undefined) return
      this.#running += 1
      void fetch().finally(() => {
        this.#running -= 1
        this.#pump()
      })
    }
  }

  #takeNext(): Fetch | undefined {
    for (const priority of PRIORITIES)
      for (const [key, fetch] of this.#waiting[priority]) {
        this.#waiting[priority].delete(key)
        return fetch
      }
    return undefined
  }
}
