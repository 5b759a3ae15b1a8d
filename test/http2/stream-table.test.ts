// SPDX-License-Identifier: Apache-2.0
// The table of a connection's streams finds what a Map would find, by whatever ids a peer chooses.

import fc from 'fast-check'
import t from 'tap'
import type { H2Stream } from '../../mesh/http2/stream.ts'
import { StreamTable } from '../../mesh/http2/stream-table.ts'

/** The table asks for nothing but the id. */
const streamOf = (id: number): H2Stream => ({ id }) as H2Stream

function isAsModel(steps: readonly { readonly id: number; readonly opens: boolean }[]): boolean {
  const table = new StreamTable()
  const model = new Map<number, H2Stream>()
  for (const { id, opens } of steps) {
    if (opens && !model.has(id)) {
      const stream = streamOf(id)
      table.add(stream)
      model.set(id, stream)
    } else if (!opens) {
      table.delete(id)
      model.delete(id)
    }
    if (table.size !== model.size) return false
    for (const each of [id, ...model.keys()]) if (table.get(each) !== model.get(each)) return false
  }
  const ids = [...table].map((stream) => stream.id)
  return ids.join() === [...model.keys()].sort((one, other) => one - other).join()
}

void t.test('streams that open in their order and end in any', (t) => {
  const step = fc.record({ id: fc.nat({ max: 40 }).map((n) => 2 * n + 1), opens: fc.boolean() })
  fc.assert(fc.property(fc.array(step, { maxLength: 120 }), isAsModel))
  t.end()
})

void t.test('ids that all want one place, up to the largest there is', (t) => {
  const id = fc.oneof(
    fc.nat({ max: 30 }).map((n) => 2 ** 31 - 1 - n * 4096),
    fc.nat({ max: 30 }).map((n) => 1 + n * 4096),
  )
  const step = fc.record({ id, opens: fc.boolean() })
  fc.assert(fc.property(fc.array(step, { maxLength: 120 }), isAsModel))
  t.end()
})

void t.test('streams may end while all are gone through', (t) => {
  const table = new StreamTable()
  for (const id of [1, 3, 5, 7]) table.add(streamOf(id))
  const seen: number[] = []
  for (const { id } of table) {
    seen.push(id)
    for (const each of [1, 3, 5, 7]) table.delete(each)
  }
  t.same(seen, [1, 3, 5, 7])
  t.equal(table.size, 0)
  t.end()
})
