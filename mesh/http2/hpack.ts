// SPDX-License-Identifier: Apache-2.0
// Header compression (RFC 7541): a complete decoder with bounds, and an encoder that never indexes, because
// a tunnel has one header block and the peer's table would only be state to keep right.

import { decodeHuffman } from './huffman.ts'
import { H2ConnectionError, H2_CODE } from './protocol.ts'

/** Name and value of each field, in order. */
export type HeaderList = readonly (readonly [name: string, value: string])[]

/** RFC 7541 appendix A, index 1 first. */
const STATIC_TABLE: HeaderList = [
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

/** RFC 7541 4.1: what an entry counts beyond its octets; also RFC 9113 6.5.2 for the header list. */
const ENTRY_OVERHEAD_BYTES = 32
/** The dynamic table that we allow, the default of RFC 9113 6.5.2: we never announce another. */
const TABLE_BYTES = 4096
/** Integers longer than this many continuation octets cannot be sizes or indexes of ours. */
const MOST_INTEGER_OCTETS = 4

const entryBytes = (name: string, value: string): number =>
  name.length + value.length + ENTRY_OVERHEAD_BYTES

const corrupt = (message: string): H2ConnectionError =>
  new H2ConnectionError(H2_CODE.compressionError, message)

export interface DecodedHeaders {
  readonly headers: HeaderList
  /** The list was over the limit: it was decoded, to keep the table right, but not kept. */
  readonly isTooLarge: boolean
}

/** Decodes the header blocks of one connection, in order. */
export class HpackDecoder {
  readonly #listLimit: number
  /** Newest last, so that adding is a push; eviction advances #oldest and compacts now and then. */
  #entries: (readonly [string, string])[] = []
  #oldest = 0
  #tableBytes = 0
  #tableLimit = TABLE_BYTES
  #block: Buffer = Buffer.alloc(0)
  #at = 0

  constructor(listLimit: number) {
    this.#listLimit = listLimit
  }

  /** Decodes one whole header block; throws a connection error when it is corrupt. */
  decode(block: Buffer): DecodedHeaders {
    this.#block = block
    this.#at = 0
    const headers: (readonly [string, string])[] = []
    let listBytes = 0
    let mayResize = true
    while (this.#at < block.length) {
      const first = block[this.#at] ?? 0
      if ((first & 0xe0) === 0x20) {
        if (!mayResize) throw corrupt('table size update after a field')
        this.#resize(this.#integer(5))
        continue
      }
      mayResize = false
      const field = this.#field(first)
      listBytes += entryBytes(field[0], field[1])
      if (listBytes <= this.#listLimit) headers.push(field)
    }
    this.#block = Buffer.alloc(0)
    const isTooLarge = listBytes > this.#listLimit
    return { headers: isTooLarge ? [] : headers, isTooLarge }
  }

  #field(first: number): readonly [string, string] {
    if ((first & 0x80) !== 0) return this.#lookup(this.#integer(7))
    const isIndexed = (first & 0xc0) === 0x40
    const nameIndex = this.#integer(isIndexed ? 6 : 4)
    const name = nameIndex === 0 ? this.#string() : this.#lookup(nameIndex)[0]
    const field = [name, this.#string()] as const
    if (isIndexed) this.#add(field)
    return field
  }

  #lookup(index: number): readonly [string, string] {
    const entry =
      index <= STATIC_TABLE.length
        ? STATIC_TABLE[index - 1]
        : this.#dynamic(index - STATIC_TABLE.length - 1)
    if (entry === undefined) throw corrupt(`no header table entry ${index}`)
    return entry
  }

  #dynamic(age: number): readonly [string, string] | undefined {
    const at = this.#entries.length - 1 - age
    return at < this.#oldest ? undefined : this.#entries[at]
  }

  #add(field: readonly [string, string]): void {
    this.#entries.push(field)
    this.#tableBytes += entryBytes(field[0], field[1])
    this.#evict()
  }

  #resize(limit: number): void {
    if (limit > TABLE_BYTES) throw corrupt(`table size ${limit} is over the ${TABLE_BYTES} allowed`)
    this.#tableLimit = limit
    this.#evict()
  }

  #evict(): void {
    while (this.#tableBytes > this.#tableLimit) {
      const [name, value] = this.#entries[this.#oldest] ?? ['', '']
      this.#tableBytes -= entryBytes(name, value)
      this.#oldest += 1
    }
    if (this.#oldest > TABLE_BYTES / ENTRY_OVERHEAD_BYTES) {
      this.#entries = this.#entries.slice(this.#oldest)
      this.#oldest = 0
    }
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

  #string(): string {
    const isHuffman = ((this.#block[this.#at] ?? 0) & 0x80) !== 0
    const length = this.#integer(7)
    const start = this.#at
    const end = start + length
    if (end > this.#block.length) throw corrupt('string runs past its header block')
    this.#at = end
    return isHuffman
      ? decodeHuffman(this.#block, start, end)
      : this.#block.toString('latin1', start, end)
  }

  #octet(): number {
    const octet = this.#block[this.#at]
    if (octet === undefined) throw corrupt('header block ends in the middle of a field')
    this.#at += 1
    return octet
  }
}

/** Static table indexes whose name alone is used: RFC 7541 appendix A. */
const NAME_INDEX: Readonly<Record<string, number>> = { ':authority': 1, ':method': 2, ':status': 8 }

/** Encodes fields as literals that are never indexed, except `:status: 200`, which is one octet. */
export function encodeHeaders(headers: HeaderList): Buffer {
  let size = 0
  for (const [name, value] of headers) size += name.length + value.length + 12 // two lengths of at most 5 octets, and the first octet
  const block = Buffer.allocUnsafe(size)
  let at = 0
  for (const [name, value] of headers) {
    if (name === ':status' && value === '200') {
      block[at] = 0x88
      at += 1
      continue
    }
    const index = NAME_INDEX[name] ?? 0
    block[at] = index
    at += 1
    if (index === 0) at = writeString(block, at, name)
    at = writeString(block, at, value)
  }
  return block.subarray(0, at)
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
  return at + block.write(text, at, 'latin1')
}
