// SPDX-License-Identifier: Apache-2.0
// Waiting between attempts: doubling from a first to a longest delay, jittered so that a fleet does not march in step.

export interface BackoffOptions {
  /** The first delay. Default 10 ms: most failures of a watch are over at once. */
  readonly firstMs?: number
  /** The longest delay. Default 15 s, as Istio's agents have it. */
  readonly longestMs?: number
  /** In [0, 1); tests pass their own. */
  readonly random?: () => number
}

const FIRST_DELAY_MS = 10
const LONGEST_DELAY_MS = 15_000

export class Backoff {
  readonly #firstMs: number
  readonly #longestMs: number
  readonly #random: () => number
  #attempts = 0

  constructor(options: BackoffOptions = {}) {
    this.#firstMs = options.firstMs ?? FIRST_DELAY_MS
    this.#longestMs = options.longestMs ?? LONGEST_DELAY_MS
    this.#random = options.random ?? Math.random
  }

  /** The delay before the next attempt: between half of the doubled delay and all of it. */
  next(): number {
    this.#attempts += 1
    return backoffMs(this.#attempts, this.#firstMs, this.#longestMs, this.#random())
  }

  /** Call after a success: the next delay is the first again. */
  reset(): void {
    this.#attempts = 0
  }
}

/** The delay after so many failed attempts in a row (1 or more): between half of the doubled delay and all of it. Pure. */
export function backoffMs(
  attempts: number,
  firstMs: number,
  longestMs: number,
  random: number,
): number {
  const ceiling = Math.min(longestMs, firstMs * 2 ** Math.min(attempts - 1, 30))
  return ceiling / 2 + (ceiling / 2) * random
}

/** Waits; resolves early, without throwing, when the signal aborts. */
export function delay(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve()
      return
    }
    const finish = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', finish)
      resolve()
    }
    const timer = setTimeout(finish, milliseconds)
    signal.addEventListener('abort', finish, { once: true })
  })
}
