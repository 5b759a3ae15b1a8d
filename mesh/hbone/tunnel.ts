// SPDX-License-Identifier: Apache-2.0
// A tunnel that the pool has opened or a server has accepted. Relays take its HTTP/2 stream out (takeStream) and save the cost of a
// Duplex; everybody else makes a stream of Node of it (asStream).

import { Duplex } from 'node:stream'
import type { AskedSilence } from '../http2/peer-silence.ts'
import { H2_CODE } from '../http2/protocol.ts'
import { type H2Stream, RELAY_RESET_CODE, type StreamSink } from '../http2/stream.ts'
import { keepable } from '../relay/read-in-place.ts'
import { WaitingChunks } from '../relay/waiting-chunks.ts'
import { CUT_CODE } from './cut-code.ts'
import type { BareTunnel, HboneTunnel } from './types.ts'

type Done = (error?: Error | null) => void

/** One HTTP/2 stream whose CONNECT was answered with 200, until somebody uses it. Hot: one for each connection. */
export class OpenTunnel implements BareTunnel, StreamSink {
  readonly #stream: H2Stream
  /** Came before anybody asked for it; bounded by the stream's window. */
  #early: WaitingChunks | undefined
  #isEndQueued = false
  #isTaken = false
  #isOver = false
  #wasReset = false
  #resetCode: number = H2_CODE.noError
  #onClosed: (() => void) | undefined

  constructor(stream: H2Stream) {
    this.#stream = stream
    stream.sink = this
  }

  get stream(): H2Stream {
    return this.#stream
  }

  reset(): void {
    this.#stream.reset(RELAY_RESET_CODE)
  }

  askSilence(asked: AskedSilence | undefined): void {
    this.#stream.askSilence(asked, CUT_CODE.peerSilent)
  }

  onceClosed(listener: () => void): void {
    if (this.#isOver) listener()
    else this.#onClosed = listener
  }

  asStream(): HboneTunnel {
    return new StreamTunnel(this)
  }

  /** Marks the tunnel as reset by the peer; what accept() returns when the client gave up first. */
  markReset(code: number): void {
    this.#wasReset = true
    this.#resetCode = code
    this.#early = undefined
  }

  /** Hands the stream over to a sink, which from now on hears everything, first what came already; it says settle() at its end. */
  handOver(toSink: (stream: H2Stream) => StreamSink): H2Stream {
    if (this.#isTaken) throw new Error('a tunnel that is used already cannot be used again')
    this.#isTaken = true
    const stream = this.#stream
    const early = this.#early
    this.#early = undefined
    const sink = toSink(stream)
    if (this.#wasReset || stream.isClosed) {
      stream.drop()
      sink.onReset(this.#resetCode, false)
      sink.onClosed()
      return stream
    }
    stream.sink = sink
    for (let chunk = early?.shift(); chunk !== undefined; chunk = early?.shift()) sink.onData(chunk)
    if (this.#isEndQueued) sink.onEnd()
    return stream
  }

  /** It is over, says who uses it. Idempotent. */
  settle(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#onClosed?.()
    this.#onClosed = undefined
  }

  onHeaders(): void {
    // The answer came before the tunnel existed, and nothing may follow it.
  }

  onData(chunk: Buffer): boolean {
    return (this.#early ??= new WaitingChunks()).push(chunk)
  }

  onEnd(): void {
    this.#isEndQueued = true
  }

  onWritable(): void {
    // Nothing was written yet.
  }

  onReset(code: number): boolean {
    this.markReset(code)
    return false
  }

  onClosed(): void {
    this.#early = undefined
    this.settle()
  }
}

/** The Duplex over a tunnel. */
class StreamTunnel extends Duplex implements HboneTunnel, StreamSink {
  readonly #tunnel: OpenTunnel
  readonly #stream: H2Stream
  /** Came before anybody asked for it; bounded by the stream's window. */
  readonly #queue = new WaitingChunks()
  #isWanted = false
  #isEndQueued = false
  #isUsed = false
  #wasReset = false
  #blockedWrite: Done | undefined

  constructor(tunnel: OpenTunnel) {
    super({ allowHalfOpen: true })
    this.#tunnel = tunnel
    this.#stream = tunnel.stream
    tunnel.handOver(() => this)
  }

  get wasReset(): boolean {
    return this.#wasReset
  }

  reset(): void {
    this.#stream.reset(RELAY_RESET_CODE)
    this.destroy()
  }

  askSilence(asked: AskedSilence | undefined): void {
    this.#tunnel.askSilence(asked)
  }

  override _read(): void {
    this.#isUsed = true
    this.#isWanted = true
    let chunk = this.#queue.shift()
    while (chunk !== undefined) {
      this.#deliver(chunk)
      chunk = this.#isWanted ? this.#queue.shift() : undefined
    }
    if (this.#isEndQueued && this.#queue.bytes === 0) this.push(null)
  }

  override _write(chunk: Buffer, _encoding: string, done: Done): void {
    this.#isUsed = true
    if (this.#stream.write(chunk, false)) done()
    else this.#blockedWrite = done
  }

  override _final(done: Done): void {
    this.#isUsed = true
    this.#stream.end()
    done()
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#queue.clear()
    // After END both ways the stream finishes by itself: it may still have bytes waiting for the peer's window.
    const isComplete = this.#stream.isEndQueued && this.#stream.isEndReceived && !error
    if (!isComplete && !this.#wasReset) this.#stream.reset(RELAY_RESET_CODE)
    this.#stream.drop()
    this.#tunnel.settle()
    done(error)
  }

  onHeaders(): void {
    // The answer came before the tunnel existed, and nothing may follow it.
  }

  onData(chunk: Buffer): boolean {
    if (this.destroyed) {
      this.#stream.consume(chunk.length)
      return false
    }
    if (!this.#isWanted || this.#queue.bytes > 0) return this.#queue.push(chunk)
    const kept = keepable(chunk)
    this.#deliver(kept)
    return kept === chunk
  }

  onEnd(): void {
    this.#isEndQueued = true
    if (this.#queue.bytes === 0 && this.#isUsed) this.push(null)
  }

  onWritable(): void {
    const done = this.#blockedWrite
    this.#blockedWrite = undefined
    done?.()
  }

  onReset(): boolean {
    this.#wasReset = true
    this.destroy()
    return false
  }

  onClosed(): void {
    // 'close' follows from END both ways, or from the reset.
  }

  #deliver(chunk: Buffer): void {
    this.#isWanted = this.push(chunk)
    this.#stream.consume(chunk.length)
  }
}

/** Takes the HTTP/2 stream out of a tunnel that nobody has used yet, for the sink that `toSink` makes of it. */
export function takeStream(tunnel: BareTunnel, toSink: (stream: H2Stream) => StreamSink): H2Stream {
  return open(tunnel).handOver(toSink)
}

/** Who has taken the stream out says that it is over. */
export function settle(tunnel: BareTunnel): void {
  open(tunnel).settle()
}

function open(tunnel: BareTunnel): OpenTunnel {
  if (!(tunnel instanceof OpenTunnel)) throw new Error('not a tunnel of this module')
  return tunnel
}
