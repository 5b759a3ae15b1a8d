// SPDX-License-Identifier: Apache-2.0
// Long work in slices comes to what it would have come to at once, and lets others have their turn.

import fc from 'fast-check'
import t from 'tap'
import { finish, inSlices, type Sliced, sortSliced } from '../../mesh/async/sliced.ts'

void t.test('what is sorted in slices is sorted, and equal ones stay in their order', (t) => {
  const anyEntries = fc.array(fc.tuple(fc.nat(50), fc.nat()), { maxLength: 3_000, size: 'max' })
  fc.assert(
    fc.property(anyEntries, (entries) => {
      const compare = ([left]: readonly [number, number], [right]: readonly [number, number]) =>
        left - right
      const sorted = [...entries]
      finish(sortSliced(sorted, compare))
      if (JSON.stringify(sorted) !== JSON.stringify(entries.toSorted(compare)))
        throw new Error('not in order')
    }),
    { numRuns: 100 },
  )
  t.pass('a hundred lists')
  t.end()
})

void t.test('between slices others have their turn', async (t) => {
  let turns = 0
  const turn = (): void => {
    turns += 1
    next = setImmediate(turn)
  }
  let next = setImmediate(turn)
  // It ends when others had their turn three times: where it kept the thread, never.
  function* work(): Sliced<string> {
    while (turns < 3) yield
    return 'done'
  }
  const value = await new Promise<string>((resolve) => inSlices(work(), resolve))
  clearImmediate(next)
  t.equal(value, 'done')
})
