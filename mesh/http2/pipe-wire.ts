// SPDX-License-Identifier: Apache-2.0
// A pipe as what carries a connection: HTTP/2 within a tunnel of another one. What it brings is acted on at once, and what is not
// yet is copied, for its memory is another's. Hot.

import type { Pipe, PipeSink } from '../http/pipe.ts'
import type { EndReason } from '../telemetry/end-reason.ts'
import { END_REASONS } from '../telemetry/end-reason.ts'
import { BriefIntake } from './brief-intake.ts'
import type { IntakeUser } from './intake.ts'
import type { TurnShare } from './turn-budget.ts'
import type { H2Intake, H2Wire } from './wire.ts'

export class PipeWire implements H2Wire, PipeSink {
  readonly #pipe: Pipe
  #intake: BriefIntake | undefined
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
    const pipe = this.#pipe
    // It brings no more than it was let.
    const bringer = { pause: () => undefined, taken: (bytes: number) => pipe.consume(bytes) }
    return (this.#intake = new BriefIntake(bringer, user, share))
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
    this.#intake?.receive(from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to))
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
