// SPDX-License-Identifier: Apache-2.0
// What the head of a request by HTTP/2 says to those who decide about it, and what of one that is too large.

import t from 'tap'
import type { Field } from '../../mesh/http/field-list.ts'
import { HEADER, headerName } from '../../mesh/http/header-names.ts'
import { Http2RequestHead } from '../../mesh/http/http2/request-head.ts'

const request = (...more: readonly Field[]): readonly Field[] => [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/a?b'],
  [':authority', 'Shop.example:80'],
  ...more,
]

void t.test('a route or policy that asks for Host hears of the authority', (t) => {
  const head = new Http2RequestHead()
  t.equal(head.parse(request(['x-a', '1'], ['x-a', '2']), true), undefined)
  t.equal(head.value(headerName('Host')), 'Shop.example:80')
  t.equal(head.joined(HEADER.host), 'Shop.example:80')
  t.equal(head.joined(headerName('x-a')), '1,2')
  const shown: string[] = []
  head.each((name) => void shown.push(name))
  t.strictSame(shown, ['x-a', 'x-a'], 'it is no field all the same, and goes on once')
  t.equal(head.parse(request(['host', 'shop.EXAMPLE:80']), true), undefined)
  t.equal(head.value(HEADER.host), 'Shop.example:80')
  t.match(head.parse(request(['host', 'other']), true), { kind: 'malformed' })
  const byHost = request(['host', 'plain']).filter(([name]) => name !== ':authority')
  t.equal(head.parse(byHost, true), undefined)
  t.equal(head.value(HEADER.host), 'plain')
  head.forget()
  t.equal(head.value(HEADER.host), undefined)
  t.end()
})

void t.test('what came of a head that is too large tells whose it is', (t) => {
  const head = new Http2RequestHead()
  head.take(request(['x', 'y']))
  t.match(head, { method: 'GET', target: '/a?b', authority: 'Shop.example:80' })
  t.equal(head.value(headerName('x')), 'y')
  head.take([])
  t.match(head, { method: '', target: '', authority: '' }, 'and nothing of another')
  head.take([[':method', 'x'.repeat(60_000)]])
  t.equal(head.method, '', 'nor is a method as long as that')
  t.end()
})
