// SPDX-License-Identifier: Apache-2.0
// A tunnel as a pipe: the tunnel's HTTP/2 stream without the Duplex around it. Hot: every byte through a waypoint passes here.

import { endReasonOfCut } from '../hbone/cut-code.ts'
import { settle, takeStream } from '../hbone/tunnel.ts'
import type { BareTunnel } from '../hbone/types.ts'
import type { PipeSink } from '../http/pipe.ts'
import { H2_CODE } from '../http2/protocol.ts'
import { type H2Stream, RELAY_RESET_CODE, type StreamSink } from '../http2/stream.ts'
import type { EndReason } from '../telemetry/end-reason.ts'
import { DEAF, type FarEnd, type StartedPipe } from './started-pipe.ts'
import { FLUSH_BEFORE_RESET_MS } from './reset-socket.ts'

export class StreamPipe implements StartedPipe, StreamSink {
  sink: PipeSink = DEAF
  readonly #tunnel: BareTunnel
  readonly #farEnd: FarEnd
  readonly #onClosed: (() => void) | undefined
  #stream: H2Stream | undefined
  /** Cut by us, or broken: nobody is told any more. */
  #isOver = false
  #isWriting = false
  #isStarted = false
  /** Written before the start: goes out then. */
  #early: Buffer[] | undefined
  #isEndEarly = false
  /** Runs while a reset waits for what was written before it. */
  #lastWords: NodeJS.Timeout | undefined

  /** Of a tunnel that nobody has used yet, and that is the pipe's from now on. `onClosed` hears once, when it is over whatever way. */
  constructor(tunnel: BareTunnel, farEnd: FarEnd, onClosed?: () => void) {
    this.#tunnel = tunnel
    this.#farEnd = farEnd
    this.#onClosed = onClosed
  }

  start(): void {
    takeStream(this.#tunnel, (stream) => {
      this.#stream = stream
      return this
    })
    this.#isStarted = true
    for (const chunk of this.#early ?? []) this.write(chunk, 0, chunk.length)
    this.#early = undefined
    if (this.#isEndEarly) this.end()
  }

  write(chunk: Buffer, from: number, to: number): boolean {
    const stream = this.#stream
    if (this.#isOver) return true
    if (stream === undefined || !this.#isStarted) {
      // Little: what the other end has said by the time that both are started.
      this.#early ??= []
      this.#early.push(Buffer.from(chunk.subarray(from, to)))
      return true
    }
    const bytes = from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to)
    this.#isWriting = true
    const hasRoom = stream.write(bytes, true)
    this.#isWriting = false
    return hasRoom
  }

  end(): void {
    if (this.#isStarted) this.#stream?.end()
    else this.#isEndEarly = true
  }

  reset(reason: EndReason): void {
    if (this.#isOver) return
    this.#isOver = true
    const stream = this.#stream
    if (stream === undefined) {
      this.#tunnel.reset()
      return this.#onClosed?.()
    }
    // What was written before goes first, as a kernel would have done, unless the peer does not read.
    if (!stream.hasUnsent || reason === 'tooManyUnreadBytes') return stream.reset(RELAY_RESET_CODE)
    this.#lastWords = setTimeout(() => stream.reset(RELAY_RESET_CODE), FLUSH_BEFORE_RESET_MS)
  }

  consume(bytes: number): void {
    this.#stream?.consume(bytes)
  }

  onHeaders(): void {
    // Answered before the pipe; the connection lets no more headers through.
  }

  onData(chunk: Buffer): boolean {
    if (this.#isOver) this.#stream?.consume(chunk.length)
    else this.sink.receive(chunk, 0, chunk.length)
    return false
  }

  onEnd(): void {
    if (!this.#isOver) this.sink.ended()
  }

  onReset(code: number): boolean {
    if (this.#isOver) return false
    this.#isOver = true
    const reason = this.#reasonOf(code)
    // Memory may be short for the very bytes that are being written: whoever writes them hears of it afterwards.
    if (this.#isWriting) queueMicrotask(() => this.sink.broken(reason))
    else this.sink.broken(reason)
    return false
  }

  onWritable(): void {
    if (this.#lastWords !== undefined) this.#stream?.reset(RELAY_RESET_CODE)
    else if (!this.#isOver) this.sink.drained()
  }

  onClosed(): void {
    clearTimeout(this.#lastWords)
    settle(this.#tunnel)
    this.#onClosed?.()
  }

  #reasonOf(code: number): EndReason {
    if (code === H2_CODE.enhanceYourCalm) return 'tooManyUnreadBytes'
    return endReasonOfCut(code) ?? (this.#farEnd === 'client' ? 'clientReset' : 'serverReset')
  }
}
