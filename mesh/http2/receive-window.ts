// SPDX-License-Identifier: Apache-2.0
// How much the peer may still send on one connection. Streams whose receivers stall must not use the window up for
// the others: what they hold above a part of it is lent, that is credited to the peer as if it had gone on.
// At any time: window + held - lent + not yet credited = the whole window, DATA frames under way aside.
// Hot: bench/hbone-relays.ts watches it.

import type { Borrower, HeldMemory } from './held-memory.ts'

/** The window is topped up when this part of it was consumed. */
const UPDATE_PART = 1 / 4
/** The part that held bytes may take up before they are lent: with as much waiting for the next update, half is always open. */
const LEND_ABOVE_PART = 1 / 4

/** The receiving side's flow control of one connection. */
export class ReceiveWindow implements Borrower {
  readonly #memory: HeldMemory
  readonly #update: (increment: number) => void
  readonly #updateBytes: number
  readonly #lendAboveBytes: number
  #window: number
  #uncredited = 0
  #held = 0
  #lent = 0

  /** `update` tells the peer that it may send so many bytes more. */
  constructor(memory: HeldMemory, windowBytes: number, update: (increment: number) => void) {
    this.#memory = memory
    this.#window = windowBytes
    this.#updateBytes = windowBytes * UPDATE_PART
    this.#lendAboveBytes = windowBytes * LEND_ABOVE_PART
    this.#update = update
  }

  /** What the peer may still send. */
  get open(): number {
    return this.#window
  }

  /** Bytes that streams hold; `lent` of them the peer was credited already. */
  get held(): number {
    return this.#held
  }

  get lent(): number {
    return this.#lent
  }

  /** Bytes that went on, and that the peer was not told of. */
  get uncredited(): number {
    return this.#uncredited
  }

  /** A DATA frame of this cost comes in; false when it overruns the window. */
  take(bytes: number): boolean {
    this.#window -= bytes
    return this.#window >= 0
  }

  /** So many bytes of those taken were not consumed on the spot. */
  hold(bytes: number): void {
    this.#held += bytes
    if (this.#held - this.#lent > this.#lendAboveBytes) this.lend()
  }

  /** Held bytes go on: repays the loan first and says how many of them remain to be credited. */
  release(bytes: number): number {
    const repaid = Math.min(bytes, this.#lent)
    this.#held -= bytes
    this.#lent -= repaid
    return bytes - repaid
  }

  /** Bytes that are taken and not lent went on: the peer may send as many more. */
  credit(bytes: number): void {
    this.#uncredited += bytes
    // Few updates; but while held bytes take up the window, each as soon as it doubles what is left.
    if (this.#uncredited < this.#updateBytes && this.#uncredited <= this.#window) return
    const increment = this.#uncredited
    this.#window += increment
    this.#uncredited = 0
    this.#update(increment)
  }

  /**
   * Lends what is held above the allowance. A connection gets no more than is left for all others, so however many
   * greedy ones there are, a new one still finds something.
   */
  lend(): void {
    const wanted = this.#held - this.#lent - this.#lendAboveBytes
    if (wanted <= 0) return
    const granted = Math.min(wanted, this.#memory.lendable - this.#lent)
    if (granted < wanted) this.#memory.refused(this)
    if (granted <= 0) return
    this.#lent += granted
    this.credit(granted)
  }

  /** The connection is gone: no more loans. */
  close(): void {
    this.#memory.forget(this)
  }
}
