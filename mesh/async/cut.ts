// SPDX-License-Identifier: Apache-2.0
// Tells whoever works on something that it is to be given up. An AbortController does the same with an EventTarget and an Event, which
// for two or three of them was a tenth of what a connection costs; every AbortSignal can stand where a CutSignal is asked for.

/** The part of AbortSignal that is needed. */
export interface CutSignal {
  readonly aborted: boolean
  readonly reason?: unknown
  addEventListener(type: 'abort', listener: () => void): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/** Cuts once, and is its own signal. Hot: one or two for each connection. */
export class Cut implements CutSignal {
  #isAborted = false
  #reason: unknown
  /** Mostly one at a time. */
  #listeners: (() => void)[] | undefined

  get aborted(): boolean {
    return this.#isAborted
  }

  get reason(): unknown {
    return this.#reason
  }

  /** Calls the listeners, in their order. Only the first call counts. */
  abort(reason?: unknown): void {
    if (this.#isAborted) return
    this.#isAborted = true
    this.#reason = reason
    // One that is taken off meanwhile by one before it is not called any more.
    for (let next = this.#listeners?.shift(); next !== undefined; next = this.#listeners?.shift())
      next()
  }

  addEventListener(_type: 'abort', listener: () => void): void {
    if (this.#isAborted) return
    if (this.#listeners === undefined) this.#listeners = [listener]
    else this.#listeners.push(listener)
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    const at = this.#listeners?.indexOf(listener) ?? -1
    if (at >= 0) this.#listeners?.splice(at, 1)
  }
}
