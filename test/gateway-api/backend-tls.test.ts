// SPDX-License-Identifier: Apache-2.0
// BackendTLSPolicies: whom waypoints are told to trust, which of several policies counts, and what their statuses say.

import t from 'tap'
import { parse } from 'yaml'
import type { InputObjects } from '../../controller/core/input.ts'
import { wantedAncestors } from '../../controller/status/backend-tls-status.ts'
import { BACKEND_TLS } from '../../mesh/xds/types/backend-tls.ts'
import { unreadableBackendTls } from '../../mesh/model/backend-tls.ts'
import { kubeService } from '../core/objects.ts'
import { printed } from '../e2e/support/waypoint-guide.ts'
import { makeRoot } from '../hbone/certs.ts'
import { gatewayClass, waypoint } from './gateway-objects.ts'
import { backend, CATALOG, kubeRoute, startShop } from './route-objects.ts'

type Policy = InputObjects['BackendTLSPolicy']
const NOW = new Date('2026-02-01T00:00:00.5Z')
const V1 = 'shop/catalog-v1.shop.svc.cluster.local'
const { pem: PEM } = await makeRoot('CN=of the apps')

interface Choices {
  readonly targets?: readonly object[]
  readonly validation?: object
  readonly createdAt?: string
  readonly status?: unknown
  readonly options?: object
}

const service = (name: string, more: object = {}): object => ({
  group: '',
  kind: 'Service',
  name,
  ...more,
})
const authority = (name: string, more: object = {}): object => ({
  group: '',
  kind: 'ConfigMap',
  name,
  ...more,
})
const VALIDATION = { hostname: 'catalog.example', caCertificateRefs: [authority('apps')] }

/** A policy of the Service `catalog`. */
function kubePolicy(name: string, choices: Choices = {}): Policy {
  const { targets = [service('catalog')], validation = VALIDATION, status, options } = choices
  const { createdAt = '2026-01-01T00:00:00Z' } = choices
  const metadata = {
    name,
    namespace: 'shop',
    uid: name,
    generation: 1,
    creationTimestamp: createdAt,
  }
  const spec = { targetRefs: targets, validation, ...(options && { options }) }
  return { metadata, spec, ...(status === undefined ? {} : { status }) }
}

const bundle = (name: string, data: Record<string, string>): InputObjects['ConfigMap'] => ({
  metadata: { name, namespace: 'shop' },
  data,
})

/** The shop, whose Services go through a waypoint, with the authority `apps`. */
function start() {
  const shop = startShop()
  const { translator, state, mesh } = shop
  translator.upsert('GatewayClass', gatewayClass())
  translator.upsert('Gateway', waypoint('way'))
  const labels = { 'istio.io/use-waypoint': 'way' }
  translator.upsert('Service', kubeService('catalog', {}, { labels }))
  translator.upsert('ConfigMap', bundle('apps', { 'ca.crt': `# of the apps\n${PEM}` }))
  const statusOf = (name: string) =>
    [...mesh.backendTlsStatuses.values()].find((each) => each.name === name)
  return {
    ...shop,
    statusOf,
    /** What counts at a port of a Service, shortly. */
    at: (key = CATALOG, port = 80) => {
      const tls = state.backendTls.find(key, port)
      return tls && `${tls.policy} ${tls.hostname} ${tls.fault ?? (tls.authorities && 'PEM')}`
    },
    /** The conditions at each ancestor. */
    conditions: (name: string) =>
      statusOf(name)?.ancestors.map(({ ref, verdicts }) =>
        [
          `${String(ref.namespace)}/${String(ref.name)}:`,
          ...verdicts.map(({ type, status, reason }) =>
            type === reason ? `${type}=${status}` : `${type}=${status}/${reason}`,
          ),
        ].join(' '),
      ),
    message: (name: string, type: string) =>
      statusOf(name)?.ancestors[0]?.verdicts.find((verdict) => verdict.type === type)?.message,
  }
}

void t.test('a policy says by which name and authorities a Service is called', (t) => {
  const shop = start()
  shop.translator.upsert(
    'BackendTLSPolicy',
    kubePolicy('p', {
      validation: {
        ...VALIDATION,
        subjectAltNames: [
          { type: 'Hostname', hostname: '*.apps.example' },
          { type: 'URI', uri: 'spiffe://x/y' },
        ],
      },
    }),
  )
  const tls = shop.state.backendTls.find(CATALOG, 80)
  t.strictSame(tls, {
    key: CATALOG,
    service: CATALOG,
    port: undefined,
    policy: 'shop/p',
    hostname: 'catalog.example',
    subjectAltNames: [
      { kind: 'dns', value: '*.apps.example' },
      { kind: 'uri', value: 'spiffe://x/y' },
    ],
    authorities: `${PEM.trim()}\n`,
    fault: undefined,
  })
  if (tls !== undefined)
    t.strictSame(BACKEND_TLS.decode(tls.key, BACKEND_TLS.encode(tls)), { ok: true, value: tls })
  t.strictSame(shop.conditions('p'), ['shop/way: Accepted=True ResolvedRefs=True'])
  t.equal(shop.at(V1), undefined)
  shop.translator.delete('BackendTLSPolicy', 'shop', 'p')
  t.equal(shop.at(), undefined)
  t.end()
})

void t.test('the well-known authorities are those of the waypoint', (t) => {
  const shop = start()
  const validation = { hostname: 'catalog.example', wellKnownCACertificates: 'System' }
  shop.translator.upsert('BackendTLSPolicy', kubePolicy('p', { validation }))
  t.match(shop.state.backendTls.find(CATALOG, 80), { authorities: undefined, fault: undefined })
  t.strictSame(shop.conditions('p'), ['shop/way: Accepted=True ResolvedRefs=True'])
  t.end()
})

void t.test('authorities that are not there, or are none, are trusted by nobody', (t) => {
  const shop = start()
  const refs = (...names: readonly object[]): object => ({
    validation: { ...VALIDATION, caCertificateRefs: names },
  })
  const fault = 'Accepted=False/NoValidCACertificate ResolvedRefs=False'
  const put = (...names: readonly object[]): void =>
    shop.translator.upsert('BackendTLSPolicy', kubePolicy('p', refs(...names)))

  put(authority('late'))
  t.match(shop.at(), /caCertificateRefs\[0\] names ConfigMap shop\/late, which is not there/)
  t.strictSame(shop.conditions('p'), [`shop/way: ${fault}/InvalidCACertificateRef`])
  shop.translator.upsert('ConfigMap', bundle('late', { 'ca.crt': PEM }))
  t.equal(shop.at(), 'shop/p catalog.example PEM', 'it may come later')
  shop.translator.upsert('ConfigMap', bundle('late', { 'tls.crt': PEM }))
  t.match(shop.at(), /has no key ca\.crt/)
  shop.translator.upsert('ConfigMap', bundle('late', { 'ca.crt': 'no PEM' }))
  t.match(shop.at(), /whose key ca\.crt has no certificate in PEM/)
  const torn = PEM.replace(/\n.{20}/, '\n')
  shop.translator.upsert('ConfigMap', bundle('late', { 'ca.crt': `${PEM}\n${torn}` }))
  t.match(shop.at(), /has a certificate \(2 of 2\) that cannot be read/)
  put(authority('apps', { kind: 'Secret' }))
  t.strictSame(shop.conditions('p'), [`shop/way: ${fault}/InvalidKind`])

  put(authority('apps'), authority('late'))
  t.equal(shop.at(), 'shop/p catalog.example PEM', 'one that is good is enough')
  t.strictSame(shop.conditions('p'), [
    'shop/way: Accepted=True ResolvedRefs=False/InvalidCACertificateRef',
  ])
  shop.translator.delete('ConfigMap', 'shop', 'apps')
  t.strictSame(shop.conditions('p'), [`shop/way: ${fault}/InvalidCACertificateRef`])
  t.end()
})

void t.test('what is flawed makes connections fail, and says why', (t) => {
  const flawed: readonly (readonly [Choices, RegExp])[] = [
    [{ validation: { ...VALIDATION, hostname: '*.example' } }, /hostname .* is not a host name/],
    [{ validation: { hostname: 'a.example' } }, /caCertificateRefs names none either/],
    [
      { validation: { ...VALIDATION, wellKnownCACertificates: 'System' } },
      /stands beside caCertificateRefs/,
    ],
    [
      { validation: { hostname: 'a.example', wellKnownCACertificates: 'example.com/ours' } },
      /is not System/,
    ],
    [{ validation: { ...VALIDATION, subjectAltNames: [{ type: 'IP' }] } }, /neither Hostname nor/],
    [{ validation: { ...VALIDATION, subjectAltNames: [{ type: 'URI', uri: 'x' }] } }, /not a URI/],
    [{ validation: { ...VALIDATION, mode: 'None' } }, /mode/],
    [{ options: { 'example.com/ciphers': 'x' } }, /options has .*ciphers/],
  ]
  for (const [choices, why] of flawed) {
    const shop = start()
    shop.translator.upsert('BackendTLSPolicy', kubePolicy('p', choices))
    t.match(shop.at(), why)
    t.strictSame(shop.conditions('p'), ['shop/way: Accepted=False/Invalid ResolvedRefs=True'])
    t.match(shop.message('p', 'Accepted'), /calls of its Services are answered with 503: /)
  }
  const [key, reason] = [`${CATALOG}:80`, 'x: y']
  t.match(unreadableBackendTls(key, reason), { service: CATALOG, port: 80, fault: /x: y/ })
  t.end()
})

void t.test('of several at a place the oldest counts, and that of a port before all', (t) => {
  const shop = start()
  const named = (hostname: string) => ({ validation: { ...VALIDATION, hostname } })
  const old = { createdAt: '2025-01-01T00:00:00Z' }
  const ports = [
    { name: 'http', port: 80 },
    { name: 'admin', port: 9000 },
  ]
  const labels = { 'istio.io/use-waypoint': 'way' }
  shop.translator.upsert('Service', kubeService('catalog', { ports }, { labels }))
  shop.translator.upsert('BackendTLSPolicy', kubePolicy('b', named('b.example')))
  shop.translator.upsert('BackendTLSPolicy', kubePolicy('a', named('a.example')))
  shop.translator.upsert('BackendTLSPolicy', kubePolicy('z', { ...named('z.example'), ...old }))
  const targets = [service('catalog', { sectionName: 'admin' })]
  shop.translator.upsert('BackendTLSPolicy', kubePolicy('port', { ...named('p.example'), targets }))
  t.equal(shop.at(), 'shop/z z.example PEM')
  t.equal(shop.at(CATALOG, 9000), 'shop/port p.example PEM')
  const lost = ['shop/way: Accepted=False/Conflicted ResolvedRefs=True']
  t.strictSame([shop.conditions('a'), shop.conditions('b')], [lost, lost])
  t.strictSame(shop.conditions('port'), ['shop/way: Accepted=True ResolvedRefs=True'])
  shop.translator.delete('BackendTLSPolicy', 'shop', 'z')
  t.equal(shop.at(), 'shop/a a.example PEM', 'then the first by name')

  const nowhere = [service('catalog', { sectionName: 'metrics' })]
  shop.translator.upsert('BackendTLSPolicy', kubePolicy('lost', { targets: nowhere }))
  t.strictSame(shop.conditions('lost'), [
    'shop/way: Accepted=False/TargetNotFound ResolvedRefs=True',
  ])
  t.equal(shop.message('lost', 'Accepted'), 'Service shop/catalog has no port named metrics')
  t.end()
})

void t.test('it is told of each waypoint that calls its Service, and of no other', (t) => {
  const shop = start()
  const targets = [service('catalog-v1')]
  shop.translator.upsert('BackendTLSPolicy', kubePolicy('p', { targets }))
  t.strictSame(shop.conditions('p'), [], 'nobody calls it for a client')
  const rules = [{ backendRefs: [backend('catalog-v1')] }]
  shop.translator.upsert('HTTPRoute', kubeRoute('r', rules))
  t.strictSame(shop.conditions('p'), ['shop/way: Accepted=True ResolvedRefs=True'])
  const theirs = { ancestorRef: { name: 'edge' }, controllerName: 'example.com/edge' }
  const ancestors = [theirs]
  shop.translator.upsert('BackendTLSPolicy', kubePolicy('p', { targets, status: { ancestors } }))
  const status = shop.statusOf('p')
  const wanted = status && wantedAncestors(status, NOW)
  t.strictSame(wanted?.[0], theirs, "others' entries stay")
  t.match(wanted?.[1], {
    ancestorRef: { kind: 'Gateway', namespace: 'shop', name: 'way' },
    controllerName: 'ambit.io/waypoint-controller',
    conditions: [
      { type: 'Accepted', status: 'True', observedGeneration: 1 },
      { type: 'ResolvedRefs', status: 'True' },
    ],
  })
  const written = { ancestors: wanted }
  shop.translator.upsert('BackendTLSPolicy', kubePolicy('p', { targets, status: written }))
  const again = shop.statusOf('p')
  t.equal(again && wantedAncestors(again, NOW), undefined, 'nothing is left to be said')
  shop.translator.delete('HTTPRoute', 'shop', 'r')
  const gone = shop.statusOf('p')
  t.strictSame(gone && wantedAncestors(gone, NOW), [theirs])
  t.end()
})

void t.test('it is told of the canary of a waypoint, too', (t) => {
  const shop = start()
  const { translator } = shop
  translator.upsert('Gateway', waypoint('next'))
  const labels = { 'istio.io/use-waypoint': 'way', 'istio.io/use-waypoint-canary': 'next' }
  const both = [
    'shop/next: Accepted=True ResolvedRefs=True',
    'shop/way: Accepted=True ResolvedRefs=True',
  ]
  translator.upsert('BackendTLSPolicy', kubePolicy('p'))
  translator.upsert('Service', kubeService('catalog', {}, { labels }))
  t.strictSame(shop.conditions('p'), both)
  const targets = [service('catalog-v1')]
  translator.upsert('BackendTLSPolicy', kubePolicy('of-v1', { targets }))
  t.strictSame(shop.conditions('of-v1'), [])
  translator.upsert('HTTPRoute', kubeRoute('r', [{ backendRefs: [backend('catalog-v1')] }]))
  t.strictSame(shop.conditions('of-v1'), both, 'both follow the routes')
  translator.delete('Gateway', 'shop', 'next')
  t.strictSame(shop.conditions('p'), both.slice(1), 'one that is not there calls nobody')
  t.end()
})

void t.test('the policy that the guide prints is taken as it is', (t) => {
  const shop = start()
  const object = parse(printed('backend-tls')) as Policy
  shop.translator.upsert('ConfigMap', bundle('catalog-authority', { 'ca.crt': PEM }))
  shop.translator.upsert('BackendTLSPolicy', object)
  t.equal(shop.at(V1), undefined)
  t.equal(shop.at('shop/catalog-v2.shop.svc.cluster.local'), 'shop/catalog-v2 catalog.example PEM')
  t.end()
})
