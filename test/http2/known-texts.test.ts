// SPDX-License-Identifier: Apache-2.0
// Texts of header blocks are what came, whatever came before them.

import fc from 'fast-check'
import t from 'tap'
import { textOf } from '../../mesh/http2/known-texts.ts'

void t.test('textOf() gives the octets as they are, remembered or not', (t) => {
  // Few octets and lengths around the limit: many texts fall in one place, and many come again.
  const octets = fc.uint8Array({ minLength: 0, maxLength: 30 })
  const few = fc.array(fc.constantFrom(0x61, 0x62, 0xff, 0x00), { minLength: 0, maxLength: 26 })
  const text = fc.oneof(octets, few)
  fc.assert(
    fc.property(text, text, (one, other) => {
      const bytes = Buffer.from([...one, ...other, ...one])
      const places = [0, one.length, one.length + other.length, bytes.length]
      return places.slice(1).every((end, at) => {
        const start = places[at] ?? 0
        return textOf(bytes, start, end) === bytes.toString('latin1', start, end)
      })
    }),
    { numRuns: 2_000 },
  )
  t.end()
})

void t.test('what is remembered is no part of the memory that it came in', (t) => {
  const bytes = Buffer.from('content-type')
  const text = textOf(bytes, 0, bytes.length)
  bytes.fill(0x78)
  t.equal(text, 'content-type')
  t.equal(textOf(bytes, 0, bytes.length), 'x'.repeat(bytes.length))
  t.end()
})
