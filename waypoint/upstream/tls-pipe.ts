// SPDX-License-Identifier: Apache-2.0
// TLS that the waypoint speaks to a pod, as a pipe.

import type { TLSSocket } from 'node:tls'
import type { PipeSink } from '../../mesh/http/pipe.ts'
import { FLUSH_BEFORE_RESET_MS } from '../../mesh/relay/reset-socket.ts'
import { DEAF, type StartedPipe } from '../../mesh/relay/started-pipe.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'

/** Received and not consumed: with so much the pod is made to wait. */
const WINDOW_BYTES = 128 * 1024
const NOTHING = Buffer.alloc(0)

export class TlsPipe implements StartedPipe {
  sink: PipeSink = DEAF
  readonly #socket: TLSSocket
  #unconsumed = 0
  #isOver = false
  #isEnded = false
  #isEndReceived = false
  #isCorked = false
  readonly #flush = (): void => {
    this.#isCorked = false
    this.#socket.uncork()
  }

  /** Of a socket whose handshake is done, that nobody has used yet, and that is the pipe's from now on. */
  constructor(socket: TLSSocket) {
    this.#socket = socket
  }

  start(): void {
    const socket = this.#socket
    if (socket.destroyed) return void queueMicrotask(() => this.#broken())
    socket.on('close', () => this.#broken())
    socket.on('end', () => {
      this.#isEndReceived = true
      if (!this.#isOver) this.sink.ended()
    })
    socket.on('drain', () => {
      if (!this.#isOver) this.sink.drained()
    })
    socket.on('data', (chunk: Buffer) => {
      if (this.#isOver) return
      this.#unconsumed += chunk.length
      if (this.#unconsumed >= WINDOW_BYTES) socket.pause()
      this.sink.receive(chunk, 0, chunk.length)
    })
  }

  write(chunk: Buffer, from: number, to: number): boolean {
    if (this.#isOver || this.#isEnded) return true
    const socket = this.#socket
    // One record for what a turn brings.
    if (!this.#isCorked) {
      this.#isCorked = true
      socket.cork()
      setImmediate(this.#flush)
    }
    // What waits is Node's, and the bytes are the writer's again after this call.
    const copy = Buffer.allocUnsafe(to - from)
    chunk.copy(copy, 0, from, to)
    return socket.write(copy)
  }

  end(): void {
    if (this.#isOver || this.#isEnded) return
    this.#isEnded = true
    this.#socket.end()
  }

  /** Without close_notify: the pod can tell it from an end (RFC 8446 6.1). */
  reset(reason: EndReason): void {
    if (this.#isOver) return
    this.#isOver = true
    const socket = this.#socket
    if (socket.writableLength === 0 || reason === 'tooManyUnreadBytes') return void socket.destroy()
    // What was written before goes first, unless the pod does not read.
    const deadline = setTimeout(() => socket.destroy(), FLUSH_BEFORE_RESET_MS)
    socket.once('close', () => clearTimeout(deadline))
    if (socket.writableEnded) socket.once('finish', () => socket.destroy())
    else socket.write(NOTHING, () => socket.destroy())
  }

  consume(bytes: number): void {
    this.#unconsumed -= bytes
    if (this.#unconsumed < WINDOW_BYTES && this.#socket.isPaused()) this.#socket.resume()
  }

  #broken(): void {
    if (this.#isOver) return
    this.#isOver = true
    if (!this.#isEnded || !this.#isEndReceived) this.sink.broken('serverReset')
  }
}
