// SPDX-License-Identifier: Apache-2.0
// Which routes count at a Service and in which order, where they may send requests, and what their statuses say of it.

import fc from 'fast-check'
import t from 'tap'
import type { InputKind, InputObjects } from '../../controller/core/input.ts'
import { type Attachment, attachmentOf } from '../../controller/gateway-api/route-parents.ts'
import { routeTables, type AttachedRoute } from '../../controller/gateway-api/route-tables.ts'
import type { ObjectKey } from '../../controller/core/origin.ts'
import { type RouteStatus, wantedParents } from '../../controller/status/route-status.ts'
import { spiffeId } from '../../mesh/identity/spiffe.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { kubeService, startTranslator } from '../core/objects.ts'
import { gatewayClass, waypoint } from './gateway-objects.ts'
import {
  backend,
  CATALOG,
  kubeGrant,
  kubeRoute,
  serviceParent,
  startShop,
} from './route-objects.ts'

const UNBOUND = 'ResolvedWaypoints=False/MissingUseWaypointLabel'
const NOW = new Date('2026-02-01T00:00:00.5Z')

const toV1 = [{ backendRefs: [backend('catalog-v1')] }]
const namesOf = (rules: ReturnType<ReturnType<typeof startShop>['rules']>) =>
  rules?.map(({ route }) => `${route.kind} ${route.namespace}/${route.name} ${route.rule}`)

void t.test('of equals the oldest route counts first, then namespace and name, then place', (t) => {
  const shop = startShop()
  const young = { createdAt: '2026-03-01T00:00:00Z' }
  shop.translator.upsert('HTTPRoute', kubeRoute('b', [...toV1, { name: 'last' }]))
  shop.translator.upsert('HTTPRoute', kubeRoute('a', toV1, young))
  shop.translator.upsert('HTTPRoute', kubeRoute('c', toV1))
  t.same(namesOf(shop.rules()), [
    'HTTPRoute shop/b 0',
    'HTTPRoute shop/b last',
    'HTTPRoute shop/c 0',
    'HTTPRoute shop/a 0',
  ])
  for (const name of ['a', 'b', 'c']) shop.translator.delete('HTTPRoute', 'shop', name)
  t.equal(shop.rules(), undefined)
  t.end()
})

void t.test('where a Service has GRPCRoutes no HTTPRoute counts, port by port', (t) => {
  const shop = startShop()
  const ports = [
    { name: 'http', port: 80 },
    { name: 'grpc', port: 7070 },
  ]
  shop.translator.upsert('Service', kubeService('catalog', { ports }))
  const at = (port: number) => ({ parents: [serviceParent('catalog', { port })] })
  const old = { createdAt: '2025-01-01T00:00:00Z' }
  shop.translator.upsert('HTTPRoute', kubeRoute('all', toV1, old))
  shop.translator.upsert('HTTPRoute', kubeRoute('calls', toV1, { ...at(7070), ...old }))
  shop.translator.upsert('GRPCRoute', kubeRoute('echo', toV1, at(7070)))
  t.same(namesOf(shop.rules(7070)), ['GRPCRoute shop/echo 0'], 'though the others are older')
  t.same(namesOf(shop.rules(80)), ['HTTPRoute shop/all 0'])
  const conflicted = `catalog: Accepted=False/Conflicted ResolvedRefs=True ${UNBOUND}`
  const accepted = `catalog: Accepted=True ResolvedRefs=True ${UNBOUND}`
  t.same(shop.conditions('shop/calls'), [conflicted])
  t.same(shop.conditions('shop/all'), [accepted], 'it counts at the other ports')
  t.same(shop.conditions('shop/echo'), [accepted])

  shop.translator.upsert('GRPCRoute', kubeRoute('echo', toV1))
  t.same(namesOf(shop.rules(80)), ['GRPCRoute shop/echo 0'])
  t.same(shop.conditions('shop/all'), [conflicted])
  shop.translator.delete('GRPCRoute', 'shop', 'echo')
  t.same(namesOf(shop.rules(7070)), ['HTTPRoute shop/all 0', 'HTTPRoute shop/calls 0'])
  t.same(shop.conditions('shop/calls'), [accepted])
  t.end()
})

void t.test('a parent with a port or its name is that port alone', (t) => {
  const shop = startShop()
  const ports = [
    { name: 'http', port: 80 },
    { name: 'admin', port: 9000 },
  ]
  shop.translator.upsert('Service', kubeService('catalog', { ports }))
  const at = (more: object) => ({ parents: [serviceParent('catalog', { ...more })] })
  shop.translator.upsert('HTTPRoute', kubeRoute('all', toV1))
  shop.translator.upsert('HTTPRoute', kubeRoute('by-port', toV1, at({ port: 9000 })))
  shop.translator.upsert('HTTPRoute', kubeRoute('by-name', toV1, at({ sectionName: 'admin' })))
  shop.translator.upsert(
    'HTTPRoute',
    kubeRoute('torn', toV1, at({ port: 80, sectionName: 'admin' })),
  )
  shop.translator.upsert('HTTPRoute', kubeRoute('lost', toV1, at({ port: 81 })))
  t.same(namesOf(shop.rules(80)), ['HTTPRoute shop/all 0'])
  t.same(
    namesOf(shop.rules(9000)),
    ['HTTPRoute shop/all 0', 'HTTPRoute shop/by-name 0', 'HTTPRoute shop/by-port 0'],
    'what is for all ports is for this one, too',
  )
  const lost = 'catalog: Accepted=False/NoMatchingParent ResolvedRefs=True'
  t.same(shop.conditions('shop/lost'), [`${lost} ResolvedWaypoints=False/NoMatchingParent`])
  t.equal(shop.message('shop/lost', 'Accepted'), 'Service shop/catalog has not port 81')
  t.equal(
    shop.message('shop/torn', 'Accepted'),
    'Service shop/catalog has not port 80 that is a port named admin',
  )
  t.end()
})

void t.test('a route that names a waypoint as its parent is told to name its Services', (t) => {
  const shop = startShop()
  const gateway = (name: string, more: object = {}): Record<string, unknown> => ({ name, ...more })
  const rules = [{ backendRefs: [backend('catalog-v1')] }]
  const parents = [gateway('way'), gateway('edge'), gateway('way', { sectionName: 'mesh' })]
  shop.translator.upsert('HTTPRoute', kubeRoute('r', rules, { parents }))
  t.strictSame(shop.conditions('shop/r'), [], 'nobody knows whose it is')
  shop.translator.upsert('GatewayClass', gatewayClass())
  shop.translator.upsert('GatewayClass', gatewayClass('theirs', 'example.com/edge'))
  shop.translator.upsert('Gateway', waypoint('way'))
  shop.translator.upsert('Gateway', waypoint('edge', { spec: { gatewayClassName: 'theirs' } }))
  const refused = 'way: Accepted=False/NoMatchingParent ResolvedRefs=True'
  t.strictSame(shop.conditions('shop/r'), [refused, refused], "another's Gateway is another's")
  t.match(
    shop.message('shop/r', 'Accepted'),
    /^Gateway shop\/way is a waypoint, .* name those as parents$/,
  )
  t.equal(shop.rules(), undefined, 'and it counts nowhere')
  const both = [serviceParent('catalog'), gateway('way')]
  shop.translator.upsert('HTTPRoute', kubeRoute('r', rules, { parents: both }))
  t.match(shop.conditions('shop/r'), [/^catalog: Accepted=True/, refused])
  t.equal(shop.rules()?.length, 1)
  shop.translator.delete('Gateway', 'shop', 'way')
  t.match(shop.conditions('shop/r'), [/^catalog: Accepted=True/])
  t.end()
})

void t.test('a route has several parents, each with an answer of its own', (t) => {
  const shop = startShop()
  const parents = [
    serviceParent('catalog'),
    { name: 'edge', kind: 'Gateway' },
    serviceParent('nowhere'),
    serviceParent('catalog-v2', { port: 80 }),
  ]
  shop.translator.upsert('HTTPRoute', kubeRoute('several', toV1, { parents }))
  t.same(shop.conditions('shop/several'), [
    `catalog: Accepted=True ResolvedRefs=True ${UNBOUND}`,
    'nowhere: Accepted=False/NoMatchingParent ResolvedRefs=True ResolvedWaypoints=False/NoMatchingParent',
    `catalog-v2: Accepted=True ResolvedRefs=True ${UNBOUND}`,
  ])
  const v2 = 'shop/catalog-v2.shop.svc.cluster.local'
  t.same(namesOf(shop.state.httpRoutes.find(v2, 80, undefined)?.rules), [
    'HTTPRoute shop/several 0',
  ])
  t.equal(shop.state.httpRoutes.find(v2, 81, undefined), undefined)

  shop.translator.upsert('Service', kubeService('nowhere'))
  t.match(shop.conditions('shop/several')[1], /^nowhere: Accepted=True/)
  t.end()
})

void t.test('a backend that cannot be used keeps its share, and says why', (t) => {
  const shop = startShop()
  const refs = [
    backend('catalog-v1', { weight: 3 }),
    backend('gone', { weight: 1 }),
    { name: 'catalog-v2', port: 81 },
    { name: 'catalog-v2' },
    { name: 'bucket', group: 'storage.example', kind: 'Bucket' },
    backend('catalog', { namespace: 'other' }),
  ]
  shop.translator.upsert('HTTPRoute', kubeRoute('r', [{ backendRefs: refs }]))
  const [rule] = shop.rules() ?? []
  t.same(
    rule?.backends.map(({ target, weight }) =>
      target.kind === 'service' ? `${target.service}:${target.port} ${weight}` : target.reason,
    ),
    [
      'shop/catalog-v1.shop.svc.cluster.local:80 3',
      'spec.rules[0].backendRefs[1] names Service "shop/gone", which is not there or is a mere name',
      'spec.rules[0].backendRefs[2] names Service "shop/catalog-v2", which has no TCP port 81',
      'spec.rules[0].backendRefs[3] names Service "shop/catalog-v2" without saying which of its ports',
      'spec.rules[0].backendRefs[4] names Bucket.storage.example "shop/bucket", and only Services can be backends',
      'spec.rules[0].backendRefs[5] names Service "other/catalog", and no ReferenceGrant there lets HTTPRoutes of namespace shop refer to it',
    ],
  )
  t.match(shop.conditions('shop/r'), [/Accepted=True ResolvedRefs=False\/BackendNotFound/])
  t.ok(shop.message('shop/r', 'ResolvedRefs')?.includes('shop/gone'))

  shop.translator.upsert('HTTPRoute', kubeRoute('r', [{ backendRefs: [refs[4]] }]))
  t.match(shop.conditions('shop/r'), [/ResolvedRefs=False\/InvalidKind/])
  shop.translator.upsert('HTTPRoute', kubeRoute('r', [{ backendRefs: [refs[1]] }]))
  shop.translator.upsert('Service', kubeService('gone'))
  t.match(shop.conditions('shop/r'), [/ResolvedRefs=True/], 'a Service may come after its route')
  t.end()
})

void t.test(
  "another namespace's Service is a backend by a grant, and as long as it is granted",
  (t) => {
    const shop = startShop()
    const own = { namespace: 'front', parents: [serviceParent('web')] }
    shop.translator.upsert('Service', kubeService('web', {}, { namespace: 'front' }))
    const route = kubeRoute(
      'r',
      [{ backendRefs: [backend('catalog', { namespace: 'shop' })] }],
      own,
    )
    shop.translator.upsert('HTTPRoute', route)
    const is = (reason: string, why: string) =>
      t.match(shop.conditions('front/r')[0], new RegExp(`ResolvedRefs=${reason}`), why)
    is('False/RefNotPermitted', 'without a grant')
    shop.translator.upsert('ReferenceGrant', kubeGrant('g', 'back'))
    is('False/RefNotPermitted', 'a grant for another namespace')
    shop.translator.upsert('ReferenceGrant', kubeGrant('g', 'front', { name: 'cart' }))
    is('False/RefNotPermitted', 'a grant of another Service')
    shop.translator.upsert('ReferenceGrant', kubeGrant('g', 'front', { name: 5 }))
    is('False/RefNotPermitted', 'a grant of which nobody can tell what it grants')
    shop.translator.upsert('ReferenceGrant', kubeGrant('g', 'front', { name: 'catalog' }))
    is('True', 'a grant of this Service')
    shop.translator.upsert('ReferenceGrant', kubeGrant('g', 'front'))
    is('True', 'a grant of all Services')
    shop.translator.upsert('GRPCRoute', {
      ...route,
      metadata: { ...route.metadata, name: 'calls' },
    })
    t.match(
      shop.conditions('front/calls'),
      [/RefNotPermitted/],
      'a grant for another kind of route',
    )
    shop.translator.delete('ReferenceGrant', 'shop', 'g')
    is('False/RefNotPermitted', 'a grant that was taken back')
    t.end()
  },
)

void t.test("a route of another namespace is for that namespace's clients", (t) => {
  const shop = startShop()
  const id = (namespace: string) =>
    spiffeId({ trustDomain: 'cluster.local', namespace, serviceAccount: 'a' })
  const parents = [serviceParent('catalog', { namespace: 'shop' })]
  const toParent = [{ backendRefs: [backend('catalog', { namespace: 'shop' })] }]
  const consumers = { namespace: 'front', parents }
  shop.translator.upsert('HTTPRoute', kubeRoute('theirs', toParent, consumers))
  t.equal(shop.rules(80, id('shop')), undefined)
  t.equal(shop.rules(80), undefined, 'who has not proved where it is from has no routes of its own')
  t.same(namesOf(shop.rules(80, id('front'))), ['HTTPRoute front/theirs 0'])
  t.same(shop.conditions('front/theirs'), [`catalog: Accepted=True ResolvedRefs=True ${UNBOUND}`])

  shop.translator.upsert('HTTPRoute', kubeRoute('owners', toV1))
  t.same(namesOf(shop.rules(80, id('front'))), ['HTTPRoute front/theirs 0'], 'its own alone')
  t.same(namesOf(shop.rules(80, id('back'))), ['HTTPRoute shop/owners 0'])
  const ofPort = { namespace: 'front', parents: [{ ...parents[0], port: 80 }] }
  shop.translator.upsert('HTTPRoute', kubeRoute('theirs', toParent, ofPort))
  t.same(namesOf(shop.rules(81, id('front'))), ['HTTPRoute shop/owners 0'], 'at other ports')
  shop.translator.upsert('GRPCRoute', kubeRoute('calls', toParent, consumers))
  t.same(namesOf(shop.rules(80, id('back'))), ['HTTPRoute shop/owners 0'])
  t.same(namesOf(shop.rules(80, id('front'))), ['GRPCRoute front/calls 0'])

  shop.translator.delete('GRPCRoute', 'front', 'calls')
  shop.translator.delete('HTTPRoute', 'front', 'theirs')
  t.same(namesOf(shop.rules(80, id('front'))), ['HTTPRoute shop/owners 0'])
  t.end()
})

void t.test("whoever runs a Service's waypoint makes routes for all of its clients", (t) => {
  const parent = { written: {}, namespace: 'shop', name: 'catalog', port: undefined }
  const here = { ...parent, sectionName: undefined }
  const service = {
    ...{ cluster: 'c', namespace: 'shop', name: 'catalog', hosts: [], createdAt: '', ports: [] },
  } as unknown as Parameters<typeof attachmentOf>[2]
  const waypoint = (namespace: string) =>
    ({ kind: 'asked', namespace, name: 'w', flaw: undefined, canary: undefined }) as const
  const is = (
    route: string,
    at: Parameters<typeof attachmentOf>[3],
    wanted: Partial<Extract<Attachment, { kind: 'attached' }>> | Attachment,
  ) => t.match(attachmentOf(route, here, service, at), wanted)
  is('shop', { kind: 'none' }, { kind: 'attached', clients: undefined })
  is('shop', waypoint('infra'), { kind: 'attached', clients: undefined })
  is('infra', waypoint('infra'), { kind: 'attached', clients: undefined })
  is('front', waypoint('infra'), { kind: 'attached', clients: 'front' })
  is('front', { kind: 'none' }, { kind: 'attached', clients: 'front' })
  is('shop', { kind: 'foreign' }, { kind: 'foreign' })
  t.end()
})

void t.test('routes beyond what a resource has room for are left out, the youngest first', (t) => {
  const route = (name: string, bytes: number, rules: number): AttachedRoute => ({
    at: 'c/shop/catalog' as ObjectKey,
    port: undefined,
    clients: undefined,
    hostnames: [],
    kind: 'HTTPRoute',
    namespace: 'shop',
    name,
    createdAt: '',
    rules: new Array<AttachedRoute['rules'][number]>(rules),
    bytes,
  })
  const leftOut = (...routes: readonly AttachedRoute[]) =>
    routeTables(CATALOG, routes).flatMap(([, table]) => table.leftOut)
  t.same(leftOut(route('a', 1_900_000, 1), route('b', 50_000, 1)), [])
  t.same(leftOut(route('a', 1_900_000, 1), route('b', 200_000, 1), route('c', 1, 1)), [
    'HTTPRoute/shop/b',
    'HTTPRoute/shop/c',
  ])
  t.same(leftOut(route('a', 1, 9_999), route('b', 1, 2)), ['HTTPRoute/shop/b'])
  t.end()
})

const entry = (name: string, controllerName: string, more: object = {}) => ({
  parentRef: serviceParent(name),
  controllerName,
  conditions: [{ type: 'Accepted', status: 'True' }],
  ...more,
})

/** The status of a route whose status says this already. */
function statusOf(parents: readonly unknown[] | string, ...names: readonly string[]): RouteStatus {
  const shop = startShop()
  shop.translator.upsert(
    'HTTPRoute',
    kubeRoute('r', toV1, {
      parents: names.map((name) => serviceParent(name)),
      status: { parents },
    }),
  )
  const [status] = shop.routeStatuses('shop/r')
  if (status === undefined) throw new Error('it has a status')
  return status
}

void t.test(
  "other controllers' entries stay as they are, and ours come and go beside them",
  (t) => {
    const theirs = [entry('catalog', 'istio.io/gateway-controller'), 'what is no entry']
    const first = wantedParents(statusOf(theirs, 'catalog'), NOW)
    t.strictSame(first?.slice(0, 2), theirs)
    t.match(first?.[2], {
      parentRef: { group: '', kind: 'Service', name: 'catalog' },
      controllerName: 'ambit.io/waypoint-controller',
      conditions: [
        {
          type: 'Accepted',
          status: 'True',
          observedGeneration: 1,
          lastTransitionTime: '2026-02-01T00:00:00Z',
        },
        { type: 'ResolvedRefs' },
        { type: 'ResolvedWaypoints', status: 'False' },
      ],
    })
    t.equal(wantedParents(statusOf(first ?? [], 'catalog'), NOW), undefined, 'nothing to write')

    const spelled = entry('catalog', 'ambit.io/waypoint-controller', {
      parentRef: serviceParent('catalog', { namespace: 'shop' }),
      conditions: [
        { type: 'Accepted', status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z' },
        { type: 'PartiallyInvalid', status: 'True' },
        { type: 'their.io/Own', status: 'True' },
      ],
    })
    const [next, ...others] = wantedParents(statusOf([spelled], 'catalog'), NOW) ?? []
    t.same(others, [], 'a default that is written is the same parent')
    t.match(next, {
      conditions: [
        { type: 'their.io/Own' },
        { type: 'Accepted', lastTransitionTime: '2026-01-01T00:00:00Z' },
        { type: 'ResolvedRefs' },
        { type: 'ResolvedWaypoints' },
      ],
    })

    const gone = [...theirs, entry('catalog-v1', 'ambit.io/waypoint-controller')]
    t.strictSame(wantedParents(statusOf(gone), NOW), theirs, 'a parent that is named no more')
    t.equal(wantedParents(statusOf(theirs), NOW), undefined, 'a route that is none of ours')
    t.equal(
      wantedParents(statusOf(['x'.repeat(200_000)], 'catalog'), NOW),
      undefined,
      'what cannot be written again is not written over',
    )
    t.end()
  },
)

interface Event {
  readonly kind: InputKind
  readonly namespace: string
  readonly name: string
  readonly object: InputObjects[InputKind] | undefined
}

const pick = <T>(...values: readonly T[]) => fc.constantFrom(...values)
const SERVICES = ['catalog', 'catalog-v1', 'catalog-v2'] as const
const NAMESPACES = ['shop', 'front'] as const
const service = fc
  .record({ name: pick(...SERVICES), namespace: pick(...NAMESPACES), port: pick(80, 81) })
  .map(({ name, namespace, port }): Event => {
    const ports = [{ name: 'http', port, targetPort: 8080 }]
    return { kind: 'Service', namespace, name, object: kubeService(name, { ports }, { namespace }) }
  })
const reference = fc
  .record({ name: pick(...SERVICES), namespace: pick(undefined, ...NAMESPACES) })
  .map(({ name, namespace }) => (namespace === undefined ? { name } : { name, namespace }))
const route = fc
  .record({
    kind: pick<'HTTPRoute' | 'GRPCRoute'>('HTTPRoute', 'GRPCRoute'),
    name: pick('r1', 'r2', 'r3'),
    namespace: pick(...NAMESPACES),
    createdAt: pick('2026-01-01T00:00:00Z', '2026-02-01T00:00:00Z'),
    parents: fc.array(fc.tuple(reference, pick(undefined, 80)), { maxLength: 3 }),
    backends: fc.array(reference, { maxLength: 2 }),
    isOdd: fc.boolean(),
  })
  .map(({ kind, name, namespace, createdAt, parents, backends, isOdd }): Event => {
    const rules = [
      { backendRefs: backends.map((each) => ({ ...each, port: 80 })) },
      ...(isOdd ? [{ unknown: true }] : []),
    ]
    const refs = parents.map(([ref, port]) =>
      serviceParent(ref.name, { ...ref, ...(port === undefined ? {} : { port }) }),
    )
    const object = kubeRoute(name, rules, { namespace, createdAt, parents: refs })
    return { kind, namespace, name, object }
  })
const grant = pick('front', 'other').map(
  (from): Event => ({
    kind: 'ReferenceGrant',
    namespace: 'shop',
    name: 'g',
    object: kubeGrant('g', from),
  }),
)
const coming = fc.oneof(
  { weight: 3, arbitrary: service },
  { weight: 4, arbitrary: route },
  { weight: 1, arbitrary: grant },
)
const event = fc.oneof(
  { weight: 4, arbitrary: coming },
  { weight: 1, arbitrary: coming.map((each) => ({ ...each, object: undefined })) },
)

/** All that follows of routes. */
function outcome(state: MeshState, run: ReturnType<typeof startTranslator>) {
  const routes = state.httpRoutes
    .snapshot()
    .flatMap((change) => (change.kind === 'httpRoutes' ? [change.routes] : []))
    .sort((left, right) => (left.key < right.key ? -1 : 1))
  const statuses = NAMESPACES.flatMap((namespace) =>
    ['r1', 'r2', 'r3'].map((name) => run.routeStatuses(`${namespace}/${name}`)),
  )
  return { routes, statuses }
}

function feed({ translator }: ReturnType<typeof startTranslator>, each: Event): void {
  if (each.object === undefined) translator.delete(each.kind, each.namespace, each.name)
  else translator.upsert(each.kind, each.object)
}

void t.test('events in any order end where the same objects listed at once end', (t) => {
  let served = 0
  fc.assert(
    fc.property(
      fc.array(event, { minLength: 20, maxLength: 60 }),
      fc.nat(60),
      (events, listedAt) => {
        const live = startTranslator()
        for (const [index, each] of events.entries()) {
          if (index === listedAt) live.translator.complete()
          feed(live, each)
        }
        live.translator.complete()
        const last = new Map(
          events.map((each) => [`${each.kind} ${each.namespace} ${each.name}`, each]),
        )
        const listed = startTranslator()
        for (const each of [...last.values()].reverse()) feed(listed, each)
        listed.translator.complete()
        const found = outcome(live.state, live)
        served += found.routes.length
        t.strictSame(found, outcome(listed.state, listed))
      },
    ),
    { numRuns: 300 },
  )
  t.ok(served > 300, `${served} tables`)
  t.end()
})
