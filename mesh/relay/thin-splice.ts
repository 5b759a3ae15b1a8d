// SPDX-License-Identifier: Apache-2.0
// Joins a captured TCP connection that an engine serves to an HBONE tunnel: what splice.ts does with a socket of Node's.

import { endReasonOfCut } from '../hbone/cut-code.ts'
import { settle, takeStream } from '../hbone/tunnel.ts'
import type { CutSignal } from '../async/cut.ts'
import type { BareTunnel } from '../hbone/types.ts'
import { H2_CODE } from '../http2/protocol.ts'
import { type H2Stream, RELAY_RESET_CODE, type StreamSink } from '../http2/stream.ts'
import type { ByteCounts } from '../telemetry/connection-record.ts'
import type { EndReason } from '../telemetry/end-reason.ts'
import { FLUSH_BEFORE_RESET_MS } from './reset-socket.ts'
import {
  countsOf,
  endOf,
  type Metered,
  type RelayListener,
  type SocketRole,
} from './relay-result.ts'
import { DeafListener, type ThinOwner, type ThinSocket } from './thin-socket.ts'
import { WaitingChunks } from './waiting-chunks.ts'

/** As splice(), of a socket that an engine has accepted or connected. */
export function spliceThin(
  socket: ThinSocket,
  role: SocketRole,
  tunnel: BareTunnel,
  listener: RelayListener,
  signal?: CutSignal,
): void {
  new ThinSplice(socket, role, tunnel, listener, signal).start()
}

/** What becomes of the socket once the kernel has taken what waits. */
type Then = 'end' | 'close' | 'reset'

class ThinSplice extends DeafListener implements ThinOwner, StreamSink, Metered {
  readonly #socket: ThinSocket
  readonly #role: SocketRole
  readonly #tunnel: BareTunnel
  readonly #listener: RelayListener
  readonly #signal: CutSignal | undefined
  #stream: H2Stream | undefined
  /** The engine's; -1 before and after. */
  #id = -1
  /** Bytes from the socket into the tunnel. */
  #sent = 0
  /** Bytes from the tunnel into the socket. */
  #received = 0
  /** Received, and waiting for the kernel: given back to the peer as it takes them. */
  #waiting: WaitingChunks | undefined
  /** The first of them, which was taken in part. */
  #begun: Buffer | undefined
  #then: Then | undefined
  #hasEnded = false
  #isShut = false
  #isPaused = false
  #end: EndReason = 'ok'
  #isSocketClosed = false
  #isStreamClosed = false
  #isOver = false
  /** Runs while a reset, of the tunnel or of the socket, waits for what came before it. */
  #lastWords: NodeJS.Timeout | undefined
  readonly #onAbort = (): void => this.#abort()

  constructor(
    socket: ThinSocket,
    role: SocketRole,
    tunnel: BareTunnel,
    listener: RelayListener,
    signal: CutSignal | undefined,
  ) {
    super()
    this.#socket = socket
    this.#role = role
    this.#tunnel = tunnel
    this.#listener = listener
    this.#signal = signal
  }

  start(): void {
    const signal = this.#signal
    this.#listener.metered(this)
    if (this.#socket.destroyed) this.#isSocketClosed = true
    else this.#listen()
    takeStream(this.#tunnel, (taken) => {
      this.#stream = taken
      return this
    })
    if (signal?.aborted) return this.#abort()
    signal?.addEventListener('abort', this.#onAbort)
    if (this.#isSocketClosed) this.#socketClosed()
  }

  #listen(): void {
    const { engine } = this.#socket
    const { fd, id } = this.#socket.own(this)
    this.#id = id < 0 ? engine.stream(fd, this) : id
    if (id >= 0 && engine.take(id, this) < 0) this.#id = -1
    if (this.#id >= 0) return
    engine.closeFd(fd, true)
    this.#end = 'internal'
    this.#isSocketClosed = true
  }

  /** Of the socket. */
  reset(isNow: boolean): void {
    if (isNow) this.#close(true)
    else this.#resetSocket()
  }

  override read(chunk: Buffer): void {
    const stream = this.#stream
    if (stream === undefined) return
    this.#sent += chunk.length
    if (stream.write(chunk, true) || this.#isPaused) return
    this.#isPaused = true
    this.#socket.engine.pause(this.#id, true)
  }

  override ended(): void {
    this.#hasEnded = true
    this.#stream?.end()
    if (this.#isShut) this.#close(false)
  }

  override broken(): void {
    this.#blame(this.#role)
    this.#close(false)
  }

  override writable(): void {
    if (!this.#flush()) return
    switch (this.#then) {
      case 'end':
        this.#then = undefined
        return this.#shut()
      case 'close':
        return this.#close(false)
      case 'reset':
        return this.#close(true)
      case undefined:
    }
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
    if (this.#isWaiting) return (this.#waiting ??= new WaitingChunks()).push(chunk)
    const taken = this.#socket.engine.write(this.#id, chunk, 0, chunk.length)
    // Lost: `broken` follows, and until then nobody wants it.
    const gone = taken < 0 ? chunk.length : taken
    this.#stream?.consume(gone)
    if (gone === chunk.length) return false
    // The peer gets no more window for what waits, so what we hold is bounded by one window.
    return (this.#waiting ??= new WaitingChunks()).push(gone === 0 ? chunk : chunk.subarray(gone))
  }

  onEnd(): void {
    if (this.#isSocketClosed) return
    if (this.#isWaiting) this.#then = 'end'
    else this.#shut()
  }

  onReset(code: number): boolean {
    if (code === H2_CODE.noError && (this.#isShut || this.#then === 'end')) {
      // The peer is done and only wants no more of ours (RFC 9113 8.1): what it sent must still arrive.
      this.#then = 'close'
      if (!this.#isWaiting) this.#close(false)
      return this.#isWaiting
    }
    if (code === H2_CODE.enhanceYourCalm) {
      // Ours or the far agent's memory is short: no time is left to deliver the rest.
      if (this.#end === 'ok') this.#end = 'tooManyUnreadBytes'
      this.#close(true)
      return false
    }
    const cut = endReasonOfCut(code)
    if (cut === undefined) this.#blame(this.#role === 'client' ? 'server' : 'client')
    else if (this.#end === 'ok') this.#end = cut
    this.#resetSocket()
    return this.#isWaiting
  }

  onWritable(): void {
    if (this.#isSocketClosed) {
      if (this.#lastWords !== undefined) this.#stream?.reset(RELAY_RESET_CODE)
      return
    }
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#socket.engine.pause(this.#id, false)
  }

  onClosed(): void {
    this.#isStreamClosed = true
    this.#finishIfDone()
  }

  get #isWaiting(): boolean {
    return this.#begun !== undefined || (this.#waiting?.bytes ?? 0) > 0
  }

  /** Gives the kernel what waits; whether it took all. */
  #flush(): boolean {
    for (;;) {
      const chunk = this.#begun ?? this.#waiting?.shift()
      if (chunk === undefined) return true
      const taken = this.#socket.engine.write(this.#id, chunk, 0, chunk.length)
      const gone = taken < 0 ? chunk.length : taken
      this.#begun = gone === chunk.length ? undefined : chunk.subarray(gone)
      this.#stream?.consume(gone)
      if (this.#begun !== undefined) return false
    }
  }

  /** The tunnel has ended, and the kernel has all of it. */
  #shut(): void {
    this.#isShut = true
    // After the end of both, close() says FIN as shutdown() would, a system call earlier.
    if (this.#hasEnded) this.#close(false)
    else this.#socket.engine.end(this.#id)
  }

  /** As resetSocket(). */
  #resetSocket(): void {
    if (this.#isSocketClosed) return
    if (!this.#isWaiting) return this.#close(true)
    this.#then = 'reset'
    this.#lastWords ??= setTimeout(() => this.#close(true), FLUSH_BEFORE_RESET_MS)
  }

  #close(isReset: boolean): void {
    if (this.#isSocketClosed) return
    this.#socket.engine.close(this.#id, isReset)
    this.#id = -1
    this.#isSocketClosed = true
    this.#socketClosed()
  }

  #socketClosed(): void {
    this.#socket.wasClosed()
    clearTimeout(this.#lastWords)
    this.#lastWords = undefined
    const stream = this.#stream
    if (stream !== undefined && !stream.isClosed && !(stream.isEndQueued && this.#isShut)) {
      this.#blame(this.#role)
      this.#resetTunnel(stream)
    }
    this.#waiting = undefined
    this.#begun = undefined
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
    this.reset(this.#signal?.reason === ('tooManyConnections' satisfies EndReason))
  }

  /** The first to break it is the reason. */
  #blame(role: 'client' | 'server'): void {
    if (this.#end === 'ok') this.#end = role === 'client' ? 'clientReset' : 'serverReset'
  }

  #finishIfDone(): void {
    if (!this.#isSocketClosed || !this.#isStreamClosed || this.#isOver) return
    this.#isOver = true
    clearTimeout(this.#lastWords)
    this.#signal?.removeEventListener('abort', this.#onAbort)
    settle(this.#tunnel)
    this.#listener.ended({ ...this.counts(), end: endOf(this.#end, this.#signal) })
  }
}
