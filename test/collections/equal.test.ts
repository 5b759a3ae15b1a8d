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

void t.test('isEqual() agrees with isDeepStrictEqual()', async (t) => {
  let equal = 0
  let different = 0
  fc.assert(
    fc.property(data, data, (left, right) => {
      assert.equal(isEqual(left, right), isDeepStrictEqual(left, right))
      assert.equal(
        isEqual(left, structuredClone(left)),
        isDeepStrictEqual(left, structuredClone(left)),
      )
      if (isEqual(left, right)) equal += 1
      else different += 1
    }),
    { numRuns: 3000 },
  )
  t.ok(equal > 50 && different > 50, `${equal} pairs were equal, ${different} not`)
})
