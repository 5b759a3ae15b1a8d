// SPDX-License-Identifier: Apache-2.0
// The outbound decision table, row by row.

import t from 'tap'
import { LocalPods } from '../../agent/proxy/local-pod.ts'
import { decideOutbound, type OutboundDecision } from '../../agent/proxy/decision/outbound.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { IpAddress, NodeKey, Service, Workload, WorkloadUid } from '../../mesh/model/types.ts'
import { inService, testPod, testService, workloadOf } from './loopback-world.ts'

const CLIENT_IP = '10.244.1.2' as IpAddress
const SERVER_IP = '10.244.2.3' as IpAddress
const VIP = '10.96.0.20' as IpAddress
const client = testPod('frontend', CLIENT_IP)
const server = testPod('catalog', SERVER_IP)
const SERVER_IDENTITY = 'spiffe://cluster.local/ns/shop/sa/catalog'

interface Case {
  readonly to: string
  readonly port?: number
  readonly service?: Partial<Service>
  readonly server?: Partial<Workload>
  readonly isServerLocal?: boolean
}

/** frontend calls an address; the mesh has catalog at 10.244.2.3:8080 behind 10.96.0.20:80. */
function decide({
  to,
  port = 80,
  service: overrides,
  server: workload,
  isServerLocal,
}: Case): OutboundDecision {
  const service = testService('catalog', VIP, overrides)
  const mesh = new MeshState()
  mesh.apply([
    { kind: 'service', service },
    { kind: 'workload', workload: workloadOf(client) },
    {
      kind: 'workload',
      workload: workloadOf(server, { ...inService(service, 8080), ...workload }),
    },
  ])
  const localPods = new LocalPods()
  localPods.add(client)
  if (isServerLocal === true) localPods.add(server)
  return decideIn(mesh, to, { port, localPods })
}

interface Asked {
  readonly port?: number
  /** None are known where the node encrypts. */
  readonly localPods?: LocalPods
  readonly draw?: number
  readonly exclude?: ReadonlySet<WorkloadUid>
}

/** frontend calls an address of this mesh. */
function decideIn(
  mesh: MeshState,
  to: string,
  { port = 80, localPods = new LocalPods(), draw = 0.5, ...rest }: Asked = {},
): OutboundDecision {
  return decideOutbound({
    originalDestination: { address: to as IpAddress, port },
    source: client,
    mesh,
    localPods,
    clientAddress: CLIENT_IP,
    random: () => draw,
    ...rest,
  })
}

void t.test('row 4: a service with an HBONE endpoint goes to the endpoint by HBONE', (t) => {
  t.match(decide({ to: VIP }), {
    kind: 'hbone',
    peer: { address: SERVER_IP, port: 15008 },
    target: { address: SERVER_IP, port: 8080 },
    expectedIdentities: [SERVER_IDENTITY],
    service: { name: 'catalog' },
    workload: { name: 'catalog' },
  })
  t.end()
})

void t.test(
  "row 4: the service's own subject names are accepted too, malformed ones never",
  (t) => {
    const other = 'spiffe://cluster.local/ns/shop/sa/other'
    const decision = decide({ to: VIP, service: { subjectAltNames: [other, 'catalog.shop.svc'] } })
    t.match(decision, { kind: 'hbone', expectedIdentities: [SERVER_IDENTITY, other] })
    t.equal(decision.kind === 'hbone' && decision.expectedIdentities.length, 2)
    t.end()
  },
)

void t.test(
  'row 5: a cluster IP with plain endpoints alone is left to the node, which leads it on once',
  (t) => {
    const plain = { tunnelProtocol: 'none' } as const
    const toCluster = { kind: 'passthrough', target: { address: VIP, port: 80 } }
    const toEndpoint = { kind: 'passthrough', target: { address: SERVER_IP, port: 8080 } }
    const left = decide({ to: VIP, server: plain })
    t.match(left, { ...toCluster, service: { name: 'catalog' } })
    t.equal(left.workload, undefined, 'the node chooses')
    const slices = 'Kubernetes/discovery.k8s.io/EndpointSlice/shop/catalog-1/10.244.2.3'
    t.match(decide({ to: VIP, server: { ...plain, uid: slices as WorkloadUid } }), toCluster)
    const entry = 'Kubernetes/networking.istio.io/WorkloadEntry/shop/catalog'
    for (const [what, overrides] of [
      ['a ServiceEntry', { service: { canonical: false } }],
      ['an address that others may claim', { service: { externalAddresses: [VIP] } }],
      ['an endpoint that is in no slice', { server: { uid: entry as WorkloadUid } }],
      ['an endpoint of another cluster', { server: { clusterId: 'Kube' } }],
    ] as const) {
      const { server = {}, ...rest } = { server: {}, ...overrides }
      t.match(
        decide({ to: VIP, ...rest, server: { ...plain, ...server } }),
        toEndpoint,
        `${what} is the mesh's to choose for`,
      )
    }
    const six = '2001:db8::3' as IpAddress
    t.match(
      decide({ to: VIP, server: { ...plain, addresses: [six] } }),
      { target: { address: six, port: 8080 } },
      'an endpoint of the other family is none of the node’s',
    )
    t.end()
  },
)

void t.test(
  'row 5: with one endpoint of the mesh beside them, fit or not, the node might call that in plaintext',
  (t) => {
    const service = testService('catalog', VIP)
    const plain = testPod('old', '10.244.2.4' as IpAddress)
    const decideBeside = (overrides: Partial<Workload>): OutboundDecision => {
      const mesh = new MeshState()
      mesh.apply([
        { kind: 'service', service },
        { kind: 'workload', workload: workloadOf(client) },
        {
          kind: 'workload',
          workload: workloadOf(plain, { ...inService(service, 8080), tunnelProtocol: 'none' }),
        },
        {
          kind: 'workload',
          workload: workloadOf(server, { ...inService(service, 8080), ...overrides }),
        },
      ])
      return decideIn(mesh, VIP, { draw: 0 })
    }
    t.match(decideBeside({ status: 'unhealthy' }), {
      kind: 'passthrough',
      target: { address: '10.244.2.4', port: 8080 },
      workload: { name: 'old' },
    })
    t.match(decideBeside({ tunnelProtocol: 'none' }), { target: { address: VIP, port: 80 } })
    t.end()
  },
)

void t.test(
  'row 5: nor is a service left to the node that had an endpoint of the mesh a moment ago',
  (t) => {
    const service = testService('catalog', VIP)
    const other = testService('other', '10.96.0.21' as IpAddress)
    const plain = workloadOf(testPod('old', '10.244.2.4' as IpAddress), {
      ...inService(service, 8080),
      tunnelProtocol: 'none',
    })
    const inMesh = workloadOf(server, inService(service, 8080))
    const toCluster = { kind: 'passthrough', target: { address: VIP, port: 80 } }
    const toEndpoint = { kind: 'passthrough', target: { address: '10.244.2.4', port: 8080 } }
    for (const [what, change, afterwards] of [
      ['it is gone', { kind: 'workloadRemoved', uid: inMesh.uid }, toEndpoint],
      [
        'it is another service’s',
        { kind: 'workload', workload: { ...inMesh, ...inService(other, 8080) } },
        toEndpoint,
      ],
      [
        'it has left the mesh',
        { kind: 'workload', workload: { ...inMesh, tunnelProtocol: 'none' } },
        toCluster,
      ],
    ] as const) {
      let nowMs = 0
      const mesh = new MeshState({ now: () => nowMs })
      const decideNow = (): OutboundDecision => decideIn(mesh, VIP, { draw: 0 })
      mesh.apply([
        { kind: 'service', service },
        { kind: 'workload', workload: workloadOf(client) },
        { kind: 'workload', workload: plain },
        { kind: 'workload', workload: inMesh },
      ])
      mesh.apply([change])
      t.match(decideNow(), afterwards, what)
      nowMs += 60_000
      t.match(decideNow(), toCluster, `${what}, and the node knows by now`)
    }
    t.end()
  },
)

void t.test('row 6: a service without a healthy endpoint is refused', (t) => {
  t.match(decide({ to: VIP, server: { status: 'unhealthy' } }), {
    kind: 'deny',
    reason: 'noHealthyUpstream',
    service: { name: 'catalog' },
  })
  t.match(decide({ to: VIP, server: { services: new Map() } }), {
    kind: 'deny',
    reason: 'noHealthyUpstream',
  })
  t.end()
})

void t.test(
  'row 6: with internalTrafficPolicy: Local the reason names the node and the setting',
  (t) => {
    const loadBalancing = {
      routingPreference: ['node'],
      mode: 'strict',
      healthPolicy: 'onlyHealthy',
      sessionAffinity: 'none',
    } as const
    const server = { node: 'node-b' }
    t.match(decide({ to: VIP, service: { loadBalancing }, server }), {
      kind: 'deny',
      reason: 'noHealthyUpstream',
      message: /port 80, which has internalTrafficPolicy: Local, and none .* on node "node-a"$/,
    })
    const near = decide({ to: VIP, service: { loadBalancing } })
    t.equal(near.kind, 'hbone')
    t.end()
  },
)

void t.test('row 6: a port the service does not have is refused', (t) => {
  t.match(decide({ to: VIP, port: 81 }), { kind: 'deny', reason: 'noHealthyUpstream' })
  t.end()
})

void t.test('row 6, exception: load balancing mode passthrough goes where the app said', (t) => {
  const loadBalancing = {
    routingPreference: [],
    mode: 'passthrough',
    healthPolicy: 'onlyHealthy',
    sessionAffinity: 'none',
  } as const
  t.match(decide({ to: VIP, service: { loadBalancing } }), {
    kind: 'passthrough',
    target: { address: VIP, port: 80 },
  })
  t.end()
})

void t.test('row 3: an endpoint on another network is refused, not sent in plaintext', (t) => {
  t.match(decide({ to: VIP, server: { network: 'elsewhere' } }), { kind: 'deny' })
  t.end()
})

void t.test('row 8: a pod address goes by HBONE with the port that was asked for', (t) => {
  t.match(decide({ to: SERVER_IP, port: 9999 }), {
    kind: 'hbone',
    peer: { address: SERVER_IP, port: 15008 },
    target: { address: SERVER_IP, port: 9999 },
    service: undefined,
  })
  t.end()
})

void t.test('row 9: a plain workload and an unknown address pass through', (t) => {
  t.match(decide({ to: SERVER_IP, server: { tunnelProtocol: 'none' } }), {
    kind: 'passthrough',
    target: { address: SERVER_IP, port: 80 },
  })
  t.match(decide({ to: '203.0.113.10', port: 443 }), {
    kind: 'passthrough',
    target: { address: '203.0.113.10', port: 443 },
    service: undefined,
    workload: undefined,
  })
  t.match(decide({ to: '2001:db8::1', port: 443 }), { kind: 'passthrough' })
  t.end()
})

void t.test("row 10: a loopback call to the mesh's own ports is refused", (t) => {
  for (const port of [15001, 15006, 15008])
    for (const to of ['127.0.0.1', '127.9.9.9', '::1'])
      t.match(decide({ to, port }), { kind: 'deny', reason: 'selfCall' }, `${to}:${port}`)
  t.match(decide({ to: '203.0.113.10', port: 15001 }), { kind: 'passthrough' })
  t.end()
})

void t.test('same node: two pods of this agent are joined without TLS', (t) => {
  t.match(decide({ to: VIP, isServerLocal: true }), {
    kind: 'sameNode',
    pod: { uid: server.uid },
    target: { address: SERVER_IP, port: 8080 },
  })
  t.end()
})

void t.test(
  'same node: a pod that only inherited the address is not taken for the workload',
  (t) => {
    const service = testService('catalog', VIP)
    const mesh = new MeshState()
    mesh.apply([{ kind: 'workload', workload: workloadOf(server, inService(service, 8080)) }])
    const localPods = new LocalPods()
    localPods.add(testPod('successor', SERVER_IP))
    const decision = decideIn(mesh, SERVER_IP, { localPods, draw: 0 })
    t.match(decision, { kind: 'hbone', expectedIdentities: [SERVER_IDENTITY] })
    t.end()
  },
)

void t.test(
  'a pod that calls its own service reaches itself, also where the node encrypts',
  (t) => {
    const service = testService('frontend', VIP)
    const mesh = new MeshState()
    mesh.apply([
      { kind: 'service', service },
      { kind: 'workload', workload: workloadOf(client, inService(service, 8080)) },
    ])
    t.match(
      // Where the node encrypts, no pod is known as a neighbour.
      decideIn(mesh, VIP, { draw: 0 }),
      { kind: 'sameNode', pod: { uid: client.uid }, target: { address: CLIENT_IP, port: 8080 } },
    )
    t.end()
  },
)

void t.test(
  'an endpoint that gives a mesh pod’s address is that pod: never plaintext instead',
  (t) => {
    const service = testService('manual', VIP)
    const listed = workloadOf(testPod('manual-1', SERVER_IP), {
      ...inService(service, 8080),
      uid: 'Kubernetes/discovery.k8s.io/EndpointSlice/shop/manual-1/10.244.2.3' as WorkloadUid,
      serviceAccount: 'default',
      tunnelProtocol: 'none',
      foundBy: 'service',
    })
    const mesh = new MeshState()
    mesh.apply([
      { kind: 'service', service },
      { kind: 'workload', workload: workloadOf(client) },
      { kind: 'workload', workload: listed },
      { kind: 'workload', workload: workloadOf(server) },
    ])
    const call = (localPods: LocalPods, exclude = new Set<WorkloadUid>()): OutboundDecision =>
      decideIn(mesh, VIP, { localPods, exclude })
    t.match(call(new LocalPods()), {
      kind: 'hbone',
      target: { address: SERVER_IP, port: 8080 },
      expectedIdentities: [SERVER_IDENTITY],
      workload: { name: 'catalog' },
    })
    const localPods = new LocalPods()
    localPods.add(server)
    t.match(call(localPods), { kind: 'sameNode', pod: { name: 'catalog' } })
    t.match(
      call(new LocalPods(), new Set([server.workloadUid])),
      { kind: 'deny', reason: 'noHealthyUpstream' },
      'a pod that has just failed is not tried again under its other name',
    )
    mesh.apply([{ kind: 'workload', workload: workloadOf(server, { tunnelProtocol: 'none' }) }])
    t.match(call(new LocalPods()), { kind: 'passthrough', target: { address: VIP, port: 80 } })
    t.end()
  },
)

void t.test(
  'row 5: the address of another Service is no endpoint: the node would lead it on in plaintext',
  (t) => {
    const victim = testService('catalog', '10.96.0.99' as IpAddress)
    const decideTo = (overrides: Partial<Service>): OutboundDecision => {
      const service = testService('manual', VIP)
      const mesh = new MeshState()
      const listed = testPod('manual-1', '10.96.0.99' as IpAddress)
      mesh.apply([
        { kind: 'service', service },
        { kind: 'service', service: { ...victim, ...overrides } },
        { kind: 'workload', workload: workloadOf(client) },
        {
          kind: 'workload',
          workload: workloadOf(listed, {
            ...inService(service, 80),
            tunnelProtocol: 'none',
            foundBy: 'service',
          }),
        },
      ])
      return decideIn(mesh, VIP)
    }
    t.match(decideTo({ canonical: true }), {
      kind: 'deny',
      reason: 'noHealthyUpstream',
      message: /endpoint 10\.96\.0\.99:80 of service .*manual.* is an address of service .*catalog/,
    })
    // A ServiceEntry may be found by the very addresses of its endpoints.
    t.match(decideTo({ canonical: false }), { kind: 'passthrough' })
    t.end()
  },
)

void t.test(
  'every address of a Service leads to it with identity, other ports there do not',
  (t) => {
    const node = '172.30.0.5' as IpAddress
    const external = '198.51.100.7' as IpAddress
    const decideTo = (
      to: string,
      port: number,
      overrides: Partial<Service> = {},
      endpointNode = 'node-a',
      clientNode = 'node-a',
    ): OutboundDecision => {
      const service = testService('catalog', VIP, {
        addresses: [VIP, external].map((address) => ({
          network: '',
          address,
          prefixLength: undefined,
        })),
        externalAddresses: [external],
        nodePorts: [{ nodePort: 30_080, servicePort: 80 }],
        ...overrides,
      })
      const mesh = new MeshState()
      mesh.apply([
        {
          kind: 'node',
          node: {
            key: 'Kubernetes/node-b' as NodeKey,
            clusterId: 'Kubernetes',
            name: 'node-b',
            network: '',
            addresses: [node],
          },
        },
        { kind: 'service', service },
        { kind: 'workload', workload: workloadOf(client, { node: clientNode }) },
        {
          kind: 'workload',
          workload: workloadOf(server, { ...inService(service, 8080), node: endpointNode }),
        },
      ])
      return decideIn(mesh, to, { port })
    }
    const served = { kind: 'hbone', target: { address: SERVER_IP, port: 8080 } }
    t.match(decideTo(VIP, 80), served)
    t.match(decideTo(external, 80), served)
    t.match(decideTo(node, 30_080), served)
    t.match(decideTo(VIP, 81), { kind: 'deny' }, 'its own address is all its own')
    for (const [to, port] of [
      [external, 22],
      [node, 80],
      [node, 10_250],
      ['172.30.0.6', 30_080],
    ] as const)
      t.match(
        decideTo(to, port),
        { kind: 'passthrough', target: { address: to, port }, service: undefined },
        `${to}:${port} is somebody else's`,
      )

    const toNodesOwn = { nodePortScope: 'node' } as const
    t.match(decideTo(node, 30_080, toNodesOwn, 'node-b'), served)
    t.match(decideTo(node, 30_080, toNodesOwn, 'node-a'), {
      kind: 'deny',
      message: /which has externalTrafficPolicy: Local, and none .* fit on node "node-b"$/,
    })
    t.match(
      decideTo(node, 30_080, toNodesOwn, 'node-a', 'node-b'),
      served,
      'its own node’s address leads a pod to all, as with kube-proxy',
    )
    t.match(decideTo(external, 80, toNodesOwn, 'node-a'), served, 'that is about node ports')
    const toCallersNode: Partial<Service> = {
      loadBalancing: {
        mode: 'strict',
        routingPreference: ['node'],
        healthPolicy: 'onlyHealthy',
        sessionAffinity: 'none',
      },
    }
    t.match(decideTo(VIP, 80, toCallersNode, 'node-z'), { kind: 'deny' })
    t.match(
      decideTo(external, 80, toCallersNode, 'node-z'),
      served,
      'that is about its own address',
    )
    t.match(decideTo(node, 30_080, toCallersNode, 'node-z'), served)
    t.end()
  },
)

void t.test('rows 6a and 8a: what the mesh has just forgotten is not called in plaintext', (t) => {
  const service = testService('catalog', VIP)
  const workload = workloadOf(server, inService(service, 8080))
  let nowMs = 0
  const mesh = new MeshState({ now: () => nowMs })
  const localPods = new LocalPods()
  const decideNow = (to: IpAddress, port = 80): OutboundDecision =>
    decideIn(mesh, to, { port, localPods })
  mesh.apply([
    { kind: 'service', service },
    { kind: 'workload', workload: workloadOf(client) },
    { kind: 'workload', workload },
    { kind: 'serviceRemoved', key: service.key },
    { kind: 'workloadRemoved', uid: workload.uid },
  ])
  t.match(decideNow(VIP), {
    kind: 'deny',
    reason: 'noHealthyUpstream',
    message: /service shop\/catalog\S* is deleted, or has 10\.96\.0\.20:80 no more/,
    service: { name: 'catalog' },
  })
  t.match(decideNow(SERVER_IP, 8080), {
    kind: 'hbone',
    peer: { address: SERVER_IP, port: 15008 },
    target: { address: SERVER_IP, port: 8080 },
    expectedIdentities: [SERVER_IDENTITY],
    workload: { name: 'catalog' },
  })
  localPods.add(server)
  t.match(decideNow(SERVER_IP, 8080), { kind: 'sameNode', pod: { name: 'catalog' } })
  localPods.remove(server.uid)

  // Somebody lists the address, which is nobody's by now.
  const other = testService('other', '10.96.0.21' as IpAddress)
  const listed = workloadOf(testPod('listed', SERVER_IP), {
    uid: 'Kubernetes/discovery.k8s.io/EndpointSlice/shop/other/10.244.2.3' as WorkloadUid,
    tunnelProtocol: 'none',
    foundBy: 'service',
    ...inService(other, 8080),
  })
  mesh.apply([
    { kind: 'service', service: other },
    { kind: 'workload', workload: listed },
  ])
  t.match(decideNow('10.96.0.21' as IpAddress), { kind: 'hbone', workload: { name: 'catalog' } })

  const successor = workloadOf(testPod('successor', SERVER_IP), { tunnelProtocol: 'none' })
  mesh.apply([{ kind: 'workload', workload: successor }])
  t.match(decideNow(SERVER_IP), { kind: 'passthrough', workload: { name: 'successor' } })
  mesh.apply([{ kind: 'workloadRemoved', uid: successor.uid }])
  t.match(decideNow(SERVER_IP), { kind: 'passthrough', workload: undefined })
  nowMs += 60_000
  t.match(decideNow(VIP), { kind: 'passthrough' })
  t.end()
})
