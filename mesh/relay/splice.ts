// SPDX-License-Identifier: Apache-2.0
// Joins a captured TCP connection to an HBONE tunnel: bytes, half-close, RST and backpressure both ways.
// It speaks to the HTTP/2 stream directly, past the tunnel's Duplex. Hot: bench/hbone-relays.ts watches it.

import type { CutSignal } from '../async/cut.ts'
import type { Socket } from 'node:net'
import type { ByteCounts } from '../telemetry/connection-record.ts'
import type { EndReason } from '../telemetry/end-reason.ts'
import { H2_CODE } from '../http2/protocol.ts'
import { type H2Stream, RELAY_RESET_CODE, type StreamSink } from '../http2/stream.ts'
import { keepable, readInPlace, sharedReadBuffer, TLS_READ_BYTES } from './read-in-place.ts'
import { cutSocket, FLUSH_BEFORE_RESET_MS, resetSocket, resetSocketNow } from './reset-socket.ts'
import { endReasonOfCut } from '../hbone/cut-code.ts'
import { settle, takeStream } from '../hbone/tunnel.ts'
import {
  countsOf,
  endOf,
  type Metered,
  type RelayListener,
  type SocketRole,
} from './relay-result.ts'
import { WaitingChunks } from './waiting-chunks.ts'
import type { BareTunnel } from '../hbone/types.ts'

/** Memory that a chunk may keep while it alone waits for the kernel, uncounted: a record's, or that of Node's pool. */
const UNCOUNTED_BYTES = Math.max(TLS_READ_BYTES, Buffer.poolSize)

/**
 * Relays until both directions ended or either side was reset, and owns both from now on. Aborting the signal cuts both with a reset.
 * The socket must have been made with allowHalfOpen and TCP_NODELAY (it may be paused); neither it nor the tunnel may have been
 * used.
 */
export function splice(
  socket: Socket,
  role: SocketRole,
  tunnel: BareTunnel,
  listener: RelayListener,
  signal?: CutSignal,
): void {
  new Splice(socket, role, tunnel, listener, signal).start()
}

class Splice implements StreamSink, Metered {
  readonly #socket: Socket
  readonly #role: SocketRole
  readonly #tunnel: BareTunnel
  readonly #listener: RelayListener
  readonly #signal: CutSignal | undefined
  #stream: H2Stream | undefined
  /** Bytes from the socket into the tunnel. */
  #sent = 0
  /** Bytes from the tunnel into the socket. */
  #received = 0
  /** Received, and waiting for the kernel: given back to the peer as it takes them. While there are any, onWritten comes. */
  #unread = 0
  /** Of the unread bytes those that the socket was not given yet. */
  #waiting: WaitingChunks | undefined
  #end: EndReason = 'ok'
  /** Closed by us after the end of both directions. */
  #isEnded = false
  #isSocketClosed = false
  #isStreamClosed = false
  /** Runs while the tunnel waits with its reset for what the socket had sent before it broke. */
  #lastWords: NodeJS.Timeout | undefined
  readonly #onAbort = (): void => this.#abort()
  readonly #onWritten = (): void => {
    const { writableLength } = this.#socket
    const gone = this.#unread - writableLength - (this.#waiting?.bytes ?? 0)
    if (gone > 0) {
      this.#unread -= gone
      this.#stream?.consume(gone)
    }
    if (writableLength === 0) this.#flush()
  }

  constructor(
    socket: Socket,
    role: SocketRole,
    tunnel: BareTunnel,
    listener: RelayListener,
    signal: CutSignal | undefined,
  ) {
    this.#socket = socket
    this.#role = role
    this.#tunnel = tunnel
    this.#listener = listener
    this.#signal = signal
  }

  start(): void {
    const socket = this.#socket
    this.#listener.metered(this)
    socket.on('error', () => this.#blame(this.#role))
    socket.on('close', () => this.#onSocketClosed())
    const stream = takeStream(this.#tunnel, (taken) => {
      this.#stream = taken
      return this
    })
    const signal = this.#signal
    if (signal?.aborted) return this.#abort()
    signal?.addEventListener('abort', this.#onAbort)
    if (socket.destroyed) return this.#onSocketClosed()
    socket.on('end', () => stream.end())
    readInPlace(socket, sharedReadBuffer(), (chunk) => {
      this.#sent += chunk.length
      if (!stream.write(chunk, true)) socket.pause()
      return false
    })
  }

  counts(): ByteCounts {
    return countsOf(this.#role, this.#sent, this.#received)
  }

  onHeaders(): void {
    // Answered before the splice; the connection lets no more headers through.
  }

  onData(chunk: Buffer): boolean {
    if (this.#isSocketClosed) {
      this.#stream?.consume(chunk.length)
      return false
    }
    this.#received += chunk.length
    const socket = this.#socket
    const isFirst = this.#unread === 0
    if (isFirst && socket.writableLength === 0) {
      // Once it is written there is no taking it back: what must not be kept is copied first.
      const kept = keepable(chunk)
      const isBulk = kept.buffer.byteLength > UNCOUNTED_BYTES
      socket.write(kept, isBulk ? this.#onWritten : undefined)
      const isTaken = socket.writableLength === 0
      // The kernel takes it, or it alone waits, with a record of memory: gone either way. What keeps more counts until it is.
      if (isTaken || !isBulk) this.#stream?.consume(chunk.length)
      else this.#unread = chunk.length
      return kept === chunk && !isTaken
    }
    // It waits behind others: the peer gets no more window until it went on, so what we hold is bounded by one window.
    this.#unread += chunk.length
    if (!isFirst) return (this.#waiting ??= new WaitingChunks()).push(chunk)
    const kept = keepable(chunk)
    socket.write(kept, this.#onWritten)
    return kept === chunk
  }

  onEnd(): void {
    if (this.#isSocketClosed) return
    this.#flush()
    const socket = this.#socket
    // Both have ended and the kernel has all bytes: its close() says FIN as its shutdown() would, a system call and a turn earlier.
    if (socket.readableEnded && socket.writableLength === 0) {
      this.#isEnded = true
      socket.destroy()
    } else socket.end()
  }

  onReset(code: number): boolean {
    if (code === H2_CODE.noError && this.#socket.writableEnded) {
      // The peer is done and only wants no more of ours (RFC 9113 8.1): what it sent must still arrive.
      this.#socket.destroySoon()
      return true
    }
    if (code === H2_CODE.enhanceYourCalm) {
      // Ours or the far agent's memory is short: no time is left to deliver the rest.
      if (this.#end === 'ok') this.#end = 'tooManyUnreadBytes'
      resetSocketNow(this.#socket)
      return false
    }
    const cut = endReasonOfCut(code)
    if (cut === undefined) this.#blame(this.#role === 'client' ? 'server' : 'client')
    else if (this.#end === 'ok') this.#end = cut
    this.#flush()
    resetSocket(this.#socket)
    return true
  }

  onWritable(): void {
    if (this.#lastWords !== undefined) this.#stream?.reset(RELAY_RESET_CODE)
    else this.#socket.resume()
  }

  onClosed(): void {
    this.#isStreamClosed = true
    this.#finishIfDone()
  }

  /** Gives the socket all that waits, as one write. */
  #flush(): void {
    const socket = this.#socket
    let chunk = this.#waiting?.shift()
    if (chunk === undefined || socket.destroyed) return
    socket.cork()
    while (chunk !== undefined) {
      const next = this.#waiting?.shift()
      socket.write(chunk, next === undefined ? this.#onWritten : undefined)
      chunk = next
    }
    socket.uncork()
  }

  #onSocketClosed(): void {
    this.#isSocketClosed = true
    const stream = this.#stream
    if (stream !== undefined && !stream.isClosed) {
      const isComplete = stream.isEndQueued && (this.#isEnded || this.#socket.writableFinished)
      if (!isComplete) {
        this.#blame(this.#role)
        this.#resetTunnel(stream)
      }
    }
    this.#waiting = undefined
    stream?.drop()
    this.#finishIfDone()
  }

  /** The socket broke; what it had sent before that goes first, as the kernel would have done, unless the peer does not read. */
  #resetTunnel(stream: H2Stream): void {
    if (!stream.hasUnsent) return stream.reset(RELAY_RESET_CODE)
    this.#lastWords = setTimeout(() => stream.reset(RELAY_RESET_CODE), FLUSH_BEFORE_RESET_MS)
  }

  #abort(): void {
    if (this.#end === 'ok') this.#end = 'drained'
    this.#stream?.reset(RELAY_RESET_CODE)
    cutSocket(this.#socket, this.#signal?.reason)
  }

  /** The first to break it is the reason. */
  #blame(role: 'client' | 'server'): void {
    if (this.#end === 'ok') this.#end = role === 'client' ? 'clientReset' : 'serverReset'
  }

  #finishIfDone(): void {
    if (!this.#isSocketClosed || !this.#isStreamClosed) return
    clearTimeout(this.#lastWords)
    this.#signal?.removeEventListener('abort', this.#onAbort)
    settle(this.#tunnel)
    this.#listener.ended({ ...this.counts(), end: endOf(this.#end, this.#signal) })
  }
}
