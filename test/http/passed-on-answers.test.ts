// SPDX-License-Identifier: Apache-2.0
// What an answer is given on its way, whichever versions of HTTP it comes and goes by: the time at which it came, where its app says none, and
// the form that its status line must have.

import t from 'tap'
import { FieldList, type Field } from '../../mesh/http/field-list.ts'
import { type HeaderEdits, headerEdits } from '../../mesh/http/header-edits.ts'
import { HeadWriter } from '../../mesh/http/http1/head-writer.ts'
import { Http1ResponseHead } from '../../mesh/http/http1/response-head.ts'
import { Http2RequestHead } from '../../mesh/http/http2/request-head.ts'
import { Http2ResponseHead } from '../../mesh/http/http2/response-head.ts'
import { responseFields } from '../../mesh/http/http2/write-head.ts'
import type { ResponseMessage } from '../../mesh/http/message.ts'

const THEN = 'Sun, 06 Nov 1994 08:49:37 GMT'

function byHttp1(line: string, ...fields: readonly string[]): Http1ResponseHead {
  const head = new Http1ResponseHead()
  const bytes = Buffer.from(`${[line, ...fields].join('\r\n')}\r\n\r\n`, 'latin1')
  t.equal(head.parse(bytes, 0, bytes.length, false), bytes.length)
  return head
}

function byHttp2(...fields: readonly Field[]): Http2ResponseHead {
  const head = new Http2ResponseHead()
  t.equal(head.parse([[':status', '200'], ...fields], false, true), undefined)
  return head
}

/** The values of Date as the answer goes on, in either version. */
function datesOf(head: ResponseMessage, edits?: HeaderEdits): readonly (readonly string[])[] {
  const writer = new HeadWriter()
  writer.response(head, 'plain', edits, false)
  const text = writer.bytes.toString('latin1', 0, writer.length)
  return [
    [...text.matchAll(/^date: (.*)\r$/gim)].map(([, value = '']) => value),
    new FieldList(responseFields(head, edits)).fields.flatMap(([name, value]) =>
      name === 'date' ? [value] : [],
    ),
  ]
}

void t.test('an answer that does not say when it was made says when it came', (t) => {
  const before = Math.floor(Date.now() / 1_000) * 1_000
  for (const head of [byHttp1('HTTP/1.1 200 OK'), byHttp2()])
    for (const dates of datesOf(head)) {
      t.equal(dates.length, 1)
      const at = Date.parse(dates[0] ?? '')
      t.ok(at >= before && at <= Date.now(), `it is ${dates[0]}`)
    }
  for (const head of [byHttp1('HTTP/1.1 200 OK', `Date: ${THEN}`), byHttp2(['date', THEN])])
    t.strictSame(datesOf(head), [[THEN], [THEN]], "the app's own stays")
  const interim = byHttp1('HTTP/1.1 103 Early Hints')
  t.strictSame(datesOf(interim), [[], []], 'what is not the answer yet')
  t.end()
})

void t.test('a route that says something of Date has its way', (t) => {
  const set = headerEdits({ set: [{ name: 'date', value: THEN }] })
  const none = headerEdits({ remove: ['date'] })
  for (const head of [byHttp1('HTTP/1.1 200 OK'), byHttp2()]) {
    t.strictSame(datesOf(head, set), [[THEN], [THEN]])
    t.strictSame(datesOf(head, none), [[], []])
  }
  t.end()
})

void t.test('a status line without a reason goes on with the blank before it', (t) => {
  for (const line of ['HTTP/1.1 200', 'HTTP/1.0 200', 'HTTP/1.1 200 ', 'HTTP/1.1 200 All  well']) {
    const writer = new HeadWriter()
    writer.response(byHttp1(line, 'Content-Length: 0'), 'plain', undefined, false)
    const [first = ''] = writer.bytes.toString('latin1', 0, writer.length).split('\r\n')
    t.match(first, /^HTTP\/1\.1 200 (?:All {2}well)?$/, line)
  }
  t.end()
})

void t.test('a length that is said twice is no length, however often it is the same', (t) => {
  const twice: Field[] = [
    ['content-length', '2'],
    ['content-length', '2'],
  ]
  const request = new Http2RequestHead().parse(
    [[':method', 'POST'], [':scheme', 'http'], [':path', '/'], [':authority', 'h'], ...twice],
    false,
  )
  t.match(request, { kind: 'malformed', text: /two lengths/ })
  t.match(
    new Http2ResponseHead().parse([[':status', '200'], ...twice], false, false),
    /two lengths/,
  )
  t.end()
})
