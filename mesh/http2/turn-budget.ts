// SPDX-License-Identifier: Apache-2.0
// How much of one turn of the event loop a connection may take, so that a flood on one, within whatever bounds, does not
// stall the thread's others: their turn comes after it, however much more has come. Hot: bench/hbone-relays.ts watches it.

/** Frames of one turn, or what costs as much: some 0.2 ms. 64 busy tunnels bring a quarter of it. */
const TURN_UNITS = 256
/**
 * So many, over whatever time, are not looked at: what it takes to know a new turn makes the loop go round once more, which
 * honest connections pay once in so many frames.
 */
const FREE_UNITS = 192

export class TurnBudget {
  readonly #onNextTurn: () => void
  #spent = 0
  #isCounting = false
  #isHeld = false
  readonly #turn = (): void => {
    this.#isCounting = false
    this.#spent = 0
    if (!this.#isHeld) return
    this.#isHeld = false
    this.#onNextTurn()
  }

  /** `onNextTurn` is called in the next turn, once, after spend() said false. */
  constructor(onNextTurn: () => void) {
    this.#onNextTurn = onNextTurn
  }

  /** Whether the connection waits for its next turn. */
  get isHeld(): boolean {
    return this.#isHeld
  }

  /** Counts work; false: that is enough for this turn. */
  spend(units: number): boolean {
    this.#spent += units
    if (this.#spent < FREE_UNITS) return true
    if (!this.#isCounting) {
      this.#isCounting = true
      setImmediate(this.#turn)
    }
    if (this.#spent < TURN_UNITS) return true
    this.#isHeld = true
    return false
  }
}
