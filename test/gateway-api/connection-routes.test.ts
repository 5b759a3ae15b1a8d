// SPDX-License-Identifier: Apache-2.0
// TCPRoutes and TLSRoutes as users write them, and what waypoints and users are told of them.

import t from 'tap'
import { spiffeId } from '../../mesh/identity/spiffe.ts'
import {
  backend,
  CATALOG,
  kubeGrant,
  kubeRoute,
  serviceParent,
  startShop,
} from './route-objects.ts'

const toV1 = [{ backendRefs: [backend('catalog-v1')] }]
const connections = (shop: ReturnType<typeof startShop>, port = 80) =>
  shop.state.httpRoutes.find(CATALOG, port, undefined)?.connections

/** A route with host names. */
function named(name: string, hostnames: unknown, rules: unknown = toV1) {
  const route = kubeRoute(name, rules)
  return { ...route, spec: { ...(route.spec as object), hostnames } }
}

void t.test('a TCPRoute leads connections, and has the status of every route', (t) => {
  const shop = startShop()
  const rules = [{ backendRefs: [backend('catalog-v1', { weight: 9 }), backend('catalog-v2')] }]
  shop.translator.upsert('TCPRoute', kubeRoute('r', rules))
  t.match(connections(shop), [
    {
      route: { kind: 'TCPRoute', namespace: 'shop', name: 'r' },
      isTls: false,
      hostnames: [],
      backends: [
        { target: { kind: 'service', service: /catalog-v1/, port: 80 }, weight: 9 },
        { target: { kind: 'service', service: /catalog-v2/, port: 80 }, weight: 1 },
      ],
      fault: undefined,
    },
  ])
  t.same(shop.rules(), [], 'it says nothing of requests')
  t.same(shop.conditions('shop/r'), [
    'catalog: Accepted=True ResolvedRefs=True ResolvedWaypoints=False/MissingUseWaypointLabel',
  ])
  shop.translator.delete('TCPRoute', 'shop', 'r')
  t.equal(connections(shop), undefined)
  t.end()
})

void t.test(
  'a TLSRoute does so for names, in place of TCPRoutes, and HTTPRoutes in place of it',
  (t) => {
    const shop = startShop()
    shop.translator.upsert('TCPRoute', kubeRoute('tcp', toV1))
    shop.translator.upsert('TLSRoute', named('tls', ['cart.example', '*.shop.example']))
    t.match(connections(shop), [
      { route: { name: 'tls' }, isTls: true, hostnames: ['cart.example', '*.shop.example'] },
    ])
    t.equal(connections(shop)?.length, 1)
    t.match(shop.conditions('shop/tcp'), [/Accepted=False\/Conflicted/])
    t.match(shop.conditions('shop/tls'), [/Accepted=True/])
    shop.translator.upsert('HTTPRoute', kubeRoute('http', toV1))
    t.match(shop.rules(), [{ route: { name: 'http' } }])
    t.same(connections(shop), [])
    t.match(shop.conditions('shop/tls'), [/Accepted=False\/Conflicted/])
    shop.translator.delete('HTTPRoute', 'shop', 'http')
    shop.translator.delete('TLSRoute', 'shop', 'tls')
    t.match(connections(shop), [{ route: { name: 'tcp' }, isTls: false }])
    t.match(shop.conditions('shop/tcp'), [/Accepted=True/])
    t.end()
  },
)

void t.test('a TCPRoute of another namespace is for the connections of its clients alone', (t) => {
  const shop = startShop()
  const parents = [serviceParent('catalog', { namespace: 'shop' })]
  const own = [{ backendRefs: [backend('catalog-v2')] }]
  const theirs = [{ backendRefs: [backend('catalog', { namespace: 'shop' })] }]
  shop.translator.upsert('TCPRoute', kubeRoute('own', own))
  shop.translator.upsert('TCPRoute', kubeRoute('theirs', theirs, { namespace: 'bank', parents }))
  const of = (namespace: string) =>
    shop.state.httpRoutes.find(
      CATALOG,
      80,
      spiffeId({ trustDomain: 'cluster.local', namespace, serviceAccount: 'client' }),
    )?.connections
  t.match(of('bank'), [
    { route: { namespace: 'bank' }, backends: [{ target: { kind: 'service', service: CATALOG } }] },
  ])
  t.match(of('shop'), [{ route: { namespace: 'shop' } }])
  t.match(of('elsewhere'), [{ route: { namespace: 'shop' } }])
  t.match(connections(shop), [{ route: { namespace: 'shop' } }], 'nobody knows whose')
  t.match(shop.conditions('bank/theirs'), [/^catalog: Accepted=True ResolvedRefs=True/])
  // Of requests the clients' namespace says nothing: its TCPRoute takes them, too.
  shop.translator.upsert('HTTPRoute', kubeRoute('http', own))
  t.match(of('bank'), [{ route: { namespace: 'bank' } }])
  t.strictSame(of('shop'), [])
  t.end()
})

void t.test('a backend of another namespace wants a grant for this kind', (t) => {
  const shop = startShop()
  const parents = [serviceParent('catalog')]
  const foreign = [{ backendRefs: [backend('catalog-v1', { namespace: 'other' })] }]
  shop.translator.upsert('TCPRoute', kubeRoute('r', foreign, { parents }))
  t.match(connections(shop), [{ backends: [{ target: { kind: 'unresolved' } }] }])
  t.match(shop.conditions('shop/r'), [/Accepted=True ResolvedRefs=False\/RefNotPermitted/])
  shop.translator.upsert('ReferenceGrant', kubeGrant('g', 'shop'))
  t.match(shop.conditions('shop/r'), [/RefNotPermitted/], 'one for HTTPRoutes is none')
  t.end()
})

void t.test('one that cannot be read refuses its connections, and says so', (t) => {
  for (const [kind, route, flaw] of [
    [
      'TLSRoute',
      named('r', ['Cart.example']),
      'spec.hostnames[0] "Cart.example" is not a host name',
    ],
    ['TLSRoute', named('r', ['10.0.0.1']), 'spec.hostnames[0]'],
    ['TLSRoute', named('r', ['a.*']), 'spec.hostnames[0]'],
    [
      'TCPRoute',
      kubeRoute('r', [{ backendRefs: [backend('catalog-v1', { weight: -1 })] }]),
      'weight -1',
    ],
    [
      'TCPRoute',
      kubeRoute('r', [{ backendRefs: [backend('catalog-v1', { filters: [{ type: 'CORS' }] })] }]),
      'filters',
    ],
    ['TCPRoute', kubeRoute('r', [{ matches: [], backendRefs: [] }]), 'matches'],
  ] as const) {
    const shop = startShop()
    shop.translator.upsert(kind, route)
    t.match(connections(shop), [{ backends: [], fault: /./ }], flaw)
    t.match(shop.conditions('shop/r'), [/^catalog: Accepted=False\/UnsupportedValue /])
    const message = shop.message('shop/r', 'Accepted') ?? ''
    t.match(message, /their connections are refused/)
    t.ok(message.includes(flaw), message)
  }
  t.end()
})

void t.test('one without rules leaves requests and connections where they go', (t) => {
  const shop = startShop()
  shop.translator.upsert('TCPRoute', kubeRoute('r', []))
  t.equal(shop.rules(), undefined)
  t.end()
})
