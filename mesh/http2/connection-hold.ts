// SPDX-License-Identifier: Apache-2.0
// What one connection holds beside bytes that wait for a receiver: its HPACK table, half a frame or header block, its read
// and write buffers. On the account of its owner, so that of thousands of idle or half-open connections their own owner's go first.

import type { HeldMemory, Holder } from './held-memory.ts'

/** The connection, and on whose account it holds. */
type Payer = Pick<Holder, 'owner' | 'caller'>

export class ConnectionHold implements Holder {
  readonly heldBy: Payer
  readonly #memory: HeldMemory
  readonly #cut: () => void
  #cost = 0

  /** `cut` ends the connection; it must set() what is then left. */
  constructor(memory: HeldMemory, heldBy: Payer, cut: () => void) {
    this.#memory = memory
    this.heldBy = heldBy
    this.#cut = cut
  }

  get owner(): string {
    return this.heldBy.owner
  }

  get caller(): string {
    return this.heldBy.caller
  }

  get heldCost(): number {
    return this.#cost
  }

  /** It holds so much now, in bytes; may cut any connection, this one included. */
  set(cost: number): void {
    const more = cost - this.#cost
    if (more === 0) return
    if (this.#cost === 0) this.#memory.enter(this)
    this.#cost = cost
    if (cost === 0) this.#memory.leave(this)
    if (more > 0) this.#memory.take(more)
    else this.#memory.giveBack(-more)
  }

  shed(): void {
    this.#cut()
  }
}
