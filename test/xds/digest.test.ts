// SPDX-License-Identifier: Apache-2.0
// The digest by which an operator sees that an agent holds what the controller offers.

import t from 'tap'
import fc from 'fast-check'
import { heldResources } from '../../mesh/xds/digest.ts'

const versions = fc.uniqueArray(fc.tuple(fc.string(), fc.string()), {
  selector: ([name]) => name,
  maxLength: 20,
})

void t.test('order does not matter, each version does', (t) => {
  fc.assert(
    fc.property(versions, (held) => {
      const one = heldResources(held)
      t.strictSame(heldResources(held.toReversed()), one)
      t.equal(one.count, held.length)
      const [first, ...others] = held
      if (first === undefined) return
      t.not(heldResources([[first[0], `${first[1]}+`], ...others]).digest, one.digest)
      t.not(heldResources(others).digest, one.digest)
    }),
    { numRuns: 200 },
  )
  t.end()
})
