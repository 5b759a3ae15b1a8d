// SPDX-License-Identifier: Apache-2.0
// A tunnel as a Node stream: what onTunnel accepts and the pool opens. Relays take its HTTP/2 stream out
// again (takeStream) and save the cost of the Duplex; everybody else uses it as any other stream.

import { Duplex } from 'node:stream'
import type { AskedSilence } from '../http2/peer-silence.ts'
import { H2_CODE } from '../http2/protocol.ts'
import { type H2Stream, RELAY_RESET_CODE, type StreamSink } from '../http2/stream.ts'
import { keepable } from '../relay/read-in-place.ts'
import { WaitingChunks } from '../relay/waiting-chunks.ts'
import { CUT_CODE } from './cut-code.ts'
import type { HboneTunnel } from './types.ts'

type Done = (error?: Error | null) => void

/** The Duplex over one HTTP/2 stream whose CONNECT was answered with 200. */
export class StreamTunnel extends Duplex implements HboneTunnel, StreamSink {
  readonly #stream: H2Stream
  /** Came before anybody asked for it; bounded by the stream's window. */
  readonly #queue = new WaitingChunks()
  #isWanted = false
  #isEndQueued = false
  #isUsed = false
  #isTaken = false
  #wasReset = false
  #resetCode: number = H2_CODE.noError
  #blockedWrite: Done | undefined

  constructor(stream: H2Stream) {
    super({ allowHalfOpen: true })
    this.#stream = stream
    stream.sink = this
  }

  get wasReset(): boolean {
    return this.#wasReset
  }

  reset(): void {
    this.#stream.reset(RELAY_RESET_CODE)
    this.destroy()
  }

  askSilence(asked: AskedSilence | undefined): void {
    this.#stream.askSilence(asked, CUT_CODE.peerSilent)
  }

  /** Marks the tunnel as reset by the peer; what accept() returns when the client gave up first. */
  markReset(code: number): void {
    this.#wasReset = true
    this.#resetCode = code
    this.destroy()
  }

  /** Hands the stream over to a sink, which from now on hears everything, first what came already. */
  handOver(toSink: (stream: H2Stream) => StreamSink): H2Stream {
    if (this.#isUsed || this.#isTaken)
      throw new Error('a tunnel that was read from, written to or spliced cannot be spliced')
    this.#isTaken = true
    const stream = this.#stream
    const sink = toSink(stream)
    if (this.#wasReset || stream.isClosed) {
      stream.drop()
      sink.onReset(this.#resetCode, false)
      sink.onClosed()
      return stream
    }
    stream.sink = sink
    for (let chunk = this.#queue.shift(); chunk !== undefined; chunk = this.#queue.shift())
      sink.onData(chunk)
    if (this.#isEndQueued) sink.onEnd()
    return stream
  }

  /** After a splice: the tunnel closes too, and says how it ended. */
  settle(wasReset: boolean): void {
    this.#wasReset ||= wasReset
    this.destroy()
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
    if (!this.#isTaken) {
      if (!isComplete && !this.#wasReset) this.#stream.reset(RELAY_RESET_CODE)
      this.#stream.drop()
    }
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

  onReset(code: number): boolean {
    this.markReset(code)
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
export function takeStream(
  tunnel: HboneTunnel,
  toSink: (stream: H2Stream) => StreamSink,
): H2Stream {
  if (!(tunnel instanceof StreamTunnel)) throw new Error('not a tunnel of this module')
  return tunnel.handOver(toSink)
}
