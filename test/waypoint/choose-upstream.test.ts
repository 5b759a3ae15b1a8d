// SPDX-License-Identifier: Apache-2.0
// Where a call goes on to, as a table.

import t from 'tap'
import type { EndpointExperience } from '../../mesh/balance/endpoint-experience.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type { MeshChange, Service, Workload } from '../../mesh/model/types.ts'
import type { Backend } from '../../waypoint/exchange/types.ts'
import { chooseUpstream, type UpstreamRequest } from '../../waypoint/upstream/choose-upstream.ts'
import { ip, sampleService, sampleWorkload, serviceKey } from '../model/samples.ts'

const KEY = serviceKey('shop', 'catalog')
const CLIENT = { address: ip('10.244.9.9'), port: 4000 }
const TO_SERVICE: Backend = { kind: 'service', service: KEY, port: 80 }

function pod(name: string, address: string, overrides: Partial<Workload> = {}): MeshChange {
  const port = { servicePort: 80, targetPort: 8080, appProtocol: 'http1', family: 'any' } as const
  const workload = sampleWorkload(name, {
    addresses: [ip(address)],
    services: new Map([[KEY, [port]]]),
    ...overrides,
  })
  return { kind: 'workload', workload }
}

function choose(
  changes: readonly MeshChange[],
  { service, ...request }: Partial<UpstreamRequest> & { readonly service?: Partial<Service> } = {},
) {
  const mesh = new MeshState()
  mesh.apply([{ kind: 'service', service: sampleService('catalog', service) }, ...changes])
  return chooseUpstream({
    mesh,
    network: '',
    backend: TO_SERVICE,
    source: { address: CLIENT, identity: undefined, workload: undefined },
    called: ip('10.96.0.50'),
    random: () => 0,
    ...request,
  })
}

void t.test('a pod of the mesh is reached by HBONE, and must prove its identity', (t) => {
  t.match(choose([pod('a', '10.244.1.1')]), {
    kind: 'hbone',
    target: { address: '10.244.1.1', port: 8080 },
    peer: { address: '10.244.1.1', port: 15008 },
    expectedIdentities: ['spiffe://cluster.local/ns/shop/sa/default'],
  })
  t.end()
})

void t.test('what is outside the mesh is reached in plain', (t) => {
  t.match(choose([pod('a', '10.244.1.1', { tunnelProtocol: 'none' })]), {
    kind: 'plain',
    target: { address: '10.244.1.1', port: 8080 },
  })
  t.end()
})

void t.test('an endpoint that a slice lists in plain is the pod that has its address', (t) => {
  const listed = pod('slice', '10.244.1.1', {
    uid: 'Kubernetes/discovery.k8s.io/EndpointSlice/shop/x/10.244.1.1' as Workload['uid'],
    tunnelProtocol: 'none',
    foundBy: 'service',
  })
  const own = pod('a', '10.244.1.1', { services: new Map() })
  t.match(choose([listed, own]), { kind: 'hbone', workload: { name: 'a' } })
  t.end()
})

void t.test('near is what is near to the client, not to the waypoint', (t) => {
  const loadBalancing = {
    routingPreference: ['node'],
    mode: 'failover',
    healthPolicy: 'onlyHealthy',
    sessionAffinity: 'none',
  } as const
  const pods = [
    pod('a', '10.244.1.1', { node: 'node-a' }),
    pod('b', '10.244.1.2', { node: 'node-b' }),
  ]
  for (const node of ['node-a', 'node-b'])
    t.match(
      choose(pods, {
        service: { loadBalancing },
        source: {
          address: CLIENT,
          identity: undefined,
          workload: sampleWorkload('client', { node }),
        },
      }),
      { workload: { node } },
    )
  t.end()
})

void t.test('the less busy of two is taken, and none that is to be avoided', (t) => {
  const pods = [pod('a', '10.244.1.1'), pod('b', '10.244.1.2')]
  const busy = (name: string): Pick<EndpointExperience, 'openTo' | 'isEjected' | 'hasEjected'> => ({
    openTo: (uid) => (uid.endsWith(`/${name}`) ? 9 : 0),
    isEjected: () => false,
    hasEjected: false,
  })
  t.match(choose(pods, { experience: busy('a') }), { workload: { name: 'b' } })
  t.match(choose(pods, { experience: busy('b') }), { workload: { name: 'a' } })
  const exclude = new Set([sampleWorkload('a').uid])
  t.match(choose(pods, { experience: busy('b'), exclude }), { workload: { name: 'b' } })
  t.end()
})

void t.test('what cannot be reached is told by its name', (t) => {
  const cases: readonly (readonly [ReturnType<typeof choose>, RegExp])[] = [
    [choose([]), /no healthy upstream: service shop\/catalog.* port 80/],
    [choose([pod('a', '10.244.1.1', { status: 'unhealthy' })]), /no healthy upstream/],
    [choose([pod('a', '10.244.1.1', { network: 'far' })]), /is on network "far"/],
    [
      choose([], { backend: { ...TO_SERVICE, service: 'shop/gone' } }),
      /service shop\/gone is not known/,
    ],
    [
      choose([], { backend: { kind: 'workload', target: { address: ip('10.1.1.1'), port: 80 } } }),
      /no workload is at 10\.1\.1\.1 any more/,
    ],
  ]
  for (const [choice, message] of cases) t.match(choice, { kind: 'none', message })
  const loop = { servicePort: 80, targetPort: 15008, appProtocol: 'tcp', family: 'any' } as const
  t.match(choose([pod('a', '10.244.1.1', { services: new Map([[KEY, [loop]]]) })]), {
    kind: 'none',
    reason: 'selfCall',
  })
  t.end()
})

void t.test('the endpoint that a session is at is chosen while it is ready, and serves', (t) => {
  const preferred = { address: ip('10.244.1.2'), port: 8080 }
  const [a, b] = [pod('a', '10.244.1.1'), pod('b', '10.244.1.2')]
  const target = (...args: Parameters<typeof choose>): unknown => {
    const choice = choose(...args)
    return choice.kind === 'none' ? choice.kind : choice.target.address
  }
  t.equal(target([a, b], { random: () => 0 }), '10.244.1.1')
  t.equal(target([a, b], { preferred }), '10.244.1.2')
  t.equal(target([a], { preferred }), '10.244.1.1', 'it is gone')
  t.equal(target([a, b], { preferred: { ...preferred, port: 9090 } }), '10.244.1.1')
  const port = { servicePort: 80, targetPort: 8080, appProtocol: 'http1', family: 'any' } as const
  const leaving = pod('b', '10.244.1.2', {
    services: new Map(),
    leaving: new Map([[KEY, [port]]]),
  })
  t.equal(target([a, leaving], { preferred }), '10.244.1.1', 'one that leaves is as good as gone')
  const experience = {
    openTo: () => 0,
    isEjected: (uid: string) => uid.includes('/b'),
    hasEjected: true,
  }
  t.equal(target([a, b], { preferred, experience }), '10.244.1.1', 'it takes no connections')
  t.end()
})
