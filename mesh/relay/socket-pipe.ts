// SPDX-License-Identifier: Apache-2.0
// A connection as a pipe: the way from a waypoint to what is outside the mesh, or speaks TLS itself.

import type { Socket } from 'node:net'
import type { PipeSink } from '../http/pipe.ts'
import type { EndReason } from '../telemetry/end-reason.ts'
import { readInPlace, sharedReadBuffer } from './read-in-place.ts'
import { resetSocket, resetSocketNow } from './reset-socket.ts'
import { DEAF, type FarEnd, type StartedPipe } from './started-pipe.ts'

/** What depends on what is spoken below the bytes. */
export interface SocketWays {
  /** Received and not consumed: with so much the far end is made to wait. */
  readonly windowBytes: number
  /** Calls for each chunk, which is the socket's again after the call. */
  read(socket: Socket, receive: (chunk: Buffer) => void): void
  /** Resets it, in a way that the far end can tell from an end. */
  cut(socket: Socket, reason: EndReason): void
}

/** Of TCP. */
const PLAIN_WAYS: SocketWays = {
  // As much as one read brings.
  windowBytes: 64 * 1024,
  read(socket, receive) {
    readInPlace(socket, sharedReadBuffer(), (chunk) => {
      receive(chunk)
      return false
    })
  },
  cut(socket, reason) {
    if (reason === 'tooManyUnreadBytes') resetSocketNow(socket)
    else resetSocket(socket)
  },
}

export class SocketPipe implements StartedPipe {
  sink: PipeSink = DEAF
  readonly #socket: Socket
  readonly #farEnd: FarEnd
  readonly #ways: SocketWays
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
  constructor(socket: Socket, farEnd: FarEnd, ways: SocketWays = PLAIN_WAYS) {
    this.#socket = socket
    this.#farEnd = farEnd
    this.#ways = ways
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
    this.#ways.read(socket, (chunk) => {
      if (this.#isOver) return
      this.#unconsumed += chunk.length
      if (this.#unconsumed >= this.#ways.windowBytes) socket.pause()
      this.sink.receive(chunk, 0, chunk.length)
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
    this.#ways.cut(this.#socket, reason)
  }

  consume(bytes: number): void {
    this.#unconsumed -= bytes
    if (this.#unconsumed < this.#ways.windowBytes && this.#socket.isPaused()) this.#socket.resume()
  }

  #broken(): void {
    if (this.#isOver) return
    this.#isOver = true
    if (!this.#isEnded || !this.#isEndReceived)
      this.sink.broken(this.#farEnd === 'client' ? 'clientReset' : 'serverReset')
  }
}
