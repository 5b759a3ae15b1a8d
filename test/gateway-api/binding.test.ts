// SPDX-License-Identifier: Apache-2.0
// Who goes through which waypoint: what labels ask for, whom a waypoint takes, and what becomes of those whose waypoint is not there.

import t from 'tap'
import { bindingOf } from '../../controller/gateway-api/waypoint-binding.ts'
import { readWaypointUse } from '../../controller/gateway-api/waypoint-use.ts'
import { ObjectReader } from '../../controller/reading/object-reader.ts'
import type { GatewayAddress } from '../../mesh/model/gateway.ts'
import { kubePod, kubeService, startTranslator } from '../core/objects.ts'
import { podUid, serviceKey } from '../model/samples.ts'
import { gatewayClass, HBONE_LISTENER, waypoint } from './gateway-objects.ts'

const USE = 'istio.io/use-waypoint'
const USE_NAMESPACE = 'istio.io/use-waypoint-namespace'
const FOR = 'istio.io/waypoint-for'
const FAIL_OPEN = 'ambit.io/waypoint-fail-open'

const addressOf = (name: string, namespace = 'shop'): GatewayAddress => ({
  destination: {
    kind: 'hostname',
    namespace,
    hostname: `${name}.${namespace}.svc.cluster.local`,
  },
  hbonePort: 15008,
})

const namespace = (name: string, labels: Record<string, string> = {}, annotations = {}) => ({
  metadata: { name, labels, annotations },
})

/** A pod of a waypoint. */
const waypointPod = (name: string, isReady = true) =>
  kubePod(`${name}-1`, {
    labels: { 'gateway.networking.k8s.io/gateway-name': name },
    status: {
      phase: 'Running',
      podIPs: [{ ip: '10.244.0.9' }],
      conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }],
    },
  })

/** The shop, with a Service and a pod of it, and the class of waypoints. */
function shop(
  labels: Record<string, string> = {},
  choices: {
    readonly service?: Record<string, string>
    readonly pod?: Record<string, string>
    readonly annotations?: Record<string, string>
    readonly namespaceAnnotations?: Record<string, string>
  } = {},
) {
  const run = startTranslator()
  const { translator } = run
  const { service = {}, pod = {}, annotations = {}, namespaceAnnotations = {} } = choices
  translator.complete()
  translator.upsert('GatewayClass', gatewayClass())
  translator.upsert('Namespace', namespace('shop', labels, namespaceAnnotations))
  translator.upsert('Service', kubeService('catalog', {}, { labels: service, annotations }))
  translator.upsert(
    'Pod',
    kubePod('catalog-1', { labels: { app: 'catalog', ...pod }, annotations }),
  )
  return {
    ...run,
    service: () => run.service('catalog')?.waypoint,
    /** How many of a hundred connections go by each waypoint, where they are shared. */
    shares: () =>
      run
        .service('catalog')
        ?.weightedWaypoints.map(({ destination, weight }) => [destination, weight]),
    pod: () => run.pod('catalog-1')?.waypoint,
  }
}

void t.test('an object says itself which waypoint it uses, or its namespace does', async (t) => {
  const own = shop({ [USE]: 'theirs' }, { service: { [USE]: 'mine' } })
  for (const name of ['theirs', 'mine']) own.translator.upsert('Gateway', waypoint(name))
  t.strictSame(own.service(), addressOf('mine'))
  const inherited = shop({ [USE]: 'theirs' })
  inherited.translator.upsert('Gateway', waypoint('theirs'))
  t.strictSame(inherited.service(), addressOf('theirs'))
  const stopped = shop({ [USE]: 'theirs' }, { service: { [USE]: 'none' } })
  stopped.translator.upsert('Gateway', waypoint('theirs'))
  t.equal(stopped.service(), undefined, '"none" keeps it from that of its namespace')
  t.equal(shop().service(), undefined, 'nobody asks')
  const empty = shop({ [USE]: 'theirs' }, { service: { [USE]: '' } })
  t.strictSame(empty.service(), addressOf('theirs'))
  t.match(empty.problems, [{ kind: 'Service', field: `metadata.labels[${USE}]` }])
})

void t.test('what is told of before its namespace goes nowhere until that is known', async (t) => {
  const { translator, state } = startTranslator()
  translator.complete()
  const put = (labels: Record<string, string> = {}, annotations = {}) => {
    const metadata = { namespace: 'new', labels, annotations }
    translator.upsert('Service', kubeService('catalog', {}, metadata))
    translator.upsert('Pod', kubePod('catalog-1', metadata))
  }
  const bindings = () => [
    state.service(serviceKey('new', 'catalog'))?.waypoint,
    state.workload(podUid('new', 'catalog-1'))?.waypoint,
  ]
  const nobody = {
    destination: { kind: 'hostname', namespace: 'new', hostname: 'namespace-not-known.invalid' },
    hbonePort: 15008,
  } as const
  const [open, refused] = [
    [undefined, undefined],
    [nobody, nobody],
  ]
  put()
  t.strictSame(bindings(), refused, 'its namespace may ask for a waypoint')
  put({ [USE]: 'mine' })
  t.strictSame(bindings(), [addressOf('mine', 'new'), addressOf('mine', 'new')], 'it asks itself')
  put({ [USE]: 'none' })
  t.strictSame(bindings(), open, 'it wants none, whatever its namespace says')
  put({}, { [FAIL_OPEN]: 'true' })
  t.strictSame(bindings(), open, 'it may pass')
  put({}, { [FAIL_OPEN]: 'false' })
  t.strictSame(bindings(), refused)
  translator.upsert('Namespace', namespace('new', { [USE]: 'w' }))
  t.strictSame(bindings(), [addressOf('w', 'new'), addressOf('w', 'new')])
  translator.upsert('Namespace', namespace('new'))
  t.strictSame(bindings(), open)
  translator.delete('Namespace', '', 'new')
  t.strictSame(bindings(), refused, 'its last word was another one')
})

void t.test('a waypoint takes the traffic that it is for, and no other', async (t) => {
  const { translator, service, pod } = shop({ [USE]: 'w' })
  const taken = (traffic: string | undefined) => {
    translator.upsert(
      'Gateway',
      waypoint('w', traffic === undefined ? {} : { labels: { [FOR]: traffic } }),
    )
    return { service: service() !== undefined, pod: pod() !== undefined }
  }
  t.strictSame(taken(undefined), { service: true, pod: false }, 'that to Services, if nobody says')
  t.strictSame(taken('service'), { service: true, pod: false })
  t.strictSame(taken('workload'), { service: false, pod: true })
  t.strictSame(taken('all'), { service: true, pod: true })
  t.strictSame(taken('none'), { service: false, pod: false })
  t.strictSame(
    taken('most'),
    { service: true, pod: true },
    'nothing goes past what nobody understands',
  )
  const labels = { [FOR]: 'workload' }
  translator.upsert('GatewayClass', gatewayClass('ambit-waypoint', undefined, { labels }))
  t.strictSame(taken(undefined), { service: false, pod: true }, 'as its class says')
})

void t.test('who is bound to a waypoint that is not there goes nowhere', async (t) => {
  const { translator, service, pod } = shop({ [USE]: 'w' })
  t.strictSame(service(), addressOf('w'), 'no such Gateway')
  t.strictSame(pod(), addressOf('w'), 'nobody can tell what it would have been for')
  translator.upsert('Gateway', waypoint('w', { spec: { gatewayClassName: 'nginx' } }))
  translator.upsert('GatewayClass', gatewayClass('nginx', 'nginx.org/gateway'))
  t.strictSame(service(), addressOf('w'), 'a Gateway, but no waypoint')
  translator.upsert('Gateway', waypoint('w', { spec: { listeners: [] } }))
  t.strictSame(service(), addressOf('w'), 'a waypoint without its listener')
  translator.upsert('Gateway', waypoint('w'))
  t.strictSame(service(), addressOf('w'), 'none of its pods is ready')
  t.equal(pod(), undefined)
  translator.delete('Gateway', 'shop', 'w')
  t.strictSame(pod(), addressOf('w'))
})

void t.test('who says so passes a waypoint that is not ready', async (t) => {
  const open = { [FAIL_OPEN]: 'true' }
  for (const choices of [{ annotations: open }, { namespaceAnnotations: open }]) {
    const { translator, service, pod } = shop({ [USE]: 'w' }, choices)
    t.equal(service(), undefined)
    t.equal(pod(), undefined)
    translator.upsert('Gateway', waypoint('w', { labels: { [FOR]: 'all' } }))
    translator.upsert('Pod', waypointPod('w', false))
    t.equal(service(), undefined)
    translator.upsert('Pod', waypointPod('w'))
    t.strictSame(service(), addressOf('w'))
    t.strictSame(pod(), addressOf('w'))
    translator.delete('Pod', 'shop', 'w-1')
    t.equal(pod(), undefined)
  }
  const closed = { annotations: { [FAIL_OPEN]: 'false' }, namespaceAnnotations: open }
  t.strictSame(shop({ [USE]: 'w' }, closed).service(), addressOf('w'), "one's own word counts")
  const odd = shop({ [USE]: 'w' }, { annotations: { [FAIL_OPEN]: 'yes' } })
  t.strictSame(odd.service(), addressOf('w'))
  t.match(odd.problems, [{ reason: /neither true nor false/ }, {}])
})

void t.test('a waypoint of another namespace takes whom its listener admits', async (t) => {
  const use = { [USE]: 'w', [USE_NAMESPACE]: 'infra' }
  const { translator, service } = shop({ ...use, team: 'red' })
  const denied = {
    destination: { kind: 'hostname', namespace: 'infra', hostname: 'attachment-denied.invalid' },
    hbonePort: 15008,
  }
  const admitting = (namespaces?: object) => {
    translator.upsert('Namespace', namespace('infra'))
    const allowedRoutes = namespaces === undefined ? {} : { allowedRoutes: { namespaces } }
    translator.upsert('Gateway', waypoint('w', { namespace: 'infra', ...allowedRoutes }))
    return service()
  }
  const bound = addressOf('w', 'infra')
  t.strictSame(admitting(), denied, 'only its own, if it does not say')
  t.strictSame(admitting({ from: 'Same' }), denied)
  t.strictSame(admitting({ from: 'All' }), bound)
  t.strictSame(admitting({ from: 'None' }), denied)
  t.strictSame(admitting({ from: 'Everybody' }), denied)
  const selector = (matchLabels: unknown) => ({ from: 'Selector', selector: { matchLabels } })
  t.strictSame(admitting(selector({ team: 'red' })), bound)
  t.strictSame(admitting(selector({ team: 'blue' })), denied)
  t.strictSame(admitting(selector('red')), denied)
  t.strictSame(admitting({ from: 'Selector' }), denied)
  admitting(selector({ team: 'red' }))
  translator.upsert('Namespace', namespace('shop', use))
  t.strictSame(service(), denied, 'it is no longer of the team')
})

const CANARY = 'istio.io/use-waypoint-canary'
const CANARY_NAMESPACE = 'istio.io/use-waypoint-canary-namespace'
const WEIGHT = 'istio.io/use-waypoint-canary-weight'

void t.test('a canary takes its share beside the waypoint', async (t) => {
  const own = shop({}, { service: { [USE]: 'w', [CANARY]: 'c' }, annotations: { [WEIGHT]: '5' } })
  t.strictSame(own.shares(), [], 'none while its waypoint is not there')
  own.translator.upsert('Gateway', waypoint('w'))
  t.strictSame(own.shares(), [], 'nor while the canary is not')
  own.translator.upsert('Gateway', waypoint('c'))
  const shared = (weight: number) => [
    [addressOf('w'), 100 - weight],
    [addressOf('c'), weight],
  ]
  t.strictSame(own.shares(), shared(5))
  t.strictSame(own.service(), addressOf('w'), 'for who knows nothing of canaries')
  t.equal(own.pod(), undefined)
  own.translator.upsert('Gateway', waypoint('c', { labels: { [FOR]: 'workload' } }))
  t.strictSame(own.shares(), [], 'it is not for Services')
  own.translator.upsert('Gateway', waypoint('c'))
  own.translator.delete('Gateway', 'shop', 'w')
  t.strictSame(own.shares(), [], 'its waypoint went')
  t.strictSame(own.service(), addressOf('w'), 'and the canary opens no way past it')
})

void t.test('who asks about gateways at the edge is told what they do', async (t) => {
  const INGRESS = 'istio.io/ingress-use-waypoint'
  const messageOf = (service: Record<string, string>, around: Record<string, string> = {}) => {
    const use = (labels: Record<string, string>) =>
      readWaypointUse(
        new ObjectReader('Service', {}),
        'shop',
        new Map(Object.entries(labels)),
        new Map(),
        { cluster: 'c', clusterDomain: 'cluster.local' },
      )
    return bindingOf({
      target: 'service',
      own: use(service),
      inherited: use(around),
      namespace: 'shop',
      namespaceLabels: undefined,
      waypointOf: ({ namespace, name }) => {
        return { namespace, name, traffic: 'service', allowed: { kind: 'same' } }
      },
      podsOf: () => ({ ready: 1, all: 1 }),
    })?.message
  }
  t.equal(messageOf({ [USE]: 'w' }), 'its traffic goes through Gateway shop/w')
  t.match(messageOf({ [USE]: 'w', [INGRESS]: 'true' }), /shop\/w; gateways .* go through it as all/)
  t.match(
    messageOf({ [INGRESS]: 'false' }, { [USE]: 'w' }),
    /shop\/w; istio.io\/ingress-use-waypoint is "false", and is not followed: gateways/,
  )
  t.match(messageOf({}, { [USE]: 'w', [INGRESS]: 'true' }), /shop\/w; gateways/, 'of its namespace')
})

void t.test('a share is a whole number up to a hundred, or nothing', async (t) => {
  const shares = (annotations: Record<string, string>) => {
    const run = shop({}, { service: { [USE]: 'w', [CANARY]: 'c' }, annotations })
    for (const name of ['w', 'c']) run.translator.upsert('Gateway', waypoint(name))
    return run.shares()?.map(([, weight]) => weight)
  }
  t.strictSame(shares({}), [100, 0], 'nobody says: it is known, and takes nothing')
  t.strictSame(shares({ [WEIGHT]: '0' }), [100, 0])
  t.strictSame(shares({ [WEIGHT]: '100' }), [0, 100])
  for (const odd of ['101', '-1', '5%', '0.5', '', 'five', '1e1', ' 5'])
    t.strictSame(shares({ [WEIGHT]: odd }), [], JSON.stringify(odd))
})

void t.test('a canary is inherited with the waypoint that it is beside', async (t) => {
  const labels = { [USE]: 'w', [CANARY]: 'c' }
  const sharesOf = (...[of, choices]: Parameters<typeof shop>) => {
    const run = shop(of, choices)
    for (const name of ['w', 'c', 'd']) run.translator.upsert('Gateway', waypoint(name))
    return run.shares()
  }
  const tenth = { namespaceAnnotations: { [WEIGHT]: '10' } }
  t.strictSame(sharesOf(labels, tenth), [
    [addressOf('w'), 90],
    [addressOf('c'), 10],
  ])
  t.strictSame(
    sharesOf(labels, { ...tenth, service: { [USE]: 'd' } }),
    [],
    "who names a waypoint himself has not his namespace's canary",
  )
  t.strictSame(
    sharesOf(labels, { ...tenth, service: { [CANARY]: 'd' } }),
    [
      [addressOf('w'), 90],
      [addressOf('d'), 10],
    ],
    'one of his own',
  )
  t.strictSame(
    sharesOf(labels, { ...tenth, annotations: { [WEIGHT]: '50' } })?.map(([, weight]) => weight),
    [50, 50],
    'a share of his own',
  )
  t.strictSame(sharesOf(labels, { ...tenth, service: { [CANARY]: 'none' } }), [])
  t.strictSame(sharesOf({ [USE]: 'w', [CANARY]: 'w' }, tenth), [], 'it is the same')
  const elsewhere = shop({ ...labels, [CANARY_NAMESPACE]: 'infra' }, tenth)
  elsewhere.translator.upsert('Gateway', waypoint('w'))
  const there = { namespace: 'infra' }
  elsewhere.translator.upsert('Gateway', waypoint('c', there))
  t.strictSame(elsewhere.shares(), [], 'its listener does not admit the shop')
  elsewhere.translator.upsert(
    'Gateway',
    waypoint('c', { ...there, allowedRoutes: { namespaces: { from: 'All' } } }),
  )
  t.strictSame(elsewhere.shares()?.at(1), [addressOf('c', 'infra'), 10])
})

void t.test('who may pass a waypoint that is not ready has no canary meanwhile', async (t) => {
  const { translator, service, shares } = shop(
    { [USE]: 'w', [CANARY]: 'c' },
    { namespaceAnnotations: { [WEIGHT]: '10', [FAIL_OPEN]: 'true' } },
  )
  for (const name of ['w', 'c']) translator.upsert('Gateway', waypoint(name))
  t.strictSame([service(), shares()], [undefined, []])
  translator.upsert('Pod', waypointPod('w'))
  t.strictSame(
    shares()?.map(([, weight]) => weight),
    [90, 10],
  )
})

void t.test("a waypoint's own Service and pods go through none", async (t) => {
  const { translator, ...run } = shop({ [USE]: 'w' })
  translator.upsert('Gateway', waypoint('w', { labels: { [FOR]: 'all' } }))
  translator.upsert('Service', kubeService('w'))
  translator.upsert('Pod', waypointPod('w'))
  t.strictSame(run.pod(), addressOf('w'))
  t.equal(run.state.service(serviceKey('shop', 'w'))?.waypoint, undefined)
  const pods = [...run.state.workloads()].filter(({ name }) => name === 'w-1')
  t.match(pods, [{ name: 'w-1', waypoint: undefined }])
  const disguised = { 'gateway.networking.k8s.io/gateway-name': 'nothing' }
  translator.upsert('Pod', kubePod('catalog-1', { labels: disguised }))
  t.strictSame(run.pod(), addressOf('w'), 'and nobody gets away by a name that is no waypoint')
})

void t.test('a listener that is not that of a waypoint makes none', async (t) => {
  const { translator, service } = shop({ [USE]: 'w' }, { annotations: { [FAIL_OPEN]: 'true' } })
  translator.upsert('Pod', waypointPod('w'))
  const others = [
    [{ ...HBONE_LISTENER, port: 80 }],
    [{ ...HBONE_LISTENER, protocol: 'HTTP' }],
    [HBONE_LISTENER, { name: 'web', port: 80, protocol: 'HTTP' }],
    'none',
    [null],
  ]
  for (const listeners of others) {
    translator.upsert('Gateway', waypoint('w', { spec: { listeners } }))
    t.equal(service(), undefined, JSON.stringify(listeners))
  }
  translator.upsert('Gateway', waypoint('w'))
  t.strictSame(service(), addressOf('w'))
})
