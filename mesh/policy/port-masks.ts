// SPDX-License-Identifier: Apache-2.0
// Which ports a rule can match at all, in 32 bits: most rules that name a caller name ports as well, and one AND rules them out.

import type { CompiledMatch, CompiledRule } from './field-test.ts'

const ANY_PORT = -1
/** 2^32 divided by the golden ratio (Knuth, TAOCP 6.4): neighbouring ports get bits of their own. */
const GOLDEN = 0x9e3779b1

/** The bit of a port. */
export function portBit(port: number): number {
  return 1 << (Math.imul(port, GOLDEN) >>> 27)
}

/** The bits of all ports at which the rule may match. */
export function portMask(rule: CompiledRule): number {
  let mask = ANY_PORT
  for (const clause of rule) {
    if (clause.length === 0) continue
    let some = 0
    for (const match of clause) some |= maskOfMatch(match)
    mask &= some
  }
  return mask
}

function maskOfMatch({ tests }: CompiledMatch): number {
  for (const test of tests) {
    if (test.asks !== 'port' || test.isNegated) continue
    let mask = 0
    for (const port of test.values) mask |= portBit(port)
    return mask
  }
  return ANY_PORT
}
