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

/** What all connections of one caller may take of a turn together: four busy ones are served as if they were alone. */
const SHARED_UNITS = 4 * TURN_UNITS
const FREE_SHARED_UNITS = 3 * TURN_UNITS

/** The part of a turn that the connections of one caller share: else it would get one more with each connection it opens. */
export class TurnShare {
  #spent = 0
  #isCounting = false
  readonly #turn = (): void => {
    this.#isCounting = false
    this.#spent = 0
  }

  /** Counts work; false: that is enough of all of them for this turn. */
  spend(units: number): boolean {
    this.#spent += units
    if (this.#spent < FREE_SHARED_UNITS) return true
    if (!this.#isCounting) {
      this.#isCounting = true
      setImmediate(this.#turn)
    }
    return this.#spent < SHARED_UNITS
  }
}

export class TurnBudget {
  readonly #onNextTurn: () => void
  readonly #share: TurnShare | undefined
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
  constructor(onNextTurn: () => void, share?: TurnShare) {
    this.#onNextTurn = onNextTurn
    this.#share = share
  }

  /** Whether the connection waits for its next turn. */
  get isHeld(): boolean {
    return this.#isHeld
  }

  /** Counts work; false: that is enough for this turn. */
  spend(units: number): boolean {
    this.#spent += units
    const isShareLeft = this.#share?.spend(units) ?? true
    if (this.#spent < FREE_UNITS && isShareLeft) return true
    if (!this.#isCounting) {
      this.#isCounting = true
      setImmediate(this.#turn)
    }
    if (this.#spent < TURN_UNITS && isShareLeft) return true
    this.#isHeld = true
    return false
  }
}
