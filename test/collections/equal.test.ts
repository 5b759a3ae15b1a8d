// SPDX-License-Identifier: Apache-2.0
// isEqual() says what node's own comparison says, of whatever plain data it is asked.

import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { isEqual } from '../../mesh/collections/equal.ts'

const leaf = fc.constantFrom<unknown>(0, -0, 1, '', 'a', null, undefined, true, Number.NaN, 1n)
const bytes = fc.uint8Array({ maxLength: 2 })
const { data } = fc.letrec<{ data: unknown }>((tie) => ({
  data: fc.oneof(
    { maxDepth: 3 },
    leaf,
    bytes,
    fc.array(tie('data'), { maxLength: 2 }),
    fc.dictionary(fc.constantFrom('x', 'y'), tie('data'), { maxKeys: 2, noNullPrototype: false }),
    fc
      .array(fc.tuple(fc.constantFrom('x', 'y'), tie('data')), { maxLength: 2 })
      .map((entries) => new Map(entries)),
    fc.array(leaf, { maxLength: 2 }).map((values) => new Set(values)),
  ),
}))

/** Pairs of which about half are equal, though they share no object. */
const pair = fc.oneof(
  fc.tuple(data, data),
  data.map((value): [unknown, unknown] => [value, structuredClone(value)]),
)

void t.test('isEqual() agrees with isDeepStrictEqual()', async (t) => {
  const seen = { equal: 0, different: 0 }
  fc.assert(
    fc.property(pair, ([left, right]) => {
      assert.equal(isEqual(left, right), isDeepStrictEqual(left, right))
      seen[isEqual(left, right) ? 'equal' : 'different'] += 1
    }),
    {
      numRuns: 3000,
      // Both answers are asked for, whatever chance brings.
      examples: [
        [
          [
            [1, 'a'],
            [1, 'a'],
          ],
        ],
        [[{ x: 1 }, { x: 2 }]],
      ],
    },
  )
  t.ok(seen.equal > 0 && seen.different > 0, JSON.stringify(seen))
})
