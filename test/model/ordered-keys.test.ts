// SPDX-License-Identifier: Apache-2.0

import fc from 'fast-check'
import t from 'tap'
import { OrderedKeys } from '../../mesh/model/ordered-keys.ts'

void t.test('keys are in the order of their text, whenever they came and went', (t) => {
  const step = fc.record({
    isAdded: fc.boolean(),
    place: fc.constantFrom('a', 'b'),
    key: fc.constantFrom('ns/b', 'ns/a', 'ns/B', 'other/ä', 'ns/aa', 'ns/-'),
    isLookedAt: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const keys = new OrderedKeys()
      const naive = { a: new Set<string>(), b: new Set<string>() } as Record<string, Set<string>>
      for (const { isAdded, place, key, isLookedAt } of steps) {
        if (isAdded) keys.add(place, key)
        else keys.remove(place, key)
        if (isAdded) naive[place]?.add(key)
        else naive[place]?.delete(key)
        if (isLookedAt) t.strictSame(keys.get(place), [...(naive[place] ?? [])].sort())
      }
      for (const place of ['a', 'b', 'nowhere'])
        t.strictSame(keys.get(place), [...(naive[place] ?? [])].sort())
    }),
  )
  t.end()
})

void t.test('what was given stays as it is, and is given again while no key comes or goes', (t) => {
  const keys = new OrderedKeys()
  keys.add('a', 'z')
  keys.add('a', 'y')
  const before = keys.get('a')
  keys.add('a', 'z')
  keys.remove('a', 'none')
  keys.add('b', 'x')
  t.equal(keys.get('a'), before, 'the same array')
  keys.add('a', 'x')
  keys.remove('a', 'z')
  t.strictSame(before, ['y', 'z'])
  t.strictSame(keys.get('a'), ['x', 'y'])
  t.end()
})
