// SPDX-License-Identifier: Apache-2.0
// Header compression (RFC 7541): a complete decoder with bounds, and an encoder that never indexes, because
// a tunnel has one header block, what requests repeat is within a tunnel, and the peer's table would only be state to keep right.

import { ENTRY_OVERHEAD_BYTES, HpackTable } from './hpack-table.ts'
import { decodeHuffman } from './huffman.ts'
import { textOf } from './known-texts.ts'
import { H2ConnectionError, H2_CODE } from './protocol.ts'

/** Name and value of each field, in order. */
export type HeaderList = readonly (readonly [name: string, value: string])[]

/** RFC 7541 appendix A, index 1 first. */
export const STATIC_TABLE: HeaderList = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  [':status', '200'],
  [':status', '204'],
  [':status', '206'],
  [':status', '304'],
  [':status', '400'],
  [':status', '404'],
  [':status', '500'],
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ['accept-language', ''],
  ['accept-ranges', ''],
  ['accept', ''],
  ['access-control-allow-origin', ''],
  ['age', ''],
  ['allow', ''],
  ['authorization', ''],
  ['cache-control', ''],
  ['content-disposition', ''],
  ['content-encoding', ''],
  ['content-language', ''],
  ['content-length', ''],
  ['content-location', ''],
  ['content-range', ''],
  ['content-type', ''],
  ['cookie', ''],
  ['date', ''],
  ['etag', ''],
  ['expect', ''],
  ['expires', ''],
  ['from', ''],
  ['host', ''],
  ['if-match', ''],
  ['if-modified-since', ''],
  ['if-none-match', ''],
  ['if-range', ''],
  ['if-unmodified-since', ''],
  ['last-modified', ''],
  ['link', ''],
  ['location', ''],
  ['max-forwards', ''],
  ['proxy-authenticate', ''],
  ['proxy-authorization', ''],
  ['range', ''],
  ['referer', ''],
  ['refresh', ''],
  ['retry-after', ''],
  ['server', ''],
  ['set-cookie', ''],
  ['strict-transport-security', ''],
  ['transfer-encoding', ''],
  ['user-agent', ''],
  ['vary', ''],
  ['via', ''],
  ['www-authenticate', ''],
]

/** The dynamic table that we allow, the default of RFC 9113 6.5.2: we never announce another. */
const TABLE_BYTES = 4096
/** Integers longer than this many continuation octets cannot be sizes or indexes of ours. */
const MOST_INTEGER_OCTETS = 4
const NOTHING = Buffer.alloc(0)

/** RFC 7541 4.2: however often the size changed since the last block, two updates say it. */
const MOST_SIZE_UPDATES = 2

const KIND = 'content-type'

const entryBytes = (name: string, value: string): number =>
  name.length + value.length + ENTRY_OVERHEAD_BYTES

const corrupt = (message: string): H2ConnectionError =>
  new H2ConnectionError(H2_CODE.compressionError, message)

export interface DecodedHeaders {
  readonly headers: HeaderList
  /**
   * The list was over the limit: it was read on to keep the table right, but what came beyond was not kept. What is kept may tell who asked
   * for what, and nothing else: whatever else counts may be missing.
   */
  readonly isTooLarge: boolean
  /** What the list counts (RFC 9113 6.5.2); where it is too large, some number over the limit. */
  readonly listBytes: number
}

/**
 * Decodes the header blocks of one connection, in order. A block costs at most what a list of the limit costs: beyond it
 * no strings are made but those that enter the table, and the others are not even read.
 */
export class HpackDecoder {
  readonly #listLimit: number
  readonly #table = new HpackTable(TABLE_BYTES)
  #block: Buffer = NOTHING
  #at = 0
  #headers: (readonly [string, string])[] = []
  /** What the list may still grow by; below 0 when it is too large. */
  #left = 0

  constructor(listLimit: number) {
    this.#listLimit = listLimit
  }

  /** Memory the decoder holds between blocks, in bytes. */
  get heldBytes(): number {
    return this.#table.heldBytes
  }

  /** Decodes one whole header block; throws a connection error when it is corrupt. */
  decode(block: Buffer): DecodedHeaders {
    this.#block = block
    this.#at = 0
    this.#left = this.#listLimit
    const headers: (readonly [string, string])[] = []
    this.#headers = headers
    this.#sizeUpdates()
    while (this.#at < block.length) {
      if (this.#left < 0) this.#skipReferences()
      const first = block[this.#at] ?? 0
      if ((first & 0x80) !== 0) this.#indexed(first)
      else if ((first & 0x40) !== 0) this.#literal(6, true)
      else if ((first & 0x20) !== 0) throw corrupt('table size update after a field')
      else this.#literal(4, false)
    }
    this.#block = NOTHING
    this.#headers = []
    return {
      headers,
      isTooLarge: this.#left < 0,
      listBytes: this.#listLimit - this.#left,
    }
  }

  #sizeUpdates(): void {
    for (let count = 0; ((this.#block[this.#at] ?? 0) & 0xe0) === 0x20; count += 1) {
      const limit = this.#integer(5)
      if (limit > TABLE_BYTES)
        throw corrupt(`table size ${limit} is over the ${TABLE_BYTES} allowed`)
      if (count === MOST_SIZE_UPDATES) throw corrupt('too many table size updates')
      this.#table.resize(limit)
    }
  }

  /** Passes over one-octet references to entries that exist; a block may consist of nothing else. */
  #skipReferences(): void {
    const block = this.#block
    const last = Math.min(STATIC_TABLE.length + this.#table.count, 0x7e) | 0x80
    let at = this.#at
    // The last octet is left to the caller, who reads one in any case.
    for (const end = block.length - 1; at < end; at += 1) {
      const octet = block[at] ?? 0
      if (octet <= 0x80 || octet > last) break
    }
    this.#at = at
  }

  #indexed(first: number): void {
    let index = first & 0x7f
    if (index === 0x7f) index = this.#integer(7)
    else this.#at += 1
    const field = this.#lookup(index)
    if (this.#left >= 0) this.#append(field)
  }

  #literal(prefixBits: number, entersTable: boolean): void {
    const nameIndex = this.#integer(prefixBits)
    // What is longer than this fits neither the list nor the table: nobody will ever look at it.
    const most =
      (entersTable ? Math.max(this.#left, this.#table.limit) : this.#left) - ENTRY_OVERHEAD_BYTES
    const name = nameIndex === 0 ? this.#string(most) : this.#lookup(nameIndex)[0]
    const value = this.#string(name === undefined ? -1 : most - name.length)
    if (name === undefined || value === undefined) {
      // RFC 7541 4.4: an entry larger than the table empties it and does not enter.
      if (entersTable) this.#table.clear()
      this.#left = Math.min(this.#left, -1)
      return
    }
    const field = [name, value] as const
    if (this.#left >= 0) this.#append(field)
    else this.#appendKind(field)
    if (entersTable) this.#table.add(field)
  }

  #append(field: readonly [string, string]): void {
    this.#left -= entryBytes(field[0], field[1])
    if (this.#left >= 0) this.#headers.push(field)
  }

  /** Clients of gRPC may say what they speak after all that made their list too large; and are to be told in their own words. */
  #appendKind(field: readonly [string, string]): void {
    const [name] = field
    if (name === KIND && !this.#headers.some(([known]) => known === KIND)) this.#headers.push(field)
  }

  #lookup(index: number): readonly [string, string] {
    const entry =
      index <= STATIC_TABLE.length
        ? STATIC_TABLE[index - 1]
        : this.#table.get(index - STATIC_TABLE.length - 1)
    if (entry === undefined) throw corrupt(`no header table entry ${index}`)
    return entry
  }

  #integer(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1
    let value = this.#octet() & mask
    if (value < mask) return value
    for (let count = 0, scale = 1; ; count += 1, scale *= 128) {
      if (count === MOST_INTEGER_OCTETS) throw corrupt('integer too long')
      const octet = this.#octet()
      value += (octet & 0x7f) * scale
      if ((octet & 0x80) === 0) return value
    }
  }

  /** The next string; undefined, and not made, when it is longer than `limit` octets. */
  #string(limit: number): string | undefined {
    const isHuffman = ((this.#block[this.#at] ?? 0) & 0x80) !== 0
    const length = this.#integer(7)
    const start = this.#at
    const end = start + length
    if (end > this.#block.length) throw corrupt('string runs past its header block')
    this.#at = end
    if (limit < 0) return undefined
    if (isHuffman) return decodeHuffman(this.#block, start, end, limit)
    return length > limit ? undefined : textOf(this.#block, start, end)
  }

  #octet(): number {
    const octet = this.#block[this.#at]
    if (octet === undefined) throw corrupt('header block ends in the middle of a field')
    this.#at += 1
    return octet
  }
}

/** The first place of each name in the static table. */
const NAME_INDEX: ReadonlyMap<string, number> = new Map(
  STATIC_TABLE.map(([name], at) => [name, at + 1] as const).reverse(),
)
/** Names of which the table has values, whose fields may be one octet; the last place of each. */
const LAST_WITH_VALUE: ReadonlyMap<string, number> = new Map(
  STATIC_TABLE.flatMap(([name, value], at) => (value === '' ? [] : [[name, at + 1] as const])),
)
/** What the prefix of a literal that is not indexed holds (RFC 7541 6.2.2). */
const LARGEST_PREFIX = 0x0f

/** Of a field beside its texts: two lengths of at most 5 octets, and the first octet. */
const FIELD_OVERHEAD_BYTES = 12
/** Most blocks of requests and answers. */
const FIRST_BLOCK_BYTES = 4096
/** Texts up to this length are cheaper written octet by octet than by a call out of JavaScript. */
const SHORT_TEXT_LENGTH = 24

/** Where a header block is made; the next one takes its place. Hot: bench/http2-exchange.ts watches it. */
export class HeaderBlockWriter {
  #bytes = Buffer.allocUnsafeSlow(FIRST_BLOCK_BYTES)
  #length = 0

  /** Holds the block in its first `length` octets, until the next write(). */
  get bytes(): Buffer {
    return this.#bytes
  }

  get length(): number {
    return this.#length
  }

  /** Encodes fields by the static table where it has them whole, else as literals that are not indexed, their names by the table. */
  write(headers: HeaderList): void {
    let most = 0
    for (const [name, value] of headers) most += name.length + value.length + FIELD_OVERHEAD_BYTES
    // One that is large is not kept for good.
    if (most > this.#bytes.length || this.#bytes.length > FIRST_BLOCK_BYTES)
      this.#bytes = Buffer.allocUnsafeSlow(Math.max(most, FIRST_BLOCK_BYTES))
    const block = this.#bytes
    let at = 0
    for (const [name, value] of headers) {
      const index = NAME_INDEX.get(name) ?? 0
      const whole = index === 0 ? 0 : wholeIndex(name, value, index)
      if (whole > 0) {
        block[at] = 0x80 | whole
        at += 1
        continue
      }
      if (index < LARGEST_PREFIX) block[at] = index
      else {
        block[at] = LARGEST_PREFIX
        at += 1
        block[at] = index - LARGEST_PREFIX
      }
      at += 1
      if (index === 0) at = writeString(block, at, name)
      at = writeString(block, at, value)
    }
    this.#length = at
  }
}

/** The place of a whole field; 0: the table does not have it. `first`: of its name. */
function wholeIndex(name: string, value: string, first: number): number {
  const last = LAST_WITH_VALUE.get(name) ?? 0
  for (let index = first; index <= last; index += 1)
    if (STATIC_TABLE[index - 1]?.[1] === value) return index
  return 0
}

function writeString(block: Buffer, start: number, text: string): number {
  let at = start
  let rest = text.length
  if (rest < 0x7f) {
    block[at] = rest
    at += 1
  } else {
    block[at] = 0x7f
    at += 1
    for (rest -= 0x7f; rest >= 0x80; rest = Math.floor(rest / 0x80)) {
      block[at] = (rest & 0x7f) | 0x80
      at += 1
    }
    block[at] = rest
    at += 1
  }
  if (text.length > SHORT_TEXT_LENGTH) return at + block.write(text, at, 'latin1')
  for (let place = 0; place < text.length; place += 1) block[at + place] = text.charCodeAt(place)
  return at + text.length
}
