// SPDX-License-Identifier: Apache-2.0
// Reads the protobuf wire format (protobuf.dev/programming-guides/encoding) in place. What it is given may come from
// anywhere: every length is held against what is there before anything is read or made, nothing recurses, and all that is
// wrong is one kind of error. Hot: once per field of every resource; watched by bench/mesh-state.ts.

/** The wire types there are: 0 varint, 1 eight bytes, 2 length and bytes, 3 and 4 group, 5 four bytes. */
export const VARINT = 0
const FIXED64 = 1
export const BYTES = 2
const GROUP_START = 3
const GROUP_END = 4
const FIXED32 = 5

/** RFC-less but universal: a varint of 64 bits has at most ten bytes. */
const LONGEST_VARINT = 10
/** Groups in groups that an unknown field may hold; nobody writes groups any more. */
const DEEPEST_GROUP = 32

const STRICT_UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The bytes are no protobuf message, or hold what the model cannot take. Leaves the codecs as a Result. */
export class FieldProblem extends Error {
  /** Where in the message, by the names of the schema; empty for the message as a whole. */
  field: string

  constructor(reason: string, field = '') {
    super(reason)
    this.field = field
  }

  /** Says in which field of the enclosing message it was. */
  within(name: string): void {
    if (name === '') return
    if (this.field === '' || this.field.startsWith('[')) this.field = name + this.field
    else this.field = `${name}.${this.field}`
  }
}

/** A cursor over the bytes of one message. `end` is that of the message being read and moves with nesting. */
export class WireReader {
  readonly #bytes: Buffer
  position = 0
  end: number

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.end = bytes.byteLength
  }

  /** The low 32 bits of a varint, unsigned, as protobuf reads a uint32, a bool or an enum. */
  uint32(): number {
    const bytes = this.#bytes
    let value = 0
    for (let count = 0; count < LONGEST_VARINT; count += 1) {
      if (this.position >= this.end) throw new FieldProblem('ends within a number')
      const byte = bytes[this.position] ?? 0
      this.position += 1
      if (count < 5) value |= (byte & 0x7f) << (7 * count)
      if (byte < 0x80) return value >>> 0
    }
    throw new FieldProblem('holds a number of more than 64 bits')
  }

  /** Reads a length and gives where those bytes end; they are all there. */
  span(): number {
    const length = this.uint32()
    if (length > this.end - this.position)
      throw new FieldProblem(`announces ${length} bytes and has ${this.end - this.position}`)
    return this.position + length
  }

  /** A view of the next length-prefixed bytes. */
  bytes(): Buffer {
    const end = this.span()
    const view = this.#bytes.subarray(this.position, end)
    this.position = end
    return view
  }

  /** The next length-prefixed UTF-8 text. It holds on to nothing of the message. */
  text(): string {
    const end = this.span()
    const start = this.position
    this.position = end
    const bytes = this.#bytes
    for (let index = start; index < end; index += 1)
      if ((bytes[index] ?? 0) >= 0x80) return strictText(bytes.subarray(start, end))
    return bytes.toString('latin1', start, end)
  }

  /** Skips a field that nobody knows. `tag` is the number and wire type that were read. */
  skip(tag: number): void {
    let depth = 0
    for (let next = tag; ; next = this.uint32()) {
      switch (next & 7) {
        case VARINT:
          this.uint32()
          break
        case FIXED64:
          this.#advance(8)
          break
        case BYTES:
          this.position = this.span()
          break
        case FIXED32:
          this.#advance(4)
          break
        case GROUP_START:
          depth += 1
          if (depth > DEEPEST_GROUP) throw new FieldProblem('nests groups too deep')
          break
        case GROUP_END:
          depth -= 1
          if (depth < 0) throw new FieldProblem('ends a group that it did not begin')
          break
        default:
          throw new FieldProblem(`has the unknown wire type ${next & 7}`)
      }
      if (depth === 0) return
    }
  }

  #advance(count: number): void {
    if (count > this.end - this.position) throw new FieldProblem('ends within a number')
    this.position += count
  }
}

function strictText(bytes: Buffer): string {
  try {
    return STRICT_UTF8.decode(bytes)
  } catch (thrown) {
    // proto3: a string is UTF-8.
    if (thrown instanceof TypeError) throw new FieldProblem('is not UTF-8')
    throw thrown
  }
}
