// SPDX-License-Identifier: Apache-2.0
// The outbound decision table where a waypoint is in it: rows 1, 2 and 7.

import t from 'tap'
import { LocalPods } from '../../agent/proxy/local-pod.ts'
import { decideOutbound, type OutboundDecision } from '../../agent/proxy/decision/outbound.ts'
import { trueTargets } from '../../agent/proxy/decision/true-targets.ts'
import { drawWaypoint } from '../../mesh/model/service-waypoints.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type {
  GatewayAddress,
  IpAddress,
  MeshChange,
  NodeKey,
  Service,
  SocketAddress,
  Workload,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import { inService, testPod, testService, workloadOf } from './loopback-world.ts'

const VIP = '10.96.0.20' as IpAddress
const WAYPOINT_VIP = '10.96.0.30' as IpAddress
const SERVER = { address: '10.244.2.3' as IpAddress, port: 8080 }
const client = testPod('frontend', '10.244.1.2' as IpAddress)
const server = testPod('catalog', SERVER.address)
const WAYPOINT_PODS = ['10.244.2.50', '10.244.2.51'].map((address, at) => ({
  ...testPod(`waypoint-${at}`, address as IpAddress),
  serviceAccount: 'waypoint',
}))
const WAYPOINT_IDENTITY = 'spiffe://cluster.local/ns/shop/sa/waypoint'
const HOSTNAME = 'waypoint.shop.svc.cluster.local'
const byHostname: GatewayAddress = {
  destination: { kind: 'hostname', namespace: 'shop', hostname: HOSTNAME },
  hbonePort: 15008,
}

const byAddress = (address: string, network = ''): GatewayAddress => ({
  destination: { kind: 'address', network, address: address as IpAddress },
  hbonePort: 15008,
})

const waypointService = testService('waypoint', WAYPOINT_VIP, {
  ports: [{ servicePort: 15008, targetPort: 15008, appProtocol: 'unknown' }],
})

interface World {
  readonly service?: Partial<Service>
  readonly server?: Partial<Workload>
  readonly waypoint?: Partial<Workload>
  /** None: nobody has told of it. */
  readonly waypointService?: Service | undefined
  readonly more?: readonly MeshChange[]
}

/** frontend calls catalog, 10.244.2.3:8080 behind 10.96.0.20:80; the waypoint has two pods, which speak HBONE and are not captured. */
function meshOf(world: World): MeshState {
  const service = testService('catalog', VIP, world.service)
  const mesh = new MeshState()
  const gateway = 'waypointService' in world ? world.waypointService : waypointService
  mesh.apply([
    { kind: 'service', service },
    ...(gateway === undefined ? [] : [{ kind: 'service' as const, service: gateway }]),
    { kind: 'workload', workload: workloadOf(client) },
    {
      kind: 'workload',
      workload: workloadOf(server, { ...inService(service, SERVER.port), ...world.server }),
    },
    ...WAYPOINT_PODS.map((pod) => ({
      kind: 'workload' as const,
      workload: workloadOf(pod, { ...ofWaypoint, tunnelProtocol: 'none', ...world.waypoint }),
    })),
    ...(world.more ?? []),
  ])
  return mesh
}

const ofWaypoint: Pick<Workload, 'services'> = {
  services: new Map([
    [
      waypointService.key,
      [{ servicePort: 15008, targetPort: 15008, appProtocol: 'unknown', family: 'any' }],
    ],
  ]),
}

interface Call {
  readonly to?: SocketAddress
  readonly from?: typeof client
  readonly exclude?: readonly WorkloadUid[]
  readonly localPods?: readonly (typeof client)[]
  /** What every draw gives; 0 if nobody says. */
  readonly drawn?: number
}

const TO_SERVICE: SocketAddress = { address: VIP, port: 80 }

function decideIn(mesh: MeshState, call: Call = {}): OutboundDecision {
  const { to = TO_SERVICE, from = client, exclude = [], drawn = 0 } = call
  const localPods = new LocalPods()
  for (const pod of call.localPods ?? []) localPods.add(pod)
  return decideOutbound({
    originalDestination: to,
    source: from,
    mesh,
    localPods,
    clientAddress: from.addresses[0] ?? to.address,
    random: () => drawn,
    exclude: new Set(exclude),
  })
}

const decide = (world: World, call: Call = {}): OutboundDecision => decideIn(meshOf(world), call)

void t.test('row 1: a bound Service is called by its waypoint, as it was asked for', (t) => {
  for (const waypoint of [byHostname, byAddress(WAYPOINT_VIP)])
    t.match(decide({ service: { waypoint } }), {
      kind: 'hbone',
      peer: { address: '10.244.2.50', port: 15008 },
      target: TO_SERVICE,
      expectedIdentities: [WAYPOINT_IDENTITY],
      service: { name: 'catalog' },
      workload: { name: 'waypoint-0' },
      endpoint: { endpoint: WAYPOINT_PODS[0]?.workloadUid, port: 15008 },
      waypoint: { name: 'shop/waypoint', of: 'service' },
    })
  t.match(
    decide({ service: { waypoint: byAddress('10.244.2.51') } }),
    { peer: { address: '10.244.2.51', port: 15008 }, expectedIdentities: [WAYPOINT_IDENTITY] },
    'named by the address of its pod',
  )
  t.match(
    decide({ service: { waypoint: { ...byHostname, hbonePort: 0 } } }),
    { peer: { port: 15008 } },
    'a port that nobody said is the usual one',
  )
  t.end()
})

void t.test('row 1: the waypoint itself decides where it listens, by its own Service', (t) => {
  const moved = testService('waypoint', WAYPOINT_VIP, {
    ports: [{ servicePort: 15009, targetPort: 16008, appProtocol: 'unknown' }],
  })
  const services: Workload['services'] = new Map([
    [moved.key, [{ servicePort: 15009, targetPort: 16008, appProtocol: 'unknown', family: 'any' }]],
  ])
  const waypoint = { ...byHostname, hbonePort: 15009 }
  t.match(decide({ service: { waypoint }, waypointService: moved, waypoint: { services } }), {
    peer: { address: '10.244.2.50', port: 16008 },
  })
  t.end()
})

void t.test(
  'row 1: a waypoint on the node of its caller is dialled as any other: it is no pod of the mesh',
  (t) => {
    const call = { localPods: [server, ...WAYPOINT_PODS] }
    t.match(decide({ service: { waypoint: byHostname } }, call), {
      kind: 'hbone',
      peer: { address: '10.244.2.50', port: 15008 },
    })
    t.end()
  },
)

void t.test(
  'row 1: an endpoint of the waypoint that failed is left out, until none is left',
  (t) => {
    const [first, second] = WAYPOINT_PODS.map(({ workloadUid }) => workloadUid)
    if (first === undefined || second === undefined) throw new Error('two of them')
    const bound = { service: { waypoint: byHostname } }
    t.match(decide(bound, { exclude: [first] }), { workload: { name: 'waypoint-1' } })
    t.match(decide(bound, { exclude: [first, second] }), {
      kind: 'deny',
      reason: 'waypointUnavailable',
    })
    t.end()
  },
)

/** Another waypoint, of one pod. */
const CANARY_POD = {
  ...testPod('canary-0', '10.244.2.60' as IpAddress),
  serviceAccount: 'canary',
}
const canaryService = testService('canary', '10.96.0.31' as IpAddress, {
  ports: [{ servicePort: 15008, targetPort: 15008, appProtocol: 'unknown' }],
})
const byCanary: GatewayAddress = {
  destination: { kind: 'hostname', namespace: 'shop', hostname: canaryService.hostname },
  hbonePort: 15008,
}
const CANARY: readonly MeshChange[] = [
  { kind: 'service', service: canaryService },
  {
    kind: 'workload',
    workload: workloadOf(CANARY_POD, {
      services: new Map([
        [
          canaryService.key,
          [{ servicePort: 15008, targetPort: 15008, appProtocol: 'unknown', family: 'any' }],
        ],
      ]),
      tunnelProtocol: 'none',
    }),
  },
]
const shared = (weight: number): Partial<Service> => ({
  waypoint: byHostname,
  weightedWaypoints: [
    { destination: byHostname, weight: 100 - weight },
    { destination: byCanary, weight },
  ],
})

void t.test('row 1: a canary takes its share of the connections', (t) => {
  const by = (weight: number, drawn: number): string | undefined => {
    const decision = decide({ service: shared(weight), more: CANARY }, { drawn })
    return decision.kind === 'hbone' ? decision.waypoint?.name : decision.kind
  }
  t.equal(by(10, 0.89), 'shop/waypoint')
  t.equal(by(10, 0.91), 'shop/canary')
  t.equal(by(0, 0.999), 'shop/waypoint', 'none')
  t.equal(by(100, 0), 'shop/canary', 'all')
  t.match(
    decide({ service: shared(100), more: CANARY }),
    { expectedIdentities: ['spiffe://cluster.local/ns/shop/sa/canary'] },
    'by its own identity',
  )
  t.end()
})

void t.test('row 1: what its canary cannot take the waypoint does, and not the other way', (t) => {
  const first = CANARY_POD.workloadUid
  t.match(
    decide({ service: shared(100) }),
    { kind: 'hbone', waypoint: { name: 'shop/waypoint' } },
    'nobody has told of it',
  )
  t.match(
    decide({ service: shared(100), more: CANARY }, { exclude: [first] }),
    { kind: 'hbone', waypoint: { name: 'shop/waypoint' } },
    'it has just failed',
  )
  const unready = { status: 'unhealthy' } as const
  t.match(
    decide({ service: shared(10), more: CANARY, waypoint: unready }),
    { kind: 'deny', reason: 'waypointUnavailable', message: /shop\/waypoint/ },
    'a tenth is not all',
  )
  t.match(
    decide({ service: shared(100), waypoint: unready }),
    { kind: 'deny', reason: 'waypointUnavailable', message: /shop\/waypoint/ },
    'and nothing goes past both',
  )
  t.end()
})

void t.test('row 1: neither of both waypoints is led back to the other', (t) => {
  for (const from of [CANARY_POD, WAYPOINT_PODS[0]])
    for (const weight of [0, 100])
      t.match(decide({ service: shared(weight), more: CANARY }, { ...(from && { from }) }), {
        kind: 'hbone',
        peer: { address: SERVER.address },
        waypoint: undefined,
      })
  t.end()
})

void t.test('a share is that of the sum of all weights', (t) => {
  const to = (name: string): GatewayAddress => ({
    destination: { kind: 'hostname', namespace: 'shop', hostname: name },
    hbonePort: 15008,
  })
  const [a, b, c] = [to('a'), to('b'), to('c')]
  const draw = (weights: readonly number[], at: number) =>
    drawWaypoint(
      {
        waypoint: c,
        weightedWaypoints: [a, b].map((destination, index) => ({
          destination,
          weight: weights[index] ?? 0,
        })),
      },
      () => at,
    )
  t.equal(draw([1, 3], 0.24), a)
  t.equal(draw([1, 3], 0.26), b)
  t.equal(draw([0, 0], 0.5), c, 'without any weight it is as if nobody shared')
  t.equal(
    drawWaypoint({ waypoint: undefined, weightedWaypoints: [] }, () => 0),
    undefined,
  )
  let taken = 0
  const DRAWS = 10_000
  for (let at = 0; at < DRAWS; at += 1) if (draw([90, 10], at / DRAWS) === b) taken += 1
  t.equal(taken, DRAWS / 10)
  t.end()
})

void t.test('row 1: an address that a waypoint need not know becomes the cluster IP', (t) => {
  const node = '172.30.0.5' as IpAddress
  const external = '203.0.113.7' as IpAddress
  const mesh = meshOf({
    service: {
      waypoint: byHostname,
      addresses: [external, VIP].map((address) => ({
        network: '',
        address,
        prefixLength: undefined,
      })),
      externalAddresses: [external],
      nodePorts: [{ nodePort: 30_080, servicePort: 80 }],
    },
    more: [
      {
        kind: 'node',
        node: {
          key: 'Kubernetes/node-a' as NodeKey,
          name: 'node-a',
          clusterId: 'Kubernetes',
          network: '',
          addresses: [node],
        },
      },
    ],
  })
  for (const to of [
    { address: node, port: 30_080 },
    { address: external, port: 80 },
  ])
    t.match(decideIn(mesh, { to }), { kind: 'hbone', target: TO_SERVICE }, `${to.address}`)
  t.end()
})

void t.test('rows 1 and 7: without its waypoint nothing bound is called, and it says why', (t) => {
  const unready = { services: new Map() }
  const what = `service shop/catalog.shop.svc.cluster.local is bound to`
  const denied = (world: World, message: string, call?: Call): void => {
    t.match(decide(world, call), { kind: 'deny', reason: 'waypointUnavailable', message }, message)
  }
  const service = { waypoint: byHostname }
  denied(
    { service, waypoint: unready },
    `${what} waypoint shop/waypoint, which has no ready endpoint`,
  )
  denied(
    { service, waypoint: { status: 'unhealthy' } },
    `${what} waypoint shop/waypoint, which has no ready endpoint`,
  )
  denied(
    { service, waypointService: undefined },
    `${what} waypoint shop/waypoint, which is not known`,
  )
  denied(
    { service: { waypoint: byAddress('10.244.9.9') } },
    `${what} waypoint 10.244.9.9, which is not known`,
  )
  denied(
    { service: { waypoint: byAddress(WAYPOINT_VIP, 'elsewhere') } },
    `${what} waypoint elsewhere/10.96.0.30, which is not known`,
  )
  denied(
    { service, waypoint: { network: 'elsewhere' } },
    `${what} waypoint shop/waypoint, which has no ready endpoint`,
  )
  denied(
    { server: { waypoint: byHostname }, waypoint: unready },
    `workload ${server.workloadUid} is bound to waypoint shop/waypoint, which has no ready endpoint`,
    { to: SERVER },
  )
  t.end()
})

void t.test('row 1: an address that others may claim names no waypoint', (t) => {
  const claimed = '203.0.113.9' as IpAddress
  const taker = testService('taker', claimed, {
    externalAddresses: [claimed],
    ports: [{ servicePort: 15008, targetPort: 15008, appProtocol: 'unknown' }],
  })
  const service = { waypoint: byAddress(claimed) }
  t.match(decide({ service, more: [{ kind: 'service', service: taker }] }), {
    kind: 'deny',
    reason: 'waypointUnavailable',
  })
  t.end()
})

void t.test('row 7: a bound workload is called by its waypoint, by whatever address', (t) => {
  const bound = { server: { waypoint: byHostname } }
  const byItsWaypoint = {
    kind: 'hbone',
    peer: { address: '10.244.2.50', port: 15008 },
    target: SERVER,
    expectedIdentities: [WAYPOINT_IDENTITY],
    waypoint: { name: 'shop/waypoint', of: 'workload' },
  } as const
  t.match(decide(bound, { to: SERVER }), { ...byItsWaypoint, service: undefined })
  t.match(decide(bound), { ...byItsWaypoint, service: { name: 'catalog' } }, 'by a Service')
  t.match(decide(bound, { localPods: [server] }), byItsWaypoint, 'a neighbour, too')
  t.match(
    decide({ server: { waypoint: byHostname, tunnelProtocol: 'none' } }, { to: SERVER }),
    byItsWaypoint,
    'also one outside the mesh',
  )
  t.end()
})

void t.test('rows 1 and 7: what a Service is bound to goes before what its endpoint is', (t) => {
  const own = byAddress('10.244.2.51')
  const both = { service: { waypoint: byHostname }, server: { waypoint: own } }
  t.match(decide(both), { target: TO_SERVICE, waypoint: { of: 'service' } })
  t.match(decide(both, { to: SERVER }), { workload: { name: 'waypoint-1' } })
  t.match(
    decide({ service: { waypoint: byHostname } }, { to: SERVER }),
    { kind: 'hbone', peer: { address: SERVER.address, port: 15008 }, waypoint: undefined },
    'a pod of a bound Service is not bound itself: its own address leads to it (as with Istio)',
  )
  t.end()
})

void t.test(
  'rows 1 and 7: calls of the waypoint itself, and of a pod to itself, pass none',
  (t) => {
    const [own] = WAYPOINT_PODS as [typeof client]
    const service = { waypoint: byHostname }
    const direct = { kind: 'hbone', peer: { address: SERVER.address, port: 15008 } } as const
    t.match(decide({ service }, { from: own }), { ...direct, waypoint: undefined })
    t.match(decide({ server: service }, { from: own, to: SERVER }), direct)
    t.match(
      decide({ server: service }, { from: server }),
      { kind: 'sameNode', pod: { uid: server.uid } },
      'chosen by a Service that is not bound',
    )
    t.match(decide({ service }, { from: server }), { waypoint: { of: 'service' } })
    t.end()
  },
)

void t.test('egress policies are asked about what is behind the waypoint, not about it', (t) => {
  const other = workloadOf(testPod('catalog-2', '10.244.2.4' as IpAddress))
  const targets = (world: World, to: SocketAddress): readonly SocketAddress[] => {
    const mesh = meshOf(world)
    const decision = decideIn(mesh, { to })
    if (decision.kind === 'deny') throw new Error(decision.message)
    return trueTargets(mesh, decision, to)
  }
  const behind = testService('catalog', VIP)
  t.same(
    targets(
      {
        service: { waypoint: byHostname },
        more: [{ kind: 'workload', workload: { ...other, ...inService(behind, 9090) } }],
      },
      TO_SERVICE,
    ),
    [SERVER, { address: '10.244.2.4', port: 9090 }],
    'any endpoint of the Service may be chosen',
  )
  t.same(targets({ server: { waypoint: byHostname } }, SERVER), [SERVER])
  t.same(targets({ server: { waypoint: byHostname } }, TO_SERVICE), [SERVER])
  t.end()
})
