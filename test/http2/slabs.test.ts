// SPDX-License-Identifier: Apache-2.0
// Bytes that wait lie in memory that is used again: each copy is its own until it is given back, and costs all that it keeps.

import { randomBytes } from 'node:crypto'
import t from 'tap'
import { borrowedCopy, giveBack, memoryOf } from '../../mesh/http2/slabs.ts'

const LARGE = 60_000

await t.test('copies hold what they were made of, each for itself', (t) => {
  const chunks = Array.from({ length: 100 }, (_, at) => randomBytes(at % 2 === 0 ? LARGE : 900))
  const copies = chunks.map((chunk) => borrowedCopy(chunk, 100))
  t.ok(copies.every((copy, at) => copy.equals(chunks[at]?.subarray(100) ?? Buffer.alloc(0))))
  t.equal(new Set(copies.map(({ buffer }) => buffer)).size, copies.length)
  for (const copy of copies) giveBack(copy)
  t.end()
})

await t.test('memory that was given back is used again, once', (t) => {
  const first = borrowedCopy(randomBytes(LARGE), 0)
  giveBack(first)
  giveBack(first)
  const second = borrowedCopy(randomBytes(LARGE), 0)
  const third = borrowedCopy(randomBytes(LARGE), 0)
  t.equal(second.buffer, first.buffer)
  t.not(third.buffer, second.buffer, 'though it was given back twice')
  t.end()
})

await t.test(
  'a copy costs the memory that it lies in, and nobody takes memory that was never lent',
  (t) => {
    const large = borrowedCopy(randomBytes(40_000), 0)
    t.equal(memoryOf(large), 64 * 1024)
    const foreign = randomBytes(LARGE)
    t.equal(memoryOf(foreign), LARGE)
    giveBack(foreign)
    t.not(borrowedCopy(randomBytes(LARGE), 0).buffer, foreign.buffer)
    t.end()
  },
)
