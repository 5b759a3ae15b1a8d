// SPDX-License-Identifier: Apache-2.0
// Puts header blocks together from HEADERS and CONTINUATION (RFC 9113 4.3, 6.2, 6.10), within bounds.

import { FLAG, H2ConnectionError, H2_CODE, LARGEST_STREAM_ID } from './protocol.ts'

/** A peer may split its header block in many frames, but not so many that counting them is the attack. */
const MOST_CONTINUATIONS = 16
const PRIORITY_BYTES = 5

/** One whole block; its bytes live only during the call that brought it. */
export interface HeaderBlock {
  readonly streamId: number
  readonly isEndStream: boolean
  readonly bytes: Buffer
}

interface Half {
  readonly streamId: number
  readonly isEndStream: boolean
  readonly parts: Buffer[]
  bytes: number
}

export class HeaderBlocks {
  readonly #mostBytes: number
  #half: Half | undefined

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes
  }

  /** Whether a block waits for its rest: nothing but CONTINUATION may come. */
  get isOpen(): boolean {
    return this.#half !== undefined
  }

  /** Memory that the half block takes, in bytes. */
  get heldBytes(): number {
    return this.#half?.bytes ?? 0
  }

  onHeaders(flags: number, streamId: number, payload: Buffer): HeaderBlock | undefined {
    if (streamId === 0) throw broken('HEADERS on stream 0')
    let start = 0
    let end = payload.length
    if ((flags & FLAG.padded) !== 0) {
      start = 1
      end -= payload[0] ?? 0
    }
    if ((flags & FLAG.priority) !== 0) {
      if (dependency(payload, start) === streamId) throw broken('a stream that depends on itself')
      start += PRIORITY_BYTES
    }
    if (start > end) throw broken('HEADERS padding longer than the frame')
    const bytes = payload.subarray(start, end)
    const isEndStream = (flags & FLAG.endStream) !== 0
    if ((flags & FLAG.endHeaders) !== 0) return { streamId, isEndStream, bytes }
    // The payload lives only during the call.
    this.#half = { streamId, isEndStream, parts: [Buffer.from(bytes)], bytes: bytes.length }
    return undefined
  }

  onContinuation(flags: number, streamId: number, payload: Buffer): HeaderBlock | undefined {
    const half = this.#half
    if (half === undefined || half.streamId !== streamId)
      throw broken('CONTINUATION without its HEADERS')
    half.parts.push(Buffer.from(payload))
    half.bytes += payload.length
    if (half.bytes > this.#mostBytes || half.parts.length > MOST_CONTINUATIONS)
      throw new H2ConnectionError(
        H2_CODE.enhanceYourCalm,
        'a header block is too large (CONTINUATION flood)',
      )
    if ((flags & FLAG.endHeaders) === 0) return undefined
    this.#half = undefined
    return { streamId, isEndStream: half.isEndStream, bytes: Buffer.concat(half.parts) }
  }

  clear(): void {
    this.#half = undefined
  }
}

/** The stream that a priority names at this offset (RFC 7540 5.3; RFC 9113 only skips it). */
export function dependency(payload: Buffer, at: number): number | undefined {
  return payload.length < at + PRIORITY_BYTES
    ? undefined
    : payload.readUInt32BE(at) & LARGEST_STREAM_ID
}

function broken(message: string): H2ConnectionError {
  return new H2ConnectionError(H2_CODE.protocolError, message)
}
