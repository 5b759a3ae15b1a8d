// SPDX-License-Identifier: Apache-2.0
// Filters of the access log: what they let through, and what is said of one that is wrong.

import fc from 'fast-check'
import t from 'tap'
import type { SpiffeId } from '../../mesh/model/types.ts'
import { parseConnectionFilter } from '../../mesh/telemetry/access-filter/fields.ts'
import { type ConnectionRecord, UNKNOWN_PARTY } from '../../mesh/telemetry/connection-record.ts'

const RECORD: ConnectionRecord = {
  direction: 'outbound',
  startedAt: 0,
  source: {
    ...UNKNOWN_PARTY,
    name: 'frontend-1',
    namespace: 'shop',
    identity: 'spiffe://cluster.local/ns/shop/sa/frontend' as SpiffeId,
  },
  sourceAddress: undefined,
  destination: { ...UNKNOWN_PARTY, name: 'catalog-1', namespace: 'stock' },
  destinationAddress: undefined,
  hboneTarget: undefined,
  service: undefined,
  security: 'mutual_tls',
  bytesToUpstream: 10,
  bytesToDownstream: 2_000,
  durationMs: 250,
  end: 'policyDenied',
  message: undefined,
  policy: 'stock/only-admins',
  rule: 0,
  madeOf: undefined,
  reports: undefined,
}

void t.test('an expression asks for the fields of the line', (t) => {
  const cases: readonly (readonly [string, boolean])[] = [
    ['src.namespace == "shop"', true],
    ["src.namespace != 'shop'", false],
    ['direction == "inbound"', false],
    ['duration > 200 && duration <= 250', true],
    ['duration >= duration("0.25s") && duration < duration("1m")', true],
    ['bytes_recv >= 2000 && bytes_sent == 10', true],
    ['has(error)', true],
    ['!has(policy) || has(dst.identity)', false],
    ['!!has(policy)', true],
    ['src.workload.startsWith("front")', true],
    ['src.workload.endsWith("-2")', false],
    ['src.identity.contains("/sa/frontend")', true],
    ['dst.namespace in ["shop", "stock"]', true],
    ['bytes_sent in [1, 2]', false],
    ['response_flags == "DENY" && connection_security_policy == "mutual_tls"', true],
    ['dst.service == ""', true],
    ['direction == "inbound" || src.namespace == "shop" && has(error)', true],
    ['(direction == "inbound" || src.namespace == "shop") && bytes_sent == 0', false],
    [String.raw`src.workload == "a \"b\""`, false],
  ]
  for (const [expression, expected] of cases) {
    const filter = parseConnectionFilter(expression)
    t.ok(filter.ok, `${expression}: ${filter.ok ? '' : filter.error}`)
    if (filter.ok) t.equal(filter.value(RECORD), expected, expression)
  }
  t.end()
})

void t.test('what is wrong with an expression is told by its place', (t) => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['', /^at 1, the end: expected a field/],
    ['src.name == "a"', /^at 1, "src\.name": is no field; there are src\.addr, /],
    ['src.namespace == shop', /^at 18, "shop": expected a text in quotes/],
    ['src.namespace == "shop', /^at 18: cannot read ""shop"/],
    ['src.namespace < "shop"', /^at 15, "<": texts are compared by == and != only/],
    ['duration > "100"', /^at 12, "100": expected a number/],
    ['duration > duration("100")', /expected a duration such as "100ms" or "2s"/],
    ['duration.startsWith("1")', /it is a number/],
    ['has(error', /^at 10, the end: expected \)/],
    ['has(error) has(policy)', /^at 12, "has": expected &&, \|\| or the end/],
    ['src.workload.matches("(a+)+")', /is no field/],
    ['error', /^at 6, the end: expected ==/],
    [`${'('.repeat(100)}has(error)${')'.repeat(100)}`, /too many parentheses/],
    ['constructor == "a"', /is no field/],
    ['x'.repeat(5_000), /longer than 4096/],
  ]
  for (const [expression, expected] of cases) {
    const filter = parseConnectionFilter(expression)
    t.match(filter, { ok: false, error: expected }, expression.slice(0, 40))
  }
  t.end()
})

void t.test('whatever is given for an expression, it is a filter or an error', (t) => {
  const words = [
    'has',
    '(',
    ')',
    'error',
    '==',
    '"a"',
    '&&',
    '||',
    '!',
    'in',
    '[',
    ']',
    '5',
    '.',
    ' ',
  ]
  const text = fc.array(fc.oneof(fc.constantFrom(...words), fc.string()), { maxLength: 60 })
  fc.assert(
    fc.property(text, (parts) => {
      const filter = parseConnectionFilter(parts.join(' '))
      if (filter.ok) filter.value(RECORD)
      return filter.ok || filter.error !== ''
    }),
  )
  t.end()
})
