// SPDX-License-Identifier: Apache-2.0
// What the mesh state answers after changes, in whatever order they came.

import fc from 'fast-check'
import t from 'tap'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type {
  MeshChange,
  MeshNode,
  NodeKey,
  Workload,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import { ip, podUid, sampleService, sampleWorkload, serviceKey } from './samples.ts'

const upsert = (workload: Workload): MeshChange => ({ kind: 'workload', workload })
const remove = (uid: WorkloadUid): MeshChange => ({ kind: 'workloadRemoved', uid })

void t.test(
  'an address reused by a new pod belongs to the new pod, before and after the old one goes',
  async (t) => {
    const state = new MeshState()
    const old = sampleWorkload('old')
    const young = sampleWorkload('young')
    state.apply([upsert(old), upsert(young)])
    t.equal(state.findWorkload(ip('10.244.0.1'))?.uid, young.uid)
    // The old pod's late updates do not bring it back.
    state.apply([upsert({ ...old, status: 'unhealthy' })])
    t.equal(state.findWorkload(ip('10.244.0.1'))?.uid, young.uid)
    state.apply([remove(old.uid)])
    t.equal(state.findWorkload(ip('10.244.0.1'))?.uid, young.uid)
    state.apply([remove(young.uid)])
    t.equal(state.findWorkload(ip('10.244.0.1')), undefined)
  },
)

void t.test(
  'of several that claim an address a pod beats others, and HBONE beats none',
  async (t) => {
    const entry = sampleWorkload('vm', {
      uid: 'Kubernetes/networking.istio.io/WorkloadEntry/shop/vm' as WorkloadUid,
    })
    const plain = sampleWorkload('plain', { tunnelProtocol: 'none' })
    const hbone = sampleWorkload('hbone')
    for (const order of [
      [entry, plain, hbone],
      [hbone, plain, entry],
      [plain, hbone, entry],
    ]) {
      const state = new MeshState()
      state.apply(order.map(upsert))
      t.equal(state.findWorkload(ip('10.244.0.1'))?.uid, hbone.uid)
      state.apply([remove(hbone.uid)])
      t.equal(state.findWorkload(ip('10.244.0.1'))?.uid, plain.uid)
      state.apply([remove(plain.uid)])
      t.equal(state.findWorkload(ip('10.244.0.1'))?.uid, entry.uid)
    }
  },
)

void t.test('a workload whose address is not its own is found by uid and service', async (t) => {
  const state = new MeshState()
  const key = serviceKey('shop', 'catalog')
  const workload = sampleWorkload('daemon', {
    foundBy: 'service',
    services: new Map([[key, []]]),
  })
  state.apply([upsert(workload)])
  t.equal(state.findWorkload(ip('10.244.0.1')), undefined)
  t.strictSame(state.workload(workload.uid), workload)
  t.strictSame(state.endpoints(key), [workload])
})

void t.test('a workload that changes its address and services leaves nothing behind', async (t) => {
  const state = new MeshState()
  const [catalog, basket] = [serviceKey('shop', 'catalog'), serviceKey('shop', 'basket')]
  const first = sampleWorkload('pod', {
    addresses: [ip('10.244.0.1'), ip('10.244.0.1'), ip('fd98::1')],
    services: new Map([[catalog, []]]),
  })
  const second = sampleWorkload('pod', {
    addresses: [ip('fd98::1'), ip('fd98::2')],
    services: new Map([[basket, []]]),
  })
  state.apply([upsert(first), upsert(second)])
  t.equal(state.findWorkload(ip('10.244.0.1')), undefined)
  t.strictSame(state.findWorkload(ip('fd98::1')), second)
  t.strictSame(state.findWorkload(ip('fd98::2')), second)
  t.strictSame(state.endpoints(catalog), [])
  t.strictSame(state.endpoints(basket), [second])
  t.strictSame([...state.workloads()], [second])
})

void t.test('of a service without endpoints the pod that was the last is known', async (t) => {
  const state = new MeshState()
  const service = sampleService('catalog')
  const { key } = service
  const [first, second] = ['one', 'two'].map((name) =>
    sampleWorkload(name, { services: new Map([[key, []]]) }),
  ) as [Workload, Workload]
  const unready = (workload: Workload): Workload => ({ ...workload, services: new Map() })
  state.apply([upsert(first), upsert(second), remove(first.uid), remove(second.uid)])
  t.equal(state.lastEndpoint(key), undefined, 'of a service that is not known nothing is kept')
  state.apply([{ kind: 'service', service }, upsert(first), upsert(second)])
  state.apply([upsert(unready(first))])
  t.equal(state.lastEndpoint(key), undefined, 'it has one')
  state.apply([remove(second.uid)])
  t.strictSame(state.lastEndpoint(key), second)
  state.apply([upsert({ ...unready(first), leaving: new Map([[key, []]]) })])
  t.equal(state.lastEndpoint(key), undefined, 'one that leaves is one')
  state.apply([upsert(unready(first))])
  t.equal(state.lastEndpoint(key)?.uid, first.uid)
  state.apply([
    { kind: 'serviceRemoved', key },
    { kind: 'service', service },
  ])
  t.equal(state.lastEndpoint(key), undefined, 'it goes with the service')
})

void t.test(
  'a virtual address of several services means the one in the client’s namespace, then the canonical one',
  async (t) => {
    const state = new MeshState()
    const service = (name: string, namespace: string, canonical: boolean) =>
      sampleService(name, { namespace, canonical })
    const entry = service('a-entry', 'egress', false)
    const kube = service('kube', 'zoo', true)
    const own = service('own', 'mine', false)
    state.apply([entry, kube, own].map((each) => ({ kind: 'service', service: each })))
    const vip = ip('10.96.0.50')
    t.equal(state.findService({ address: vip, port: 80 }, 'mine')?.service?.key, own.key)
    t.equal(state.findService({ address: vip, port: 80 }, 'elsewhere')?.service?.key, kube.key)
    state.apply([{ kind: 'serviceRemoved', key: kube.key }])
    t.equal(state.findService({ address: vip, port: 80 }, 'elsewhere')?.service?.key, entry.key)
    t.equal(state.findService({ address: ip('10.96.0.51'), port: 80 }, 'mine')?.service, undefined)
  },
)

void t.test(
  'an address range is the fallback, the narrowest of the own namespace first',
  async (t) => {
    const state = new MeshState()
    const range = (name: string, namespace: string, base: string, prefixLength: number) =>
      sampleService(name, {
        namespace,
        addresses: [{ network: '', address: ip(base), prefixLength }],
      })
    const wide = range('wide', 'egress', '192.0.2.0', 24)
    const narrow = range('narrow', 'egress', '192.0.2.0', 28)
    const own = range('own', 'mine', '192.0.0.0', 16)
    const exact = sampleService('exact', {
      addresses: [{ network: '', address: ip('192.0.2.9'), prefixLength: undefined }],
    })
    state.apply([wide, own, narrow, exact].map((each) => ({ kind: 'service', service: each })))
    t.equal(state.findService({ address: ip('192.0.2.1'), port: 80 }, 'x')?.service?.name, 'narrow')
    t.equal(state.findService({ address: ip('192.0.2.77'), port: 80 }, 'x')?.service?.name, 'wide')
    t.equal(state.findService({ address: ip('192.0.2.1'), port: 80 }, 'mine')?.service?.name, 'own')
    t.equal(
      state.findService({ address: ip('192.0.2.9'), port: 80 }, 'mine')?.service?.name,
      'exact',
    )
    state.apply([{ kind: 'serviceRemoved', key: narrow.key }])
    t.equal(state.findService({ address: ip('192.0.2.1'), port: 80 }, 'x')?.service?.name, 'wide')
  },
)

void t.test('addresses of another network are another network’s', async (t) => {
  const far = sampleWorkload('far', { network: 'west' })
  const state = new MeshState()
  state.apply([upsert(far)])
  t.equal(state.findWorkload(ip('10.244.0.1')), undefined)
  const western = new MeshState({ network: 'west' })
  western.apply([upsert(far)])
  t.equal(western.findWorkload(ip('10.244.0.1'))?.uid, far.uid)
})

void t.test(
  'endpoints wait for their service, and a subscriber hears of each batch once',
  async (t) => {
    const state = new MeshState()
    const heard: number[] = []
    const unsubscribe = state.subscribe((changes) => heard.push(changes.length))
    const key = serviceKey('shop', 'catalog')
    const member = sampleWorkload('pod', { services: new Map([[key, []]]) })
    state.apply([upsert(member)])
    state.apply([
      { kind: 'service', service: sampleService('catalog') },
      { kind: 'serviceRemoved', key: serviceKey('shop', 'never') },
    ])
    t.strictSame(state.endpoints(key), [member])
    t.equal(state.findServiceByHostname('catalog.shop.svc.cluster.local', 'x')?.key, key)
    unsubscribe()
    state.apply([remove(podUid('shop', 'never'))])
    t.strictSame(heard, [1, 2])
  },
)

void t.test(
  'any order of changes that ends in the same objects ends in the same answers',
  async (t) => {
    // Few names, addresses and services, so that they collide all the time.
    const workload = fc
      .record({
        name: fc.integer({ min: 0, max: 4 }),
        addresses: fc.uniqueArray(fc.integer({ min: 1, max: 4 }), { maxLength: 2 }),
        service: fc.integer({ min: 0, max: 2 }),
        node: fc.constantFrom('node-a', 'node-b'),
      })
      .map(({ name, addresses, service, node }) =>
        sampleWorkload(`pod-${name}`, {
          addresses: addresses.map((last) => ip(`10.0.0.${last}`)),
          services: new Map([[serviceKey('shop', `service-${service}`), []]]),
          node,
        }),
      )
    const change = fc.oneof(
      { weight: 3, arbitrary: workload.map(upsert) },
      {
        weight: 1,
        arbitrary: fc
          .integer({ min: 0, max: 4 })
          .map((name) => remove(podUid('shop', `pod-${name}`))),
      },
    )
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
        const state = new MeshState()
        state.apply(changes)
        const last = new Map<WorkloadUid, Workload>()
        for (const each of changes) {
          if (each.kind === 'workload') last.set(each.workload.uid, each.workload)
          if (each.kind === 'workloadRemoved') last.delete(each.uid)
        }
        t.equal(state.size.workloads, last.size)
        for (let service = 0; service <= 2; service += 1) {
          const key = serviceKey('shop', `service-${service}`)
          const expected = uidsWhere(last, (each) => each.services.has(key))
          t.strictSame(new Set(state.endpoints(key).map(({ uid }) => uid)), expected)
          t.equal(state.endpoints(key).length, expected.size)
        }
        for (let lastByte = 1; lastByte <= 4; lastByte += 1) {
          const address = ip(`10.0.0.${lastByte}`)
          const claimants = uidsWhere(last, (each) => each.addresses.includes(address))
          const found = state.findWorkload(address)
          t.equal(found !== undefined, claimants.size > 0)
          if (found !== undefined) t.ok(claimants.has(found.uid))
        }
      }),
      { numRuns: 60 },
    )
  },
)

function uidsWhere(
  workloads: ReadonlyMap<WorkloadUid, Workload>,
  holds: (workload: Workload) => boolean,
): Set<WorkloadUid> {
  return new Set([...workloads.values()].filter(holds).map(({ uid }) => uid))
}

void t.test('what is written alike but is not the same is not shared', (t) => {
  const state = new MeshState()
  const parts = [
    { authorizationPolicies: ['a\nb'], locality: { region: 'r\tz', zone: '', subzone: '' } },
    { authorizationPolicies: ['a', 'b'], locality: { region: 'r', zone: 'z\t', subzone: '' } },
    { authorizationPolicies: ['a', 'b', ''], locality: { region: 'r', zone: 'z', subzone: '' } },
    { services: new Map([[serviceKey('n', 'a 0:\n'), []]]) },
    { services: new Map([[serviceKey('n', 'a'), []]]) },
  ]
  const workloads = parts.map((each, index) => sampleWorkload(`w${index}`, each))
  state.apply(workloads.map((workload) => ({ kind: 'workload', workload })))
  for (const workload of workloads) t.strictSame(state.workload(workload.uid), workload)
  t.end()
})

void t.test('nodes come and go, and with them what their node ports lead to', async (t) => {
  const state = new MeshState()
  const node = (name: string, ...addresses: string[]): MeshNode => ({
    key: `Kubernetes/${name}` as NodeKey,
    clusterId: 'Kubernetes',
    name,
    network: '',
    addresses: addresses.map(ip),
  })
  const service = sampleService('catalog', { nodePorts: [{ nodePort: 30_080, servicePort: 80 }] })
  const at = (address: string, port = 30_080) =>
    state.findService({ address: ip(address), port }, 'x')
  state.apply([{ kind: 'node', node: node('a', '172.30.0.2', 'fd98::2') }])
  t.equal(at('172.30.0.2'), undefined)
  state.apply([{ kind: 'service', service }])
  t.match(at('172.30.0.2'), { service, servicePort: 80, by: 'nodePort', node: { name: 'a' } })
  t.match(at('fd98::2'), { by: 'nodePort' })
  t.equal(at('172.30.0.2', 80), undefined)
  const copy = new MeshState()
  copy.apply(state.snapshot())
  t.match(copy.findService({ address: ip('172.30.0.2'), port: 30_080 }, 'x'), { by: 'nodePort' })
  state.apply([{ kind: 'node', node: node('a', '172.30.0.3') }])
  t.equal(at('172.30.0.2'), undefined)
  t.match(at('172.30.0.3'), { by: 'nodePort' })
  state.apply([{ kind: 'nodeRemoved', key: 'Kubernetes/a' as NodeKey }])
  t.equal(at('172.30.0.3'), undefined)
})

void t.test('Services may share an external address, each with its ports', async (t) => {
  const state = new MeshState()
  const shared = ip('198.51.100.7')
  const service = (name: string, servicePort: number, own: string) =>
    sampleService(name, {
      addresses: [ip(own), shared].map((address) => ({
        network: '',
        address,
        prefixLength: undefined,
      })),
      ports: [{ servicePort, targetPort: 8080, appProtocol: 'tcp' }],
      externalAddresses: [shared],
    })
  const [web, mail] = [service('web', 80, '10.96.0.1'), service('mail', 25, '10.96.0.2')]
  state.apply([web, mail].map((each) => ({ kind: 'service', service: each })))
  const at = (address: string, port: number) => {
    const match = state.findService({ address: ip(address), port }, 'x')
    return [match?.service.name, match?.by]
  }
  t.strictSame(at('198.51.100.7', 80), ['web', 'external'])
  t.strictSame(at('198.51.100.7', 25), ['mail', 'external'])
  t.strictSame(at('198.51.100.7', 22), [undefined, undefined])
  t.strictSame(at('10.96.0.1', 22), ['web', 'own'])
})

void t.test('a workload that is leaving a Service is still an endpoint of it', async (t) => {
  const state = new MeshState()
  const [catalog, basket] = [serviceKey('shop', 'catalog'), serviceKey('shop', 'basket')]
  const both = sampleWorkload('pod', {
    services: new Map([
      [catalog, []],
      [basket, []],
    ]),
    leaving: new Map([[catalog, []]]),
  })
  state.apply([upsert(both)])
  t.strictSame([state.endpoints(catalog), state.endpoints(basket)], [[both], [both]])
  const leaving = { ...both, services: new Map() }
  state.apply([upsert(leaving)])
  t.strictSame([state.endpoints(catalog), state.endpoints(basket)], [[leaving], []])
  state.apply([remove(both.uid)])
  t.strictSame(state.endpoints(catalog), [])
})
