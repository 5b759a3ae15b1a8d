// SPDX-License-Identifier: Apache-2.0
// One direction of a plain relay: reads a socket, writes another byte stream. Hot; bench/relay.ts watches it.
// Idle and chatty connections read into one buffer of the thread, so that they cost no memory of their own and the
// collector nothing; a direction that carries bulk gets a buffer of its own for as long as it does.

import { Socket } from 'node:net'
import { readInPlace, sharedReadBuffer } from './read-in-place.ts'
import type { BareTunnel, HboneTunnel } from '../hbone/types.ts'
import type { ThinSocket } from './thin-socket.ts'

/** Either end of a relayed connection that Node serves. Both must have been made with allowHalfOpen. */
export type NodeStream = Socket | HboneTunnel

/** Either end of a relayed connection, before it is. */
export type ByteStream = Socket | BareTunnel | ThinSocket

/** Reading in place pays off after this many chunks; a connection that only asks once is done before. */
const IN_PLACE_AFTER = 4
/** Up to this a chunk is copied out of the shared buffer: cheaper than a system call, and Node has a pool for it. */
const CHATTY_BYTES = 4 * 1024
/** Fewer, larger system calls; beyond this the copies leave the processor's cache. */
const BULK_BUFFER_BYTES = 128 * 1024
/** So many small chunks in a row, and the direction is no longer bulk: its buffer is let go. */
const CHATTY_AFTER = 16

export class Pump {
  /** Bytes moved so far. */
  bytes = 0
  readonly #source: NodeStream
  readonly #sink: NodeStream
  /** Whether reads go to a buffer of our own, which then must not be read into while a write of it is pending. */
  #isBulk = false
  #smallChunks = 0
  #chunks = 0
  readonly #onData = (chunk: Buffer): void => {
    this.#write(chunk)
    const source = this.#source
    this.#chunks += 1
    if (this.#chunks < IN_PLACE_AFTER || !(source instanceof Socket) || source.isPaused()) return
    source.off('data', this.#onData)
    readInPlace(source, sharedReadBuffer(), (read) => this.#take(read))
  }
  readonly #onWritten = (): void => {
    if (this.#sink.writableLength === 0) this.#source.resume()
  }

  constructor(source: NodeStream, sink: NodeStream) {
    this.#source = source
    this.#sink = sink
    sink.on('drain', () => source.resume())
    source.on('end', () => sink.end())
  }

  start(): void {
    this.#source.on('data', this.#onData)
    this.#source.resume()
  }

  #take(chunk: Buffer): Buffer | false {
    return this.#isBulk ? this.#takeBulk(chunk) : this.#takeShared(chunk)
  }

  #takeShared(chunk: Buffer): Buffer | false {
    // The kernel may take only a part: what waits must not lie in the shared buffer.
    this.#write(Buffer.from(chunk))
    if (chunk.length <= CHATTY_BYTES) return false
    this.#isBulk = true
    this.#smallChunks = 0
    return Buffer.allocUnsafeSlow(BULK_BUFFER_BYTES)
  }

  #takeBulk(chunk: Buffer): Buffer | false {
    const sink = this.#sink
    this.bytes += chunk.length
    sink.write(chunk, this.#onWritten)
    if (sink.writableLength > 0) {
      this.#source.pause()
      return false
    }
    this.#smallChunks = chunk.length <= CHATTY_BYTES ? this.#smallChunks + 1 : 0
    if (this.#smallChunks < CHATTY_AFTER) return false
    this.#isBulk = false
    return sharedReadBuffer()
  }

  #write(chunk: Buffer): void {
    this.bytes += chunk.length
    // At most the sink's high-water mark plus one chunk is ever buffered.
    if (!this.#sink.write(chunk)) this.#source.pause()
  }
}
