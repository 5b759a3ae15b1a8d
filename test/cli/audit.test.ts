// SPDX-License-Identifier: Apache-2.0
// The audit for people: one line an event, in the order of time, and nobody's name writes on a terminal.

import t from 'tap'
import { auditText, inOrder, readAuditLine } from '../../cli/tables/audit.ts'
import { type AuditEvent, auditLine } from '../../mesh/audit/event.ts'

const DENIAL: AuditEvent = {
  kind: 'connection.denied',
  time: Date.UTC(2026, 0, 2, 3, 4, 5, 6),
  namespace: 'shop',
  who: 'spiffe://cluster.local/ns/shop/sa/intruder',
  what: 'pod shop/catalog at 10.0.0.7:8080',
  object: 'AuthorizationPolicy shop/only-frontend',
  rule: 2,
  why: 'explicitly denied by: shop/only-frontend',
}
const textOf = (event: AuditEvent): string => {
  const line = readAuditLine(auditLine(event))
  if (line === undefined) throw new Error('no line')
  return auditText(line)
}

void t.test('a line says when, who, what, why and by which rule', (t) => {
  t.equal(
    textOf(DENIAL),
    '2026-01-02T03:04:05.006Z  connection.denied   spiffe://cluster.local/ns/shop/sa/intruder -> pod shop/catalog at 10.0.0.7:8080: ' +
      'explicitly denied by: shop/only-frontend [AuthorizationPolicy shop/only-frontend rules[2]]',
  )
  t.match(textOf({ ...DENIAL, object: undefined, rule: undefined }), /only-frontend$/)
  t.match(textOf({ ...DENIAL, details: { leftOut: 7 } }), / \(and 7 more were left out\)$/)
  t.notMatch(textOf({ ...DENIAL, who: 'x\u001b[2J\r\ny' }), /\p{Cc}/u)
  t.end()
})

void t.test('the audits of several components are one, and what is no line is none', (t) => {
  const lines = [3, 1, 2].flatMap((time) => readAuditLine(auditLine({ ...DENIAL, time })) ?? [])
  t.same(
    inOrder(lines).map(({ time }) => Date.parse(time)),
    [1, 2, 3],
  )
  for (const odd of ['', 'nothing', '[]', 'null', '{"audit":"x"}'])
    t.equal(readAuditLine(odd), undefined, odd)
  t.end()
})
