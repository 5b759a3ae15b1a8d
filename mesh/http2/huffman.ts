// SPDX-License-Identifier: Apache-2.0
// Huffman decoding of header strings (RFC 7541 5.2), four bits at a step: it must cost us less than it costs the peer to
// send them (bench/header-flood.ts watches that). The code is canonical: within a length, codes count up in symbol
// order, and each length goes on where the shorter one stopped; so the lengths alone define it.

import { textOf } from './known-texts.ts'
import { H2ConnectionError, H2_CODE } from './protocol.ts'

/** Code length of each octet, and of EOS as number 256 (RFC 7541 appendix B). */
export const CODE_LENGTHS: readonly number[] = [
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
/** Inner nodes of the code's tree: one less than its leaves. Each is a state: the bits of a symbol read so far. */
const STATES = EOS

/** In a step: a symbol is complete; its octet stands above the next state. */
const EMITS = 1 << 16
/** In a step: EOS, which no string may contain. */
const FAILS = 1 << 17
const SYMBOL_SHIFT = 8

const { steps: STEPS, isEnd: IS_END } = buildSteps()

/** For each state and four bits the next state, and what was completed on the way: at most one symbol, for none is shorter. */
function buildSteps(): { readonly steps: Int32Array; readonly isEnd: Uint8Array } {
  const tree = buildTree()
  const steps = new Int32Array(STATES * 16)
  for (let state = 0; state < STATES; state += 1)
    for (let nibble = 0; nibble < 16; nibble += 1) {
      let node = state
      let done = 0
      for (let bit = 3; bit >= 0; bit -= 1) {
        node = tree[2 * node + ((nibble >>> bit) & 1)] ?? 0
        if (node >= 0) continue
        const symbol = -1 - node
        done = symbol === EOS ? FAILS : EMITS | (symbol << SYMBOL_SHIFT)
        node = 0
        if (done === FAILS) break
      }
      steps[16 * state + nibble] = done | node
    }
  const isEnd = new Uint8Array(STATES)
  for (let bits = 0, node = 0; bits <= MOST_PADDING_BITS; bits += 1) {
    isEnd[node] = 1
    node = tree[2 * node + 1] ?? 0
  }
  return { steps, isEnd }
}

/** Two children per node; a positive number is a node, a negative one is -1 - symbol. */
function buildTree(): Int16Array {
  const tree = new Int16Array(2 * STATES)
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

/** No code is shorter: what a string can become at most is known from its length. */
const SHORTEST_CODE_BITS = 5
let scratch = Buffer.allocUnsafeSlow(4096)

/**
 * Decodes `bytes` from `start` to `end`; undefined as soon as it turns out to be longer than `limit` octets.
 * @throws H2ConnectionError for EOS, or padding that is not ones or too long
 */
export function decodeHuffman(
  bytes: Uint8Array,
  start: number,
  end: number,
  limit: number,
): string | undefined {
  const most = Math.min(limit, Math.floor(((end - start) * 8) / SHORTEST_CODE_BITS))
  // An octet may bring two symbols, and they are written before they are counted.
  if (scratch.length < most + 2) scratch = Buffer.allocUnsafeSlow(most + 2)
  const out = scratch
  let length = 0
  let state = 0
  for (let at = start; at < end; at += 1) {
    const octet = bytes[at] ?? 0
    const high = STEPS[(state << 4) | (octet >>> 4)] ?? 0
    if (high >= EMITS) {
      if (high >= FAILS) throw corrupt('EOS in a Huffman string')
      out[length] = high >>> SYMBOL_SHIFT
      length += 1
    }
    const low = STEPS[((high & 0xff) << 4) | (octet & 0xf)] ?? 0
    if (low >= EMITS) {
      if (low >= FAILS) throw corrupt('EOS in a Huffman string')
      out[length] = low >>> SYMBOL_SHIFT
      length += 1
    }
    if (length > limit) return undefined
    state = low & 0xff
  }
  if (IS_END[state] !== 1) throw corrupt('bad padding of a Huffman string')
  return textOf(out, 0, length)
}

function corrupt(message: string): H2ConnectionError {
  return new H2ConnectionError(H2_CODE.compressionError, message)
}
