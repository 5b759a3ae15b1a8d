// SPDX-License-Identifier: Apache-2.0
// Writes the protobuf wire format into one buffer that grows and is used again.

const FIRST_CAPACITY = 1024
/** Of a 32-bit varint. */
const LONGEST_VARINT = 5

/** A message under construction. One at a time: take() gives it out and makes room for the next. */
export class WireWriter {
  #bytes = Buffer.allocUnsafeSlow(FIRST_CAPACITY)
  #length = 0

  tag(number: number, wireType: number): void {
    this.uint32((number << 3) | wireType)
  }

  uint32(value: number): void {
    this.#reserve(LONGEST_VARINT)
    let rest = value
    while (rest > 0x7f) {
      this.#bytes[this.#length] = (rest & 0x7f) | 0x80
      this.#length += 1
      rest >>>= 7
    }
    this.#bytes[this.#length] = rest
    this.#length += 1
  }

  /** Length and bytes. */
  bytes(value: Uint8Array): void {
    this.uint32(value.length)
    this.#reserve(value.length)
    this.#bytes.set(value, this.#length)
    this.#length += value.length
  }

  /** Length and UTF-8. */
  text(value: string): void {
    const byteLength = Buffer.byteLength(value, 'utf8')
    this.uint32(byteLength)
    this.#reserve(byteLength)
    this.#bytes.write(value, this.#length, 'utf8')
    this.#length += byteLength
  }

  /** Length and what `write` writes. */
  nested<T>(write: (writer: WireWriter, value: T) => void, value: T): void {
    // Most lengths have one byte; a longer one moves what was written.
    this.#reserve(1)
    const start = this.#length + 1
    this.#length = start
    write(this, value)
    const length = this.#length - start
    const extra = varintBytes(length) - 1
    if (extra > 0) {
      this.#reserve(extra)
      this.#bytes.copyWithin(start + extra, start, this.#length)
    }
    this.#length = start - 1
    this.uint32(length)
    this.#length = start + extra + length
  }

  /** Gives the message out as bytes of its own. */
  take(): Uint8Array<ArrayBuffer> {
    const message = new Uint8Array(this.#length)
    message.set(this.#bytes.subarray(0, this.#length))
    this.#length = 0
    return message
  }

  /** Forgets what a write that failed left behind. */
  reset(): void {
    this.#length = 0
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#length + count))
    this.#bytes.copy(grown, 0, 0, this.#length)
    this.#bytes = grown
  }
}

function varintBytes(value: number): number {
  let count = 1
  for (let rest = value; rest > 0x7f; rest >>>= 7) count += 1
  return count
}
