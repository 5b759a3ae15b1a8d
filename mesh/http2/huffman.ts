// SPDX-License-Identifier: Apache-2.0
// Huffman decoding of header strings (RFC 7541 5.2). The code is canonical: within a length, codes count up in
// symbol order, and each length goes on where the shorter one stopped; so the lengths alone define it.

import { H2ConnectionError, H2_CODE } from './protocol.ts'

/** Code length of each octet, and of EOS as number 256 (RFC 7541 appendix B). */
const CODE_LENGTHS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
  28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5,
  6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6,
  7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
  23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22,
  22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22,
  23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27,
  27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25,
  24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
]
const EOS = 256
const LONGEST_CODE_BITS = 30
/** RFC 7541 5.2: padding is at most 7 bits of ones. */
const MOST_PADDING_BITS = 7

/** Two children per node; a positive number is a node, a negative one is -1 - symbol. */
const TREE = buildTree()

function buildTree(): Int16Array {
  const tree = new Int16Array(2 * EOS + 2)
  let nodes = 1
  let code = 0
  for (let length = 1; length <= LONGEST_CODE_BITS; length += 1) {
    for (let symbol = 0; symbol <= EOS; symbol += 1) {
      if (CODE_LENGTHS[symbol] !== length) continue
      let node = 0
      for (let bit = length - 1; bit > 0; bit -= 1) {
        const slot = 2 * node + ((code >>> bit) & 1)
        if (tree[slot] === 0) {
          tree[slot] = nodes
          nodes += 1
        }
        node = tree[slot] ?? 0
      }
      tree[2 * node + (code & 1)] = -1 - symbol
      code += 1
    }
    code *= 2
  }
  return tree
}

/** Decodes `bytes` from `start` to `end`; throws a compression error for EOS, or padding that is not ones or too long. */
export function decodeHuffman(bytes: Uint8Array, start: number, end: number): string {
  const octets: number[] = []
  let node = 0
  let bitsInSymbol = 0
  let isAllOnes = true
  for (let at = start; at < end; at += 1) {
    const octet = bytes[at] ?? 0
    for (let bit = 7; bit >= 0; bit -= 1) {
      const value = (octet >>> bit) & 1
      const next = TREE[2 * node + value] ?? 0
      bitsInSymbol += 1
      if (value === 0) isAllOnes = false
      if (next >= 0) {
        node = next
        continue
      }
      const symbol = -1 - next
      if (symbol === EOS)
        throw new H2ConnectionError(H2_CODE.compressionError, 'EOS in a Huffman string')
      octets.push(symbol)
      node = 0
      bitsInSymbol = 0
      isAllOnes = true
    }
  }
  if (bitsInSymbol > MOST_PADDING_BITS || !isAllOnes)
    throw new H2ConnectionError(H2_CODE.compressionError, 'bad padding of a Huffman string')
  return Buffer.from(octets).toString('latin1')
}
