// SPDX-License-Identifier: Apache-2.0
// A pipe as what carries a connection: HTTP/2 within a tunnel of another one. What it brings is acted on at once, and what is not
// yet is copied, for its memory is another's. Hot.

import type { Pipe, PipeSink } from '../http/pipe.ts'
import { WaitingChunks } from '../relay/waiting-chunks.ts'
import type { EndReason } from '../telemetry/end-reason.ts'
import { END_REASONS } from '../telemetry/end-reason.ts'
import type { IntakeUser } from './intake.ts'
import { TurnBudget, type TurnShare } from './turn-budget.ts'
import type { H2Intake, H2Wire } from './wire.ts'

export class PipeWire implements H2Wire, PipeSink {
  readonly #pipe: Pipe
  #intake: PipeIntake | undefined
  #heard: ((message: string) => void) | undefined
  /** Waits until the far end takes more. */
  #onWritten: ((error?: Error | null) => void) | undefined
  #linger: NodeJS.Timeout | undefined
  #hasEnded = false

  /** Takes the pipe over. */
  constructor(pipe: Pipe) {
    this.#pipe = pipe
    pipe.sink = this
  }

  intake(user: IntakeUser, share: TurnShare | undefined): H2Intake {
    this.#intake = new PipeIntake(this.#pipe, user, share)
    return this.#intake
  }

  write(bytes: Buffer, onWritten?: (error?: Error | null) => void): void {
    if (this.#pipe.write(bytes, 0, bytes.length)) onWritten?.()
    else this.#onWritten = onWritten
  }

  end(lingerMs: number): void {
    this.#onWritten = undefined
    this.#pipe.end()
    if (this.#hasEnded) return
    this.#linger = setTimeout(() => this.#pipe.reset('ok'), lingerMs)
  }

  /** What carries the pipe gathers what one turn brings; here all that one read of it brought is. */
  schedule(flush: () => void): void {
    queueMicrotask(flush)
  }

  onOver(heard: (message: string) => void): void {
    this.#heard = heard
  }

  receive(chunk: Buffer, from: number, to: number): void {
    this.#intake?.receive(chunk, from, to)
  }

  ended(): void {
    this.#over('the peer closed the connection')
  }

  broken(reason: EndReason): void {
    this.#over(END_REASONS[reason].text)
  }

  drained(): void {
    const written = this.#onWritten
    this.#onWritten = undefined
    written?.()
  }

  #over(message: string): void {
    this.#hasEnded = true
    clearTimeout(this.#linger)
    this.#heard?.(message)
  }
}

class PipeIntake implements H2Intake {
  readonly #pipe: Pipe
  readonly #user: IntakeUser
  readonly #turn: TurnBudget
  /** Of what was parsed last, what was left when the share of the turn was used up; may be empty, for a frame may still have to end. */
  #rest: Buffer | undefined
  readonly #backlog = new WaitingChunks()
  #hasWorked = false
  #isClosed = false
  #reads = 0
  #readsBefore = 0

  constructor(pipe: Pipe, user: IntakeUser, share: TurnShare | undefined) {
    this.#pipe = pipe
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
    // The pipe brings what comes by itself.
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
    throw new Error('what a pipe brings is not to be kept')
  }

  takeReads(): number {
    const reads = this.#reads
    this.#reads = 0
    this.#readsBefore += reads
    return reads
  }

  receive(chunk: Buffer, from: number, to: number): void {
    if (this.#isClosed) return this.#pipe.consume(to - from)
    this.#reads += 1
    const bytes = from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to)
    if (!this.#turn.isHeld) return this.#take(bytes)
    this.#backlog.push(Buffer.from(bytes))
    this.#user.account()
  }

  #take(bytes: Buffer): void {
    const used = this.#parse(bytes)
    if (this.#isClosed) return this.#pipe.consume(bytes.length)
    if (!this.#turn.isHeld) return
    this.#rest = Buffer.from(bytes.subarray(used))
    this.#user.account()
  }

  /** Acts on bytes, and lets the far end send as many more as were acted on. */
  #parse(bytes: Buffer): number {
    this.#hasWorked = false
    const used = this.#user.parse(bytes)
    if (!this.#hasWorked) this.#turn.spend(1)
    this.#user.deliver()
    if (!this.#isClosed) this.#pipe.consume(used)
    return used
  }

  #readOn(): void {
    for (
      let chunk = this.#rest ?? this.#backlog.shift();
      chunk !== undefined;
      chunk = this.#backlog.shift()
    ) {
      this.#rest = undefined
      const used = this.#parse(chunk)
      if (this.#isClosed) return
      if (!this.#turn.isHeld) continue
      this.#rest = chunk.subarray(used)
      return
    }
    if (!this.#isClosed) this.#user.account()
  }
}
