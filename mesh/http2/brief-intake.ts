// SPDX-License-Identifier: Apache-2.0
// Reads for a connection what is good during the call only: it is acted on at once, by turns, and what is not yet is copied, for its memory is
// another's. Hot.

import { WaitingChunks } from '../relay/waiting-chunks.ts'
import type { IntakeUser } from './intake.ts'
import { TurnBudget, type TurnShare } from './turn-budget.ts'
import type { H2Intake } from './wire.ts'

/** Who brings it. */
export interface Bringer {
  /** Is to stop, or to go on; what is under way may come all the same. */
  pause(isPaused: boolean): void
  /** So many bytes were acted on, or are of no use any more. */
  taken(bytes: number): void
}

export class BriefIntake implements H2Intake {
  readonly #bringer: Bringer
  readonly #user: IntakeUser
  readonly #turn: TurnBudget
  /** Of what was parsed last, what was left when the share of the turn was used up; may be empty, for a frame may still have to end. */
  #rest: Buffer | undefined
  readonly #backlog = new WaitingChunks()
  #hasWorked = false
  /** What is acted on is a copy. */
  #isOwn = false
  #isClosed = false
  #reads = 0
  #readsBefore = 0

  constructor(bringer: Bringer, user: IntakeUser, share: TurnShare | undefined) {
    this.#bringer = bringer
    this.#user = user
    this.#turn = new TurnBudget(() => this.#readOn(), share)
  }

  get heldBytes(): number {
    return this.#backlog.bytes + (this.#rest?.length ?? 0)
  }

  get allReads(): number {
    return this.#readsBefore + this.#reads
  }

  start(): void {
    // What comes is brought.
  }

  close(): void {
    this.#isClosed = true
    this.#rest = undefined
    this.#backlog.clear()
    this.#user.stop()
  }

  work(units: number): void {
    this.#hasWorked = true
    if (!this.#turn.spend(units)) this.#user.stop()
  }

  keepChunk(): void {
    if (!this.#isOwn) throw new Error('what is good during the call only is not to be kept')
  }

  takeReads(): number {
    const reads = this.#reads
    this.#reads = 0
    this.#readsBefore += reads
    return reads
  }

  receive(chunk: Buffer): void {
    if (this.#isClosed) return this.#bringer.taken(chunk.length)
    this.#reads += 1
    if (this.#turn.isHeld) {
      this.#backlog.push(Buffer.from(chunk))
      this.#user.account()
      return
    }
    const used = this.#parse(chunk, false)
    if (this.#isClosed) return this.#bringer.taken(chunk.length)
    if (!this.#turn.isHeld) return
    this.#bringer.pause(true)
    this.#rest = Buffer.from(chunk.subarray(used))
    this.#user.account()
  }

  /** A read that is no work in itself is still one: large frames may come byte by byte. */
  #parse(bytes: Buffer, isOwn: boolean): number {
    this.#hasWorked = false
    this.#isOwn = isOwn
    const used = this.#user.parse(bytes)
    if (!this.#hasWorked) this.#turn.spend(1)
    this.#user.deliver()
    this.#isOwn = false
    if (!this.#isClosed) this.#bringer.taken(used)
    return used
  }

  /** The next turn: first what is left of the last one. */
  #readOn(): void {
    this.#readWaiting()
    if (this.#turn.isHeld || this.#isClosed) return
    this.#user.account()
    this.#bringer.pause(false)
  }

  #readWaiting(): void {
    for (
      let chunk = this.#rest ?? this.#backlog.shift();
      chunk !== undefined;
      chunk = this.#backlog.shift()
    ) {
      this.#rest = undefined
      const used = this.#parse(chunk, true)
      if (this.#isClosed) return
      if (!this.#turn.isHeld) continue
      this.#rest = chunk.subarray(used)
      return
    }
  }
}
