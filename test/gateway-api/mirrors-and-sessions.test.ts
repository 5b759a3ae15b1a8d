// SPDX-License-Identifier: Apache-2.0
// What routes say of copies of requests, and of clients that come back to the endpoint they had.

import t from 'tap'
import { HTTP_FILTERS, readFilters } from '../../controller/gateway-api/route-filters.ts'
import { readSession } from '../../controller/gateway-api/rule-settings.ts'
import { FlawReader } from '../../controller/istio-api/flaw.ts'
import { backend, kubeRoute, startShop } from './route-objects.ts'

const mirror = (more: object = {}) => ({
  type: 'RequestMirror',
  requestMirror: { backendRef: backend('catalog-v2'), ...more },
})

void t.test('sessions are served, each rule with a key that follows from the mesh', (t) => {
  const shop = startShop()
  const rule = { sessionPersistence: { sessionName: 'stay' }, backendRefs: [backend('catalog-v1')] }
  const keys = (): readonly (string | undefined)[] =>
    shop.rules()?.map(({ session }) => session?.key) ?? []
  shop.translator.upsert('HTTPRoute', kubeRoute('r', [rule, rule]))
  t.match(shop.conditions('shop/r'), [/^catalog: Accepted=True /])
  t.match(shop.rules(), [{ fault: undefined, session: { kind: 'cookie', name: 'stay' } }, {}])
  const [first, second] = keys()
  t.match(first, /^[\w-]{43}$/)
  t.not(first, second)
  const twin = startShop()
  twin.translator.upsert('HTTPRoute', kubeRoute('r', [rule, rule]))
  t.same(twin.rules(), shop.rules(), 'every replica says the same')
  shop.secrets.set('sessions', 'another')
  t.notSame(keys(), [first, second])
  shop.secrets.delete('sessions')
  t.match(shop.rules(), [{ session: undefined, fault: 'its sessions have no key yet' }, {}])
  t.end()
})

void t.test('a GRPCRoute has them as well', (t) => {
  const shop = startShop()
  const rule = { sessionPersistence: { type: 'Header' }, backendRefs: [backend('catalog-v1')] }
  shop.translator.upsert('GRPCRoute', kubeRoute('r', [rule]))
  t.match(shop.rules(), [{ fault: undefined, session: { kind: 'header' } }])
  t.end()
})

void t.test('a rule that says nothing of them has none', (t) => {
  const shop = startShop()
  const rule = { sessionPersistence: null, backendRefs: [backend('catalog-v1')] }
  shop.translator.upsert('HTTPRoute', kubeRoute('r', [rule]))
  t.match(shop.rules(), [{ fault: undefined, backends: [{ weight: 1 }] }])
  t.end()
})

void t.test('a mirror is served, and one that is not there is told of', (t) => {
  const shop = startShop()
  const rule = { filters: [mirror({ percent: 5 })], backendRefs: [backend('catalog-v1')] }
  shop.translator.upsert('HTTPRoute', kubeRoute('r', [rule]))
  const target = { kind: 'service', service: 'shop/catalog-v2.shop.svc.cluster.local', port: 80 }
  t.match(shop.rules(), [{ fault: undefined, filters: [{ kind: 'mirror', backend: target }] }])
  t.match(shop.conditions('shop/r'), [/Accepted=True ResolvedRefs=True/])
  shop.translator.delete('Service', 'shop', 'catalog-v2')
  t.match(shop.rules(), [{ filters: [{ kind: 'mirror', backend: { kind: 'unresolved' } }] }])
  t.match(shop.conditions('shop/r'), [/Accepted=True ResolvedRefs=False\/BackendNotFound/])
  t.end()
})

void t.test('mirrors and sessions are read as they are written', (t) => {
  const reader = new FlawReader('HTTPRoute', { namespace: 'shop', name: 'r' })
  const context = { reader, namespace: 'shop', types: HTTP_FILTERS }
  t.match(readFilters(context, 'f', [mirror({ fraction: { numerator: 5 } }), mirror()]), [
    { kind: 'mirror', backend: { name: 'catalog-v2' }, numerator: 5, denominator: 100 },
    { kind: 'mirror', backend: { name: 'catalog-v2' }, numerator: 100, denominator: 100 },
  ])
  const permanent = {
    sessionName: 'stay',
    absoluteTimeout: '8760h',
    cookieConfig: { lifetimeType: 'Permanent' },
  }
  t.strictSame(readSession(reader, 's', permanent, 'rule'), {
    kind: 'cookie',
    name: 'stay',
    absoluteMs: 8760 * 3_600_000,
    idleMs: 0,
    isPermanent: true,
  })
  t.match(readSession(reader, 's', { type: 'Header' }, 'rule'), {
    kind: 'header',
    name: /^ambit-session-\w+$/,
    absoluteMs: 0,
  })
  t.same(reader.flaws, [])
  t.end()
})
