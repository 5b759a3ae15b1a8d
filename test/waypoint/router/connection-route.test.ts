// SPDX-License-Identifier: Apache-2.0
// Where connections go that are carried as they are.

import t from 'tap'
import type { ConnectionRule } from '../../../mesh/model/http-routes.ts'
import { needsServerName, routeConnection } from '../../../waypoint/router/connection-route.ts'

const backend = (name: string, weight = 1): ConnectionRule['backends'][number] => ({
  target: { kind: 'service', service: `shop/${name}`, port: 443 },
  weight,
})

function rule(name: string, more: Partial<ConnectionRule> = {}): ConnectionRule {
  return {
    route: { kind: 'TLSRoute', namespace: 'shop', name, rule: '0' },
    isTls: true,
    hostnames: [],
    backends: [backend(name)],
    fault: undefined,
    ...more,
  }
}

/** The Service that a connection goes to, or why it goes nowhere. */
function led(rules: readonly ConnectionRule[], name?: string | null, random = 0): string {
  const tls = name === undefined ? undefined : { serverName: name ?? undefined }
  const way = routeConnection(rules, tls, () => random)
  if (way.kind === 'refuse') return way.message
  return way.backend.kind === 'service' ? way.backend.service : 'a workload'
}

void t.test('the name that says most goes first, and of equals the older', (t) => {
  const rules = [
    rule('wide', { hostnames: ['*.example'] }),
    rule('narrow', { hostnames: ['x.example', '*.shop.example'] }),
    rule('exact', { hostnames: ['cart.shop.example'] }),
    rule('late', { hostnames: ['cart.shop.example'] }),
  ]
  for (const [name, expected] of [
    ['cart.shop.example', 'shop/exact'],
    ['pay.shop.example', 'shop/narrow'],
    ['a.b.shop.example', 'shop/narrow'],
    ['shop.example', 'shop/wide'],
    ['x.example', 'shop/narrow'],
    ['example', 'no route takes it: it speaks TLS for example'],
    [null, 'no route takes it: it speaks TLS for no name'],
    [undefined, 'no route takes it: it speaks no TLS'],
  ] as const)
    t.equal(led(rules, name), expected, String(name))
  t.equal(led([rule('any')], null), 'shop/any', 'where no name is said all are meant')
  t.end()
})

void t.test('what no TLSRoute takes is left to the TCPRoute', (t) => {
  const tcp = rule('tcp', { isTls: false })
  const rules = [tcp, rule('named', { hostnames: ['a.example'] })]
  t.equal(led(rules, 'a.example'), 'shop/named')
  t.equal(led(rules, 'b.example'), 'shop/tcp')
  t.equal(led(rules), 'shop/tcp')
  t.equal(needsServerName(rules), true)
  t.equal(needsServerName([tcp]), false)
  t.end()
})

void t.test('backends get their share, and what cannot be had refuses its own', (t) => {
  const split = rule('r', {
    backends: [
      backend('v1', 9),
      { target: { kind: 'unresolved', reason: 'no Service shop/v2' }, weight: 1 },
    ],
  })
  t.equal(led([split], 'a', 0.89), 'shop/v1')
  t.equal(led([split], 'a', 0.91), 'TLSRoute shop/r: no Service shop/v2')
  t.equal(led([rule('r', { fault: 'it is odd' })], 'a'), 'TLSRoute shop/r: it is odd')
  t.equal(
    led([rule('r', { backends: [backend('v1', 0)] })], 'a'),
    'TLSRoute shop/r: no backend has any weight',
  )
  t.end()
})
