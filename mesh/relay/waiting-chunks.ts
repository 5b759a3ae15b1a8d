// SPDX-License-Identifier: Apache-2.0
// Chunks that wait for whoever takes them, small ones gathered into larger: a peer that sends single bytes must
// not make us keep a buffer, or an entry in a list, for each.

import { keepable, TLS_READ_BYTES } from './read-in-place.ts'

/** Smaller chunks are gathered. */
const SMALL_CHUNK_BYTES = TLS_READ_BYTES / 2
/** The first gathering buffer; each next one is twice as large, so that no more than half of what waits is empty. */
const FIRST_GATHER_BYTES = 1024
const NOTHING = Buffer.alloc(0)

export class WaitingChunks {
  #chunks: Buffer[] = []
  #gather: Buffer = NOTHING
  #gathered = 0
  #nextGatherBytes = FIRST_GATHER_BYTES
  #bytes = 0

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes
  }

  /** Takes a chunk; true: it keeps it beyond the call. */
  push(chunk: Buffer): boolean {
    this.#bytes += chunk.length
    if (chunk.length >= SMALL_CHUNK_BYTES) {
      this.#seal()
      this.#nextGatherBytes = FIRST_GATHER_BYTES
      const kept = keepable(chunk)
      this.#chunks.push(kept)
      return kept === chunk
    }
    if (this.#gathered + chunk.length > this.#gather.length) this.#startGather(chunk.length)
    chunk.copy(this.#gather, this.#gathered)
    this.#gathered += chunk.length
    return false
  }

  /** Gives the next chunk away. */
  shift(): Buffer | undefined {
    if (this.#chunks.length === 0) this.#seal()
    const chunk = this.#chunks.shift()
    if (chunk !== undefined) this.#bytes -= chunk.length
    if (this.#bytes === 0) this.#nextGatherBytes = FIRST_GATHER_BYTES
    return chunk
  }

  clear(): void {
    this.#chunks = []
    this.#gather = NOTHING
    this.#gathered = 0
    this.#bytes = 0
    this.#nextGatherBytes = FIRST_GATHER_BYTES
  }

  #startGather(least: number): void {
    this.#seal()
    this.#gather = Buffer.allocUnsafeSlow(Math.max(least, this.#nextGatherBytes))
    this.#nextGatherBytes = Math.min(2 * this.#nextGatherBytes, TLS_READ_BYTES)
  }

  /** What was gathered is a chunk of its own from now on. */
  #seal(): void {
    if (this.#gathered > 0) this.#chunks.push(this.#gather.subarray(0, this.#gathered))
    this.#gather = NOTHING
    this.#gathered = 0
  }
}
