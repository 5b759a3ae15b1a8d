// SPDX-License-Identifier: Apache-2.0
// Gathers a burst of changes into one push.

/** A push waits until nothing has changed for this long: a rollout's Pod, Service and slice events arrive together. */
const QUIET_MS = 10
/** But never longer than this: endpoints that went must be known soon, however busy the cluster. */
const MAX_DELAY_MS = 100

/** Calls back once after a burst of `trigger()` calls. */
export class Debounce {
  readonly #callback: () => void
  #timer: NodeJS.Timeout | undefined
  #burstBegan = 0

  constructor(callback: () => void) {
    this.#callback = callback
  }

  trigger(): void {
    const now = performance.now()
    if (this.#timer === undefined) this.#burstBegan = now
    else clearTimeout(this.#timer)
    const delay = Math.max(0, Math.min(QUIET_MS, this.#burstBegan + MAX_DELAY_MS - now))
    this.#timer = setTimeout(() => this.flush(), delay)
  }

  /** Calls back now if a burst is pending. */
  flush(): void {
    if (this.#timer === undefined) return
    this.stop()
    this.#callback()
  }

  /** Forgets a pending burst. */
  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
