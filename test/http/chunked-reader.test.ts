// SPDX-License-Identifier: Apache-2.0
// Chunked bodies by the letter of RFC 9112 7.1, and however they are split.

import fc from 'fast-check'
import t from 'tap'
import { ChunkedReader } from '../../mesh/http/http1/chunked-reader.ts'
import { BAD } from '../../mesh/http/http1/problem.ts'

/** Payload and what is left behind the body; undefined: refused. */
function read(
  parts: readonly Buffer[],
): { payload: string; trailers: string; isDone: boolean } | undefined {
  const reader = new ChunkedReader()
  let payload = ''
  for (const part of parts) {
    let at = 0
    while (at < part.length && !reader.isDone) {
      at = reader.read(part, at, part.length)
      if (at === BAD) return undefined
      payload += part.toString('latin1', reader.payloadStart, reader.payloadEnd)
    }
  }
  const trailers: string[] = []
  reader.trailers?.each((name, value) => void trailers.push(`${name}=${value}`))
  return { payload, trailers: trailers.join(), isDone: reader.isDone }
}

function bytes(text: string): Buffer {
  return Buffer.from(text, 'latin1')
}

await t.test('bodies that are chunked as they should be', (t) => {
  const good: readonly [body: string, payload: string, trailers: string][] = [
    ['0\r\n\r\n', '', ''],
    ['5\r\nhello\r\n0\r\n\r\n', 'hello', ''],
    ['A\r\n0123456789\r\n1\r\n!\r\n000\r\n\r\n', '0123456789!', ''],
    ['2;a\r\nhi\r\n0;b=c\r\n\r\n', 'hi', ''],
    ['2 ;\ta = "q;\\"\\\\\r\\n" \r\nhi\r\n0\r\n\r\n'.replace('\r\\n', 'x'), 'hi', ''],
    ['2\r\n\r\n\r\n0\r\nx: y\r\nZ:\r\n\r\n', '\r\n', 'x=y,z='],
  ]
  for (const [body, payload, trailers] of good)
    t.same(read([bytes(body)]), { payload, trailers, isDone: true }, body)
  t.end()
})

await t.test('bodies that are not', (t) => {
  for (const body of [
    '\r\n',
    'g\r\n',
    '-1\r\n',
    '+1\r\n',
    '0x1\r\n',
    ' 1\r\n',
    '1 \r\na\r\n',
    '1\na\r\n',
    '1\r\na\n0\r\n\r\n',
    '1\r\nab\r\n',
    '1\r\na0\r\n\r\n',
    '1;\r\na\r\n',
    '1;a=\r\na\r\n',
    '1;a="\r\na\r\n',
    '1;a="b"c\r\na\r\n',
    '1;a b\r\na\r\n',
    '1;a\nb\r\na\r\n',
    '1;a="\n"\r\na\r\n',
    '1\r;a\r\na\r\n',
    'fffffffffffffffff\r\n',
    '00000000000000001\r\na\r\n',
    `1;a=${'b'.repeat(2_000)}\r\na\r\n`,
    '0\r\n\n',
    '0\r\nx : y\r\n\r\n',
    '0\r\nx\r\n\r\n',
    '0\r\n x: y\r\n\r\n',
    `0\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`,
  ])
    t.equal(read([bytes(body)]), undefined, JSON.stringify(body.slice(0, 40)))
  t.end()
})

await t.test('what comes out does not depend on how it came in', (t) => {
  const piece = fc.constantFrom(
    '0',
    '1',
    'a',
    'F',
    '\r\n',
    '\r',
    '\n',
    ';',
    '=',
    '"',
    '\\',
    ' ',
    'x: y\r\n',
    '5\r\nhello\r\n',
    '0\r\n\r\n',
  )
  const body = fc.oneof(
    fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join('')),
    fc
      .array(fc.string({ minLength: 1, maxLength: 40, unit: 'binary-ascii' }), { maxLength: 8 })
      .map(
        (chunks) =>
          `${chunks.map((chunk) => `${chunk.length.toString(16)};e="v"\r\n${chunk}\r\n`).join('')}0\r\nx: y\r\n\r\n`,
      ),
  )
  fc.assert(
    fc.property(body, (text) => {
      const whole = read([bytes(text)])
      const single = read([...bytes(text)].map((octet) => Buffer.from([octet])))
      t.same(single, whole)
    }),
    { numRuns: 500 },
  )
  t.end()
})
