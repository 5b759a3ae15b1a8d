// SPDX-License-Identifier: Apache-2.0
// Keeps what comes of a pipe until it is known who takes it, and looks at its beginning meanwhile. Bounded by the pipe's window: nothing
// of it is consumed.

import type { Pipe, PipeSink } from '../../mesh/http/pipe.ts'
import { WaitingChunks } from '../../mesh/relay/waiting-chunks.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'

const NOTHING = Buffer.alloc(0)

export class HeldBytes implements PipeSink {
  readonly #pipe: Pipe
  readonly #waiting = new WaitingChunks()
  #prefix: Buffer = NOTHING
  #prefixLength = 0
  #hasEnded = false
  #brokenBy: EndReason | undefined
  /** Called whenever something has come, or it is over. */
  onNews: () => void = () => undefined

  /** Takes the pipe over. At most `prefixBytes` of the beginning can be looked at. */
  constructor(pipe: Pipe, prefixBytes: number) {
    this.#pipe = pipe
    this.#prefix = Buffer.allocUnsafe(prefixBytes)
    pipe.sink = this
  }

  /** The beginning of what came. */
  get prefix(): Buffer {
    return this.#prefix.subarray(0, this.#prefixLength)
  }

  /** Whether no more of the beginning will be seen. */
  get isPrefixComplete(): boolean {
    return this.#hasEnded || this.#prefixLength === this.#prefix.length
  }

  /** Why it is over; undefined while it is not. */
  get brokenBy(): EndReason | undefined {
    return this.#brokenBy
  }

  /** Lets another sink have all that came, and then the pipe. */
  release(sink: PipeSink): void {
    this.onNews = () => undefined
    this.#pipe.sink = sink
    if (this.#brokenBy !== undefined) return sink.broken(this.#brokenBy)
    for (let chunk = this.#waiting.shift(); chunk !== undefined; chunk = this.#waiting.shift())
      this.#pipe.sink.receive(chunk, 0, chunk.length)
    if (this.#hasEnded) this.#pipe.sink.ended()
  }

  receive(chunk: Buffer, from: number, to: number): void {
    this.#prefixLength += chunk.copy(this.#prefix, this.#prefixLength, from, to)
    // A copy: the chunk is another's after this call.
    const copy = Buffer.allocUnsafeSlow(to - from)
    chunk.copy(copy, 0, from, to)
    this.#waiting.push(copy)
    this.onNews()
  }

  ended(): void {
    this.#hasEnded = true
    this.onNews()
  }

  broken(reason: EndReason): void {
    this.#brokenBy = reason
    this.#waiting.clear()
    this.onNews()
  }

  drained(): void {
    // Nothing is written meanwhile.
  }
}
