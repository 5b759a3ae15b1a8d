// SPDX-License-Identifier: Apache-2.0
// Bytes that wait for the rest of what they belong to, or for their turn. It grows by doubling: a peer that sends single bytes makes us
// copy each a few times, not once for each that follows.

const FIRST_BYTES = 1024
const MOST_KEPT_MEMORY = 4096
const NOTHING = Buffer.alloc(0)

export class KeptBytes {
  bytes: Buffer = NOTHING
  start = 0
  end = 0

  get length(): number {
    return this.end - this.start
  }

  /** The octet that came last. */
  get last(): number | undefined {
    return this.length === 0 ? undefined : this.bytes[this.end - 1]
  }

  append(chunk: Buffer, from: number, to: number): void {
    this.#reserve(to - from)
    chunk.copy(this.bytes, this.end, from, to)
    this.end += to - from
  }

  appendOctet(octet: number): void {
    this.#reserve(1)
    this.bytes[this.end] = octet
    this.end += 1
  }

  /** So many from the start are not needed any more. */
  drop(count: number): void {
    this.start += count
    if (this.start >= this.end) this.clear()
  }

  /** Forgets the bytes and, unless it is little, their memory. For those that keep some of nearly every message. */
  rewind(): void {
    if (this.bytes.length > MOST_KEPT_MEMORY) return this.clear()
    this.start = 0
    this.end = 0
  }

  /** Memory is given back: what waits is the exception. */
  clear(): void {
    this.bytes = NOTHING
    this.start = 0
    this.end = 0
  }

  #reserve(count: number): void {
    if (this.end + count <= this.bytes.length) return
    const { length } = this
    const larger = Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, 2 * length, length + count))
    this.bytes.copy(larger, 0, this.start, this.end)
    this.bytes = larger
    this.start = 0
    this.end = length
  }
}
