// SPDX-License-Identifier: Apache-2.0
// What a connection has to send: frames are written into one buffer, and all that one turn of the event loop
// produced goes out as one write. Two buffers take turns, so that nothing is allocated in steady state.
// Hot: bench/hbone-relays.ts watches it.

import { FRAME_HEADER_BYTES } from './protocol.ts'
import type { H2Wire } from './wire.ts'

/** Enough for a burst of small frames. */
const FIRST_BUFFER_BYTES = 4096
const NOTHING = Buffer.alloc(0)

/** The writing side of one connection. */
export class FrameOutput {
  readonly #wire: Pick<H2Wire, 'write' | 'schedule'>
  readonly #onDrained: () => void
  readonly #onGrown: () => void
  #buffer: Buffer = Buffer.allocUnsafeSlow(FIRST_BUFFER_BYTES)
  #spare: Buffer | undefined
  #inFlight: Buffer | undefined
  #inFlightBytes = 0
  #length = 0
  #isScheduled = false
  #isStopped = false
  readonly #flush = (): void => {
    this.#isScheduled = false
    this.flush()
  }
  readonly #onWritten = (error?: Error | null): void => {
    this.#spare = this.#inFlight
    this.#inFlight = undefined
    this.#inFlightBytes = 0
    if (error) return // the socket's own error event ends the connection
    this.#onDrained()
    // By the end of the turn, so that what the drain let in goes along.
    if (this.#length > 0) this.#schedule()
  }

  /** `onGrown` hears when heldBytes went up. */
  constructor(
    wire: Pick<H2Wire, 'write' | 'schedule'>,
    onDrained: () => void,
    onGrown: () => void,
  ) {
    this.#wire = wire
    this.#onDrained = onDrained
    this.#onGrown = onGrown
  }

  /** Bytes that the kernel has not taken yet. */
  get pendingBytes(): number {
    return this.#length + this.#inFlightBytes
  }

  /** Memory of its buffers beyond those of an idle connection, in bytes. */
  get heldBytes(): number {
    const all = this.#buffer.length + (this.#inFlight ?? this.#spare ?? NOTHING).length
    return Math.max(0, all - 2 * FIRST_BUFFER_BYTES)
  }

  /** Writes a frame header and makes room for its payload, which the caller writes at the returned offset of `buffer`. */
  frame(length: number, type: number, flags: number, streamId: number): number {
    const at = this.#reserve(FRAME_HEADER_BYTES + length)
    const buffer = this.#buffer
    buffer[at] = length >>> 16
    buffer[at + 1] = length >>> 8
    buffer[at + 2] = length
    buffer[at + 3] = type
    buffer[at + 4] = flags
    buffer.writeUInt32BE(streamId, at + 5)
    return at + FRAME_HEADER_BYTES
  }

  /** The buffer that frame() gave an offset into; ask anew after each frame(). */
  get buffer(): Buffer {
    return this.#buffer
  }

  /** Bytes that are no frame: the client's preface. */
  raw(bytes: Buffer): void {
    bytes.copy(this.#buffer, this.#reserve(bytes.length))
  }

  /** Hands everything to TLS now; while a write is under way, when it is done. */
  flush(): void {
    if (this.#length === 0 || this.#inFlight !== undefined || this.#isStopped) return
    const buffer = this.#buffer
    const length = this.#length
    this.#inFlight = buffer
    this.#inFlightBytes = length
    this.#buffer = this.#spare ?? Buffer.allocUnsafeSlow(FIRST_BUFFER_BYTES)
    this.#spare = undefined
    this.#length = 0
    this.#wire.write(buffer.subarray(0, length), this.#onWritten)
  }

  /** Writes what there is; nothing more is sent. */
  end(): void {
    if (this.#isStopped) return
    this.#isStopped = true
    if (this.#length > 0) this.#wire.write(this.#buffer.subarray(0, this.#length))
    this.#buffer = NOTHING
    this.#length = 0
  }

  /** Gives large buffers back; called now and then on idle connections. */
  shrink(): void {
    if (this.#length > 0 || this.#inFlight !== undefined || this.#isStopped) return
    this.#spare = undefined
    if (this.#buffer.length > FIRST_BUFFER_BYTES)
      this.#buffer = Buffer.allocUnsafeSlow(FIRST_BUFFER_BYTES)
  }

  #reserve(bytes: number): number {
    const at = this.#length
    if (at + bytes > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(at + bytes, 2 * this.#buffer.length))
      this.#buffer.copy(larger, 0, 0, at)
      this.#buffer = larger
      this.#onGrown()
    }
    this.#length = at + bytes
    if (!this.#isScheduled) this.#schedule()
    return at
  }

  #schedule(): void {
    this.#isScheduled = true
    this.#wire.schedule(this.#flush)
  }
}
