// SPDX-License-Identifier: Apache-2.0
// HPACK as RFC 7541 tells it, without a thought for cost: what the product's decoder is compared with. And an encoder that
// can say everything a peer can.

import { CODE_LENGTHS } from '../../mesh/http2/huffman.ts'
import { STATIC_TABLE } from '../../mesh/http2/hpack.ts'

type Field = readonly [name: string, value: string]

/** The code of each octet, and of EOS, as a string of bits. */
const CODES = huffmanCodes()

function huffmanCodes(): readonly string[] {
  const codes: string[] = []
  let code = 0n
  for (let length = 1; length <= 30; length += 1) {
    for (const [symbol, bits] of CODE_LENGTHS.entries())
      if (bits === length) {
        codes[symbol] = code.toString(2).padStart(length, '0')
        code += 1n
      }
    code *= 2n
  }
  return codes
}

const SYMBOLS = new Map(CODES.map((code, symbol) => [code, symbol]))

function huffman(text: string): Buffer {
  let bits = ''
  for (const octet of Buffer.from(text, 'latin1')) bits += CODES[octet] ?? ''
  bits = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1')
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((octet) => Number.parseInt(octet, 2)))
}

function unhuffman(bytes: Uint8Array): string {
  const octets: number[] = []
  let code = ''
  for (const bit of [...bytes].map((octet) => octet.toString(2).padStart(8, '0')).join('')) {
    code += bit
    const symbol = SYMBOLS.get(code)
    if (symbol === undefined) continue
    if (symbol === 256) throw new Error('EOS')
    octets.push(symbol)
    code = ''
  }
  if (code.length > 7 || code.includes('0')) throw new Error('padding')
  return Buffer.from(octets).toString('latin1')
}

export function integer(first: number, prefixBits: number, value: number): Buffer {
  const mask = 2 ** prefixBits - 1
  if (value < mask) return Buffer.from([first | value])
  const octets = [first | mask]
  let rest = value - mask
  for (; rest >= 128; rest = Math.floor(rest / 128)) octets.push((rest % 128) | 128)
  return Buffer.from([...octets, rest])
}

function string(text: string, isHuffman: boolean): Buffer {
  const bytes = isHuffman ? huffman(text) : Buffer.from(text, 'latin1')
  return Buffer.concat([integer(isHuffman ? 0x80 : 0, 7, bytes.length), bytes])
}

/** A literal whose name is new; `kind` says whether it enters the table. */
export function literal(
  kind: 'indexed' | 'plain' | 'never',
  name: string | number,
  value: string,
  isHuffman: boolean,
): Buffer {
  const [first, prefix] = kind === 'indexed' ? [0x40, 6] : kind === 'plain' ? [0, 4] : [0x10, 4]
  const index = integer(first, prefix, typeof name === 'number' ? name : 0)
  const parts = typeof name === 'number' ? [index] : [index, string(name, isHuffman)]
  return Buffer.concat([...parts, string(value, isHuffman)])
}

/** Decodes without limits; throws any error for what is corrupt. */
export class NaiveDecoder {
  /** Newest first. */
  #table: Field[] = []
  #limit = 4096

  get entries(): number {
    return this.#table.length
  }

  decode(block: Uint8Array): Field[] {
    const fields: Field[] = []
    let at = 0
    let updates = 0
    const octet = (): number => {
      const value = block[at]
      if (value === undefined) throw new Error('cut short')
      at += 1
      return value
    }
    const number = (prefixBits: number): number => {
      const mask = 2 ** prefixBits - 1
      let value = octet() & mask
      if (value < mask) return value
      for (let count = 0; count < 4; count += 1) {
        const next = octet()
        value += (next & 127) * 128 ** count
        if (next < 128) return value
      }
      throw new Error('integer')
    }
    const text = (): string => {
      const isHuffman = ((block[at] ?? 0) & 0x80) !== 0
      const length = number(7)
      if (at + length > block.length) throw new Error('cut short')
      const bytes = block.subarray(at, at + length)
      at += length
      return isHuffman ? unhuffman(bytes) : Buffer.from(bytes).toString('latin1')
    }
    const entry = (index: number): Field => {
      const found = [...STATIC_TABLE, ...this.#table][index - 1]
      if (found === undefined) throw new Error('index')
      return found
    }
    while (at < block.length) {
      const first = block[at] ?? 0
      if (first >= 0x80) fields.push(entry(number(7)))
      else if (first >= 0x40 || first < 0x20) {
        const index = number(first >= 0x40 ? 6 : 4)
        const field: Field = [index === 0 ? text() : entry(index)[0], text()]
        fields.push(field)
        if (first >= 0x40) {
          this.#table.unshift(field)
          this.#evict()
        }
      } else {
        const limit = number(5)
        updates += 1
        if (limit > 4096 || fields.length > 0 || updates > 2) throw new Error('size update')
        this.#limit = limit
        this.#evict()
      }
    }
    return fields
  }

  #evict(): void {
    while (sizeOf(this.#table) > this.#limit) this.#table.pop()
  }
}

/** What a header list counts (RFC 9113 6.5.2), and a table's entries. */
export function sizeOf(fields: readonly Field[]): number {
  return fields.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0)
}
