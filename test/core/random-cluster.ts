// SPDX-License-Identifier: Apache-2.0
// Events of a small cluster at random, in which everything collides: names, addresses, ports, uids, claims.

import fc from 'fast-check'
import type { InputKind, InputObjects } from '../../controller/core/input.ts'
import { kubePod, kubeService, kubeSlice, type startTranslator } from './objects.ts'

/** An object comes or changes; without one it goes. */
export interface ClusterEvent {
  readonly kind: InputKind
  readonly name: string
  readonly object: InputObjects[InputKind] | undefined
}

export const POD_ADDRESSES = ['10.0.0.1', '10.0.0.2'] as const
export const NODE_ADDRESSES = ['172.30.0.0', '172.30.0.1'] as const
export const OUTSIDE_ADDRESSES = ['192.0.2.1', '192.0.2.2'] as const
export const EXTERNAL_ADDRESSES = ['198.51.100.1', '198.51.100.2'] as const
export const CLUSTER_IPS = ['10.96.0.0', '10.96.0.1', '10.96.0.2'] as const
export const CLUSTER_IPS_6 = ['fd96::10', 'fd96::11', 'fd96::12'] as const
export const NODE_PORTS = [30_080, 30_081] as const

const pick = <T>(...values: readonly T[]) => fc.constantFrom(...values)
const name = (prefix: string, count: number) =>
  fc.integer({ min: 0, max: count - 1 }).map((index) => `${prefix}-${index}`)

/** Where an address is, whoever has it: slices and pods do not contradict each other in that. */
const nodeOf = (address: string): string => `node-${Number(address.at(-1)) % 2}`
/** The address of a pod's other family. */
const sixOf = (address: string): string => `fd10::a${address.at(-1)}`

const podEvent = fc
  .record({
    name: name('pod', 4),
    uid: pick('1', '2'),
    phase: pick('Running', 'Running', 'Running', 'Failed'),
    address: pick(...POD_ADDRESSES, ...NODE_ADDRESSES, ''),
    isDual: fc.boolean(),
    isReady: fc.boolean(),
  })
  .map(({ name, uid, phase, address, isDual, isReady }): ClusterEvent => {
    const isHost = NODE_ADDRESSES.some((each) => each === address)
    const ips = isDual && !isHost ? [address, sixOf(address)] : [address]
    const object = kubePod(name, {
      uid: `${name}-${uid}`,
      spec: { nodeName: nodeOf(address), ...(isHost ? { hostNetwork: true } : {}) },
      status: {
        phase,
        podIPs: address === '' ? [] : ips.map((ip) => ({ ip })),
        conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }],
      },
    })
    return { kind: 'Pod', name, object }
  })

const serviceEvent = fc
  .record({
    index: fc.integer({ min: 0, max: 2 }),
    clusterIp: pick<number | undefined>(undefined, undefined, undefined, 0),
    isHeadless: pick(false, false, false, false, false, false, true),
    isDual: fc.boolean(),
    portName: pick('http', 'http', 'http', ''),
    nodePort: pick<number | undefined>(undefined, ...NODE_PORTS),
    createdAt: pick('2026-01-01T00:00:00Z', '2026-02-01T00:00:00Z'),
    isLocal: pick(false, false, true),
    isLocalOutside: fc.boolean(),
    balancers: fc.subarray([...EXTERNAL_ADDRESSES, NODE_ADDRESSES[0]]),
    external: fc.subarray([
      ...EXTERNAL_ADDRESSES,
      NODE_ADDRESSES[1],
      POD_ADDRESSES[0],
      CLUSTER_IPS[1],
      OUTSIDE_ADDRESSES[0],
    ]),
  })
  .map((each): ClusterEvent => {
    const name = `service-${each.index}`
    const four = CLUSTER_IPS[each.clusterIp ?? each.index] ?? ''
    const six = CLUSTER_IPS_6[each.index] ?? ''
    const clusterIPs = each.isHeadless ? ['None'] : each.isDual ? [four, six] : [four]
    const service = kubeService(
      name,
      {
        type: 'LoadBalancer',
        clusterIP: clusterIPs[0] ?? '',
        clusterIPs,
        ipFamilies: each.isDual ? ['IPv4', 'IPv6'] : ['IPv4'],
        ports: [
          {
            name: each.portName,
            port: 80,
            targetPort: 'http',
            ...(each.nodePort === undefined ? {} : { nodePort: each.nodePort }),
          },
        ],
        externalIPs: each.external,
        internalTrafficPolicy: each.isLocal ? 'Local' : 'Cluster',
        externalTrafficPolicy: each.isLocalOutside ? 'Local' : 'Cluster',
      },
      { creationTimestamp: each.createdAt },
    )
    const ingress = each.balancers.map((ip) => ({ ip }))
    return { kind: 'Service', name, object: { ...service, status: { loadBalancer: { ingress } } } }
  })

const conditions = fc.record(
  { ready: fc.boolean(), serving: fc.boolean(), terminating: fc.boolean() },
  { requiredKeys: [] },
)
const targetRef = fc.option(
  fc.record({ pod: name('pod', 4), uid: pick('1', '2', undefined) }).map(({ pod, uid }) => ({
    kind: 'Pod',
    name: pod,
    ...(uid === undefined ? {} : { uid: `${pod}-${uid}` }),
  })),
  { nil: undefined },
)
const sliceEvent = fc
  .record({
    name: name('slice', 4),
    service: name('service', 3),
    isSix: pick(false, false, false, true),
    endpoints: fc.array(
      fc.record({
        address: pick(...POD_ADDRESSES, ...POD_ADDRESSES, ...NODE_ADDRESSES, ...OUTSIDE_ADDRESSES),
        conditions,
        targetRef,
      }),
      { maxLength: 4 },
    ),
    ports: fc.array(
      fc.record({ name: pick('http', 'http', 'http', ''), port: pick(1000, 1000, 2000) }),
      { minLength: 1, maxLength: 2 },
    ),
  })
  .map(({ name, service, isSix, endpoints, ports }): ClusterEvent => {
    const listed = endpoints.map(({ address, conditions, targetRef }) => ({
      addresses: [isSix ? sixOf(address) : address],
      conditions,
      nodeName: nodeOf(address),
      ...(targetRef === undefined ? {} : { targetRef }),
    }))
    const object = kubeSlice(name, service, listed, ports)
    return {
      kind: 'EndpointSlice',
      name,
      object: { ...object, addressType: isSix ? 'IPv6' : 'IPv4' },
    }
  })

const nodeEvent = fc
  .record({ index: pick(0, 1), zone: pick('z1', 'z2') })
  .map(({ index, zone }): ClusterEvent => {
    const name = `node-${index}`
    const object = {
      metadata: { name, labels: { 'topology.kubernetes.io/zone': zone } },
      status: { addresses: [{ type: 'InternalIP', address: NODE_ADDRESSES[index] ?? '' }] },
    }
    return { kind: 'Node', name, object }
  })

const namespaceEvent = pick('PreferClose', 'Any').map((wish): ClusterEvent => {
  const annotations = { 'networking.istio.io/traffic-distribution': wish }
  return { kind: 'Namespace', name: 'shop', object: { metadata: { name: 'shop', annotations } } }
})

const upsert = fc.oneof(
  { weight: 3, arbitrary: podEvent },
  { weight: 2, arbitrary: serviceEvent },
  { weight: 4, arbitrary: sliceEvent },
  { weight: 1, arbitrary: nodeEvent },
  { weight: 1, arbitrary: namespaceEvent },
)

/** One event; one of five takes an object away. */
export const clusterEvent: fc.Arbitrary<ClusterEvent> = fc.oneof(
  { weight: 4, arbitrary: upsert },
  { weight: 1, arbitrary: upsert.map(({ kind, name }) => ({ kind, name, object: undefined })) },
)

/** Tells a translator of it. */
export function feed(
  { translator }: ReturnType<typeof startTranslator>,
  { kind, name, object }: ClusterEvent,
): void {
  if (object === undefined) translator.delete(kind, 'shop', name)
  else translator.upsert(kind, object)
}

/** What is there after the events, of one kind. */
export function remaining<K extends InputKind>(
  events: readonly ClusterEvent[],
  kind: K,
): readonly InputObjects[K][] {
  const last = new Map<string, ClusterEvent['object']>()
  for (const each of events) if (each.kind === kind) last.set(each.name, each.object)
  // The kind says what its objects are.
  return [...last.values()].filter((object) => object !== undefined) as InputObjects[K][]
}
