// SPDX-License-Identifier: Apache-2.0
// What headers say of a trace, and what is nobody's word.

import t from 'tap'
import {
  readTrace,
  type TraceForm,
  type TraceHeader,
  writeTrace,
} from '../../mesh/telemetry/trace-context.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const SPAN = '00f067aa0ba902b7'
const read = (headers: Partial<Record<TraceHeader, string>>) => readTrace((name) => headers[name])

void t.test(
  'traceparent is read by W3C Trace Context, and a later version as far as it is known',
  (t) => {
    const known = { traceId: TRACE, parentId: SPAN, forms: ['w3c'] }
    t.match(read({ traceparent: `00-${TRACE}-${SPAN}-01` }), { ...known, isSampled: true })
    t.match(read({ traceparent: `00-${TRACE}-${SPAN}-00` }), { ...known, isSampled: false })
    t.match(read({ traceparent: `00-${TRACE}-${SPAN}-03`, tracestate: 'a=b' }), {
      isSampled: true,
      state: 'a=b',
    })
    t.match(read({ traceparent: `cc-${TRACE}-${SPAN}-01-what-comes-later` }), known)
    for (const bad of [
      `00-${TRACE}-${SPAN}-01-more`,
      `ff-${TRACE}-${SPAN}-01`,
      `00-${'0'.repeat(32)}-${SPAN}-01`,
      `00-${TRACE}-${'0'.repeat(16)}-01`,
      `00-${TRACE.toUpperCase()}-${SPAN}-01`,
      `00-${TRACE}-${SPAN}-1`,
      `00-${TRACE}-${SPAN}`,
      `00-${TRACE}-${SPAN}-01, 00-${TRACE}-${SPAN}-01`,
      '',
      'x'.repeat(10_000),
    ])
      t.match(read({ traceparent: bad, tracestate: 'a=b' }), {
        traceId: undefined,
        isSampled: undefined,
        state: undefined,
        forms: [],
      })
    t.equal(
      read({ traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'x'.repeat(9_000) }).state,
      undefined,
    )
    t.end()
  },
)

void t.test('B3 is read in both forms, with its short ids and its decision alone', (t) => {
  t.match(read({ b3: `${TRACE}-${SPAN}-1-${SPAN}` }), {
    traceId: TRACE,
    parentId: SPAN,
    isSampled: true,
    forms: ['b3'],
  })
  t.match(read({ b3: `${SPAN}-${SPAN}-d` }), {
    traceId: `${'0'.repeat(16)}${SPAN}`,
    isSampled: true,
  })
  t.match(read({ b3: `${TRACE}-${SPAN}` }), { traceId: TRACE, isSampled: undefined })
  t.match(read({ b3: '0' }), { traceId: undefined, isSampled: false, forms: ['b3'] })
  for (const b3 of ['2', `${TRACE}-${SPAN}-2`, `${'0'.repeat(32)}-${SPAN}-1`, `${TRACE}`, '-'])
    t.match(read({ b3 }), { traceId: undefined, forms: [] })
  t.match(read({ 'x-b3-traceid': TRACE.toUpperCase(), 'x-b3-spanid': SPAN, 'x-b3-sampled': '0' }), {
    traceId: TRACE,
    parentId: SPAN,
    isSampled: false,
    forms: ['b3Headers'],
  })
  t.match(read({ 'x-b3-traceid': TRACE, 'x-b3-spanid': SPAN, 'x-b3-flags': '1' }), {
    isSampled: true,
  })
  t.match(read({ 'x-b3-sampled': 'false' }), { traceId: undefined, isSampled: false })
  t.match(read({ 'x-b3-traceid': TRACE }), { forms: [] }, 'half of it is nothing')
  t.end()
})

void t.test('what is written is read as the same, in every form that came', (t) => {
  const span = { traceId: TRACE, spanId: SPAN, isSampled: true }
  const both = read({ traceparent: `00-${TRACE}-${SPAN}-01`, b3: `${SPAN}-${SPAN}-0` })
  t.match(both, { traceId: TRACE, isSampled: true, forms: ['w3c', 'b3'] }, 'W3C counts first')
  for (const isSampled of [true, false])
    for (const forms of [['w3c'], ['b3'], ['b3Headers'], ['w3c', 'b3Headers'], both.forms]) {
      const headers = writeTrace({ ...span, isSampled }, forms as TraceForm[])
      const expected = { traceId: TRACE, parentId: SPAN, isSampled, forms }
      t.match(read(Object.fromEntries(headers)), expected, forms.join())
    }
  t.same(writeTrace(span, []), [['traceparent', `00-${TRACE}-${SPAN}-01`]])
  t.end()
})
