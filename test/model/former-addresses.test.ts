// SPDX-License-Identifier: Apache-2.0
// Who was at an address until not long ago: remembered for a while, and only who was of the mesh.

import t, { type Test } from 'tap'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import type {
  MeshChange,
  MeshNode,
  NodeKey,
  Service,
  Workload,
  WorkloadUid,
} from '../../mesh/model/types.ts'
import { ip, sampleService, sampleWorkload } from './samples.ts'

const MINUTE_MS = 60_000
const ADDRESS = ip('10.244.0.1')
const VIP = ip('10.96.0.50')
const NODE = ip('172.30.0.2')
const upsert = (workload: Workload): MeshChange => ({ kind: 'workload', workload })
const remove = ({ uid }: { readonly uid: WorkloadUid }): MeshChange => ({
  kind: 'workloadRemoved',
  uid,
})
const known = (service: Service): MeshChange => ({ kind: 'service', service })
const deleted = ({ key }: Service): MeshChange => ({ kind: 'serviceRemoved', key })

/** A state and the clock it goes by. */
function world(): { readonly state: MeshState; readonly pass: (ms: number) => void } {
  let nowMs = 1_000
  const pass = (ms: number): void => {
    nowMs += ms
  }
  return { state: new MeshState({ now: () => nowMs }), pass }
}

void t.test('a workload that is gone is remembered for five minutes', async (t) => {
  const { state, pass } = world()
  const pod = sampleWorkload('catalog')
  state.apply([upsert(pod)])
  t.equal(state.formerWorkload(ADDRESS), undefined, 'it is there')
  state.apply([remove(pod)])
  t.equal(state.findWorkload(ADDRESS), undefined)
  t.strictSame(state.formerWorkload(ADDRESS), pod)
  pass(5 * MINUTE_MS - 1)
  t.strictSame(state.formerWorkload(ADDRESS), pod)
  pass(1)
  t.equal(state.formerWorkload(ADDRESS), undefined)
})

void t.test('the last one that had the address counts', async (t) => {
  const { state } = world()
  const [one, other] = [sampleWorkload('one'), sampleWorkload('other')]
  const plain = sampleWorkload('plain', { tunnelProtocol: 'none' })
  state.apply([upsert(one), upsert(other), remove(other), remove(one)])
  t.equal(state.formerWorkload(ADDRESS)?.uid, one.uid)
  state.apply([upsert(plain)])
  t.equal(state.findWorkload(ADDRESS)?.uid, plain.uid)
  state.apply([remove(plain)])
  t.equal(state.formerWorkload(ADDRESS), undefined, 'it was not of the mesh')
  state.apply([upsert(one), upsert({ ...one, tunnelProtocol: 'none' }), remove(one)])
  t.equal(state.formerWorkload(ADDRESS), undefined, 'it had left the mesh before')
})

void t.test('an address that a workload has no more is one that it had', async (t) => {
  const { state } = world()
  const pod = sampleWorkload('catalog', { addresses: [ADDRESS, ip('fd00::1')] })
  state.apply([upsert(pod), upsert({ ...pod, addresses: [ip('10.244.0.2'), ip('fd00::1')] })])
  t.equal(state.formerWorkload(ADDRESS)?.uid, pod.uid)
  t.equal(state.formerWorkload(ip('fd00::1')), undefined, 'it has it yet')
  const host = sampleWorkload('host', { foundBy: 'service', addresses: [NODE] })
  state.apply([upsert(host), remove(host)])
  t.equal(state.formerWorkload(NODE), undefined, 'a node’s address is not its pods’')
})

void t.test('another thread remembers the same, by a clock of its own', async (t) => {
  const [{ state, pass }, other] = [world(), world()]
  const service = sampleService('catalog', { nodePorts: [{ nodePort: 30_080, servicePort: 80 }] })
  const plain = sampleService('plain', { addresses: [] })
  const pod = sampleWorkload('catalog', {
    services: new Map([
      [service.key, []],
      [plain.key, []],
    ]),
  })
  state.apply([known(service), known(plain), upsert(pod)])
  state.apply([remove(pod), deleted(service)])
  pass(MINUTE_MS / 2)
  other.pass(77 * MINUTE_MS)
  other.state.recall(structuredClone(state.formerly))
  t.strictSame(other.state.formerWorkload(ADDRESS), pod)
  t.equal(other.state.formerService({ address: VIP, port: 80 })?.name, 'catalog')
  t.ok(other.state.hadMeshEndpoint(plain.key))
  other.pass(MINUTE_MS / 2)
  t.equal(other.state.formerService({ address: VIP, port: 80 }), undefined)
  t.notOk(other.state.hadMeshEndpoint(plain.key))
  t.strictSame(other.state.formerWorkload(ADDRESS), pod)
  other.pass(4 * MINUTE_MS)
  t.equal(other.state.formerWorkload(ADDRESS), undefined)
})

void t.test('of what leaves in a crowd the oldest are forgotten', async (t) => {
  const { state } = world()
  const pods = Array.from({ length: 10_010 }, (_, index) =>
    sampleWorkload(`pod-${index}`, { addresses: [ip(`10.${index >> 8}.${index & 255}.1`)] }),
  )
  state.apply(pods.map(upsert))
  state.apply(pods.map(remove))
  state.apply([])
  const isKnown = pods.map(({ addresses: [address = ADDRESS] }) => state.formerWorkload(address))
  t.equal(isKnown.filter((each) => each === undefined).length, 10)
  t.equal(isKnown[9], undefined)
  t.strictSame(isKnown[10], pods[10])
})

/** The service with an endpoint is deleted; who is remembered at its address, at a port that it had and at one that it had not. */
function afterwards(
  t: Test,
  overrides: Partial<Service>,
  endpoint?: Partial<Workload>,
): readonly (string | undefined)[] {
  const { state, pass } = world()
  const service = sampleService('catalog', overrides)
  const pod = sampleWorkload('catalog', { services: new Map([[service.key, []]]), ...endpoint })
  state.apply([known(service), ...(endpoint === undefined ? [] : [upsert(pod)]), deleted(service)])
  const former = (port: number): string | undefined =>
    state.formerService({ address: VIP, port })?.name
  const found = [former(80), former(81)]
  pass(MINUTE_MS)
  t.equal(former(80), undefined, 'only for a minute')
  return found
}

void t.test('a Service that led into the mesh is remembered for a minute', async (t) => {
  const waypoint = {
    destination: { kind: 'address', network: '', address: NODE },
    hbonePort: 15_008,
  } as const
  const passthrough = { ...sampleService('catalog').loadBalancing, mode: 'passthrough' } as const
  t.strictSame(afterwards(t, {}, {}), ['catalog', 'catalog'], 'its own address, with any port')
  t.strictSame(afterwards(t, {}, { tunnelProtocol: 'none' }), [undefined, undefined], 'plain')
  t.strictSame(afterwards(t, {}), [undefined, undefined], 'without endpoints')
  t.strictSame(afterwards(t, { waypoint }), ['catalog', 'catalog'], 'bound to a waypoint')
  t.strictSame(
    afterwards(t, { externalAddresses: [VIP] }, {}),
    ['catalog', undefined],
    'an address that it shares, with its ports',
  )
  for (const [what, overrides] of [
    ['no Service of Kubernetes', { canonical: false }],
    ['where the app’s address is called as it is', { loadBalancing: passthrough }],
  ] as const)
    t.strictSame(afterwards(t, overrides, {}), [undefined, undefined], what)
})

void t.test('a Service whose endpoints go before it led to the last of them', async (t) => {
  const { state } = world()
  const service = sampleService('catalog')
  const pod = sampleWorkload('catalog', { services: new Map([[service.key, []]]) })
  state.apply([known(service), upsert(pod)])
  state.apply([remove(pod)])
  state.apply([deleted(service)])
  t.equal(state.formerService({ address: VIP, port: 80 })?.name, 'catalog')
  state.apply([known(service)])
  t.equal(state.findService({ address: VIP, port: 80 }, 'x')?.service.name, 'catalog')
})

void t.test('what a Service gives up while it lives it had, too', async (t) => {
  const { state } = world()
  const node: MeshNode = {
    key: 'Kubernetes/a' as NodeKey,
    name: 'a',
    clusterId: 'Kubernetes',
    network: '',
    addresses: [NODE],
  }
  const external = ip('192.0.2.7')
  const { addresses, ports } = sampleService('catalog')
  const own = addresses[0] ?? { network: '', address: VIP, prefixLength: undefined }
  const wide = sampleService('catalog', {
    addresses: [own, { ...own, address: external }],
    ports: [...ports, { servicePort: 443, targetPort: 8443, appProtocol: 'unknown' }],
    externalAddresses: [external],
    nodePorts: [{ nodePort: 30_080, servicePort: 80 }],
  })
  const pod = sampleWorkload('catalog', { services: new Map([[wide.key, []]]) })
  const former = (address: typeof VIP, port: number): string | undefined =>
    state.formerService({ address, port })?.name
  state.apply([{ kind: 'node', node }, upsert(pod), known(wide)])
  t.strictSame(
    [former(external, 443), former(external, 80), former(NODE, 30_080)],
    [undefined, undefined, undefined],
    'nothing is given up',
  )
  state.apply([known({ ...wide, ports })])
  t.equal(former(external, 443), 'catalog', 'a port of an address that it shares')
  state.apply([known(sampleService('catalog'))])
  t.equal(former(external, 80), 'catalog', 'such an address')
  t.equal(former(NODE, 30_080), 'catalog', 'a port of the nodes')
  t.equal(former(NODE, 30_081), undefined)
  t.equal(former(external, 30_080), undefined, 'which others do not have')
})
