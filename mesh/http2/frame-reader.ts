// SPDX-License-Identifier: Apache-2.0
// Cuts the octets of a connection into frames. DATA is handed on in slices as it comes, never copied or
// collected; other frames are collected whole, within bounds. Hot: bench/hbone-relays.ts watches it.

import { FLAG, FRAME, FRAME_HEADER_BYTES, H2ConnectionError, H2_CODE, PREFACE } from './protocol.ts'

export interface FrameHandler {
  /** A DATA frame begins; `flowBytes` is what it costs in flow control, padding included. */
  onDataFrame(streamId: number, flowBytes: number): void
  /** Some of its payload; valid beyond the call only if whoever reads the socket is told so. */
  onDataChunk(streamId: number, chunk: Buffer): void
  /** It is over; `paddingBytes` of its cost was not payload. */
  onDataFrameEnd(
    streamId: number,
    isEndStream: boolean,
    payloadBytes: number,
    paddingBytes: number,
  ): void
  /** Any other frame of a known type. The payload is only valid during the call. */
  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void
  /** A frame of an unknown type was skipped (RFC 9113 4.1). */
  onUnknownFrame(): void
}

export interface FrameReaderLimits {
  /** Our SETTINGS_MAX_FRAME_SIZE. */
  readonly maxFrameBytes: number
  /** The largest frame other than DATA that is collected. */
  readonly maxCollectedBytes: number
}

/** Frames of one size only (RFC 9113 6): nothing of another size is collected. */
const EXACT_BYTES: readonly (number | undefined)[] = frameSizes()
const EMPTY = Buffer.alloc(0)
const WORTH_COUNTING_BYTES = 1024
const STATE_PREFACE = 0
const STATE_HEADER = 1
const STATE_PAYLOAD = 2
const STATE_PAD_LENGTH = 3
const STATE_DATA = 4
const STATE_SKIP = 5

/** The reading side of one connection. */
export class FrameReader {
  readonly #handler: FrameHandler
  readonly #limits: FrameReaderLimits
  readonly #header = Buffer.allocUnsafe(FRAME_HEADER_BYTES)
  #state: number
  #isStopped = false
  /** Octets of the preface, header or payload collected so far. */
  #have = 0
  #length = 0
  #type = 0
  #flags = 0
  #streamId = 0
  #payload: Buffer = EMPTY
  /** Octets of the DATA frame, or of the skipped frame, still to come; of them the last #padding are padding. */
  #left = 0
  #padding = 0
  #dataBytes = 0

  constructor(handler: FrameHandler, limits: FrameReaderLimits, expectsPreface: boolean) {
    this.#handler = handler
    this.#limits = limits
    this.#state = expectsPreface ? STATE_PREFACE : STATE_HEADER
  }

  /** Memory of a frame that waits for its rest, in bytes; small ones are not worth counting. */
  get heldBytes(): number {
    return this.#payload.length < WORTH_COUNTING_BYTES ? 0 : this.#payload.length
  }

  /** Ends the read() under way after what it is at; for handlers. */
  stop(): void {
    this.#isStopped = true
  }

  /**
   * Takes what came off the wire; throws H2ConnectionError when it is not HTTP/2. How much it took: all, unless it was
   * stopped; the rest, even if empty, is to be given to the next call.
   */
  read(chunk: Buffer): number {
    this.#isStopped = false
    let at = 0
    while (
      (at < chunk.length || (this.#state === STATE_DATA && this.#left === 0)) &&
      !this.#isStopped
    ) {
      switch (this.#state) {
        case STATE_HEADER:
          at = this.#readHeader(chunk, at)
          break
        case STATE_DATA:
          at = this.#readData(chunk, at)
          break
        case STATE_PAYLOAD:
          at = this.#readPayload(chunk, at)
          break
        case STATE_PAD_LENGTH:
          at = this.#readPadLength(chunk, at)
          break
        case STATE_SKIP: {
          const skipped = Math.min(this.#left, chunk.length - at)
          this.#left -= skipped
          at += skipped
          if (this.#left === 0) this.#state = STATE_HEADER
          break
        }
        default:
          at = this.#readPreface(chunk, at)
      }
    }
    return at
  }

  #readPreface(chunk: Buffer, start: number): number {
    const take = Math.min(PREFACE.length - this.#have, chunk.length - start)
    if (PREFACE.compare(chunk, start, start + take, this.#have, this.#have + take) !== 0)
      throw new H2ConnectionError(
        H2_CODE.protocolError,
        'the connection does not begin with the HTTP/2 preface',
      )
    this.#have += take
    if (this.#have === PREFACE.length) {
      this.#have = 0
      this.#state = STATE_HEADER
    }
    return start + take
  }

  #readHeader(chunk: Buffer, start: number): number {
    if (this.#have === 0 && chunk.length - start >= FRAME_HEADER_BYTES) {
      this.#begin(chunk, start)
      return start + FRAME_HEADER_BYTES
    }
    const take = Math.min(FRAME_HEADER_BYTES - this.#have, chunk.length - start)
    chunk.copy(this.#header, this.#have, start, start + take)
    this.#have += take
    if (this.#have === FRAME_HEADER_BYTES) {
      this.#have = 0
      this.#begin(this.#header, 0)
    }
    return start + take
  }

  #begin(bytes: Buffer, at: number): void {
    const length = bytes.readUIntBE(at, 3)
    const type = bytes[at + 3] ?? 0
    this.#length = length
    this.#type = type
    this.#flags = bytes[at + 4] ?? 0
    this.#streamId = bytes.readUInt32BE(at + 5) & 0x7fff_ffff
    if (length > this.#limits.maxFrameBytes)
      throw new H2ConnectionError(
        H2_CODE.frameSizeError,
        `a frame of ${length} bytes is over our limit`,
      )
    if (type === FRAME.data) {
      this.#handler.onDataFrame(this.#streamId, length)
      this.#left = length
      this.#padding = 0
      this.#dataBytes = 0
      this.#state = (this.#flags & FLAG.padded) !== 0 ? STATE_PAD_LENGTH : STATE_DATA
      if (this.#state === STATE_PAD_LENGTH && length === 0)
        throw new H2ConnectionError(H2_CODE.frameSizeError, 'a padded frame without a pad length')
      return
    }
    const exactly = EXACT_BYTES[type]
    if (exactly !== undefined && length !== exactly)
      throw new H2ConnectionError(
        H2_CODE.frameSizeError,
        `a frame of type ${type} has ${length} bytes instead of ${exactly}`,
      )
    if (type > FRAME.continuation) {
      this.#handler.onUnknownFrame()
      this.#left = length
      if (length > 0) this.#state = STATE_SKIP
      return
    }
    if (length > this.#limits.maxCollectedBytes)
      throw new H2ConnectionError(
        H2_CODE.enhanceYourCalm,
        `a frame of type ${type} has ${length} bytes`,
      )
    if (length === 0) this.#handler.onFrame(type, this.#flags, this.#streamId, EMPTY)
    else this.#state = STATE_PAYLOAD
  }

  #readPayload(chunk: Buffer, start: number): number {
    const end = start + this.#length - this.#have
    if (this.#have === 0 && end <= chunk.length) {
      this.#state = STATE_HEADER
      this.#handler.onFrame(this.#type, this.#flags, this.#streamId, chunk.subarray(start, end))
      return end
    }
    if (this.#have === 0) this.#payload = Buffer.allocUnsafe(this.#length)
    const stop = Math.min(end, chunk.length)
    chunk.copy(this.#payload, this.#have, start, stop)
    this.#have += stop - start
    if (stop === end) {
      const payload = this.#payload
      this.#payload = EMPTY
      this.#have = 0
      this.#state = STATE_HEADER
      this.#handler.onFrame(this.#type, this.#flags, this.#streamId, payload)
    }
    return stop
  }

  #readPadLength(chunk: Buffer, at: number): number {
    const padding = chunk[at] ?? 0
    this.#left -= 1
    if (padding > this.#left)
      throw new H2ConnectionError(H2_CODE.protocolError, 'padding longer than its frame')
    this.#padding = padding
    this.#state = STATE_DATA
    return at + 1
  }

  #readData(chunk: Buffer, start: number): number {
    const available = chunk.length - start
    const payload = Math.min(this.#left - this.#padding, available)
    if (payload > 0) {
      this.#handler.onDataChunk(this.#streamId, chunk.subarray(start, start + payload))
      this.#dataBytes += payload
      this.#left -= payload
    }
    const padding = this.#left <= this.#padding ? Math.min(this.#left, available - payload) : 0
    this.#left -= padding
    // What is left of the padding is skipped as it comes; #padding shrinks along so that it is never taken for payload.
    this.#padding = Math.min(this.#padding, this.#left)
    if (this.#left === 0) {
      this.#state = STATE_HEADER
      const isEndStream = (this.#flags & FLAG.endStream) !== 0
      this.#handler.onDataFrameEnd(
        this.#streamId,
        isEndStream,
        this.#dataBytes,
        this.#length - this.#dataBytes,
      )
    }
    return start + payload + padding
  }
}

function frameSizes(): (number | undefined)[] {
  const sizes = new Array<number | undefined>(FRAME.continuation + 1).fill(undefined)
  sizes[FRAME.priority] = 5
  sizes[FRAME.rstStream] = 4
  sizes[FRAME.ping] = 8
  sizes[FRAME.windowUpdate] = 4
  return sizes
}
