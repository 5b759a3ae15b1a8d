// SPDX-License-Identifier: Apache-2.0
// A TCP connection as a pipe: the way from a waypoint to what is outside the mesh.

import type { Socket } from 'node:net'
import type { PipeSink } from '../http/pipe.ts'
import type { EndReason } from '../telemetry/end-reason.ts'
import { readInPlace, sharedReadBuffer } from './read-in-place.ts'
import { resetSocket, resetSocketNow } from './reset-socket.ts'
import { DEAF, type FarEnd, type StartedPipe } from './started-pipe.ts'

/** Received and not consumed: with so much the far end is made to wait. As much as one read brings. */
const WINDOW_BYTES = 64 * 1024

export class SocketPipe implements StartedPipe {
  sink: PipeSink = DEAF
  readonly #socket: Socket
  readonly #farEnd: FarEnd
  #unconsumed = 0
  #isOver = false
  #isEnded = false
  #isEndReceived = false
  #isCorked = false
  readonly #flush = (): void => {
    this.#isCorked = false
    this.#socket.uncork()
  }

  /** Of a connected socket that was made with allowHalfOpen, that nobody has used yet, and that is the pipe's from now on. */
  constructor(socket: Socket, farEnd: FarEnd) {
    this.#socket = socket
    this.#farEnd = farEnd
    // It breaks with 'close', too; unheard, an error would end the process.
    socket.on('error', () => undefined)
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
    readInPlace(socket, sharedReadBuffer(), (chunk) => {
      if (this.#isOver) return false
      this.#unconsumed += chunk.length
      if (this.#unconsumed >= WINDOW_BYTES) socket.pause()
      this.sink.receive(chunk, 0, chunk.length)
      return false
    })
  }

  write(chunk: Buffer, from: number, to: number): boolean {
    if (this.#isOver || this.#isEnded) return true
    const socket = this.#socket
    if (!this.#isCorked) {
      this.#isCorked = true
      socket.cork()
      setImmediate(this.#flush)
    }
    // Node keeps what the kernel does not take at once, and the bytes are the writer's again after this call.
    const copy = Buffer.allocUnsafe(to - from)
    chunk.copy(copy, 0, from, to)
    return socket.write(copy)
  }

  end(): void {
    if (this.#isOver || this.#isEnded) return
    this.#isEnded = true
    this.#socket.end()
  }

  reset(reason: EndReason): void {
    if (this.#isOver) return
    this.#isOver = true
    if (reason === 'tooManyUnreadBytes') resetSocketNow(this.#socket)
    else resetSocket(this.#socket)
  }

  consume(bytes: number): void {
    this.#unconsumed -= bytes
    if (this.#unconsumed < WINDOW_BYTES && this.#socket.isPaused()) this.#socket.resume()
  }

  #broken(): void {
    if (this.#isOver) return
    this.#isOver = true
    if (!this.#isEnded || !this.#isEndReceived)
      this.sink.broken(this.#farEnd === 'client' ? 'clientReset' : 'serverReset')
  }
}
