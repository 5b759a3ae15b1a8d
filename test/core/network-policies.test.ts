// SPDX-License-Identifier: Apache-2.0
// What controller and agent make of NetworkPolicies together is what the Kubernetes API says of them, however objects come and go; what
// cannot be read never opens anything; and what a change costs is what it concerns.

import fc from 'fast-check'
import t from 'tap'
import {
  egressRefusal,
  ingressRefusal,
  type OutboundCall,
} from '../../agent/proxy/decision/network-judge.ts'
import { podNetwork } from '../../agent/proxy/decision/pod-network-policies.ts'
import type { InboundCall } from '../../agent/proxy/admission.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { IpAddress, PodUid, WorkloadUid } from '../../mesh/model/types.ts'
import { decodeMeshState, encodeMeshState } from '../../mesh/xds/wire-state.ts'
import { MeshState as FreshState } from '../../mesh/model/mesh-state.ts'
import { podUid } from '../model/samples.ts'
import { type NaivePod, naivelyAllowed, type NaiveNetworkPolicy } from '../policy/naive-network.ts'
import { kubePod, running, startTranslator } from './objects.ts'

const kubePolicy = (name: string, spec: unknown, namespace = 'shop') => ({
  metadata: { name, namespace },
  spec,
})

const podOf = (mesh: MeshState, uid: WorkloadUid) => {
  const workload = mesh.workload(uid)
  return {
    namespace: workload?.namespace ?? '',
    workloadUid: uid,
    addresses: workload?.addresses ?? [],
  }
}

/** Whether the agents of both ends let the connection pass. */
function passes(
  mesh: MeshState,
  way: 'ingress' | 'egress',
  at: WorkloadUid,
  other: IpAddress,
  port: number,
): boolean {
  const pod = podOf(mesh, at)
  const network = podNetwork(mesh, pod.namespace, mesh.workload(at))
  if (way === 'ingress') {
    const [address = other] = pod.addresses
    const call: InboundCall = {
      peer: { address: other, port: 40_000 },
      peerIdentity: undefined,
      destination: 'pod' as PodUid,
      target: { address, port },
      via: 'plaintext',
    }
    return network.gap === undefined && ingressRefusal({ network }, call, pod, mesh) === undefined
  }
  const call: OutboundCall = { targets: [{ address: other, port }] }
  const policies = { layers: [], gap: undefined, network, gapMetAtMs: undefined }
  return egressRefusal(policies, call, pod, mesh, 'refuse', 0) === undefined
}

const KEYS = ['app', 'tier'] as const
const VALUES = ['a', 'b'] as const
const labels = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES))
const expression = fc.oneof(
  fc.record({
    key: fc.constantFrom(...KEYS, 'kubernetes.io/metadata.name'),
    operator: fc.constantFrom('In' as const, 'NotIn' as const),
    values: fc.uniqueArray(fc.constantFrom(...VALUES, 'shop'), { minLength: 1 }),
  }),
  fc.record({
    key: fc.constantFrom(...KEYS),
    operator: fc.constantFrom('Exists' as const, 'DoesNotExist' as const),
  }),
)
const selector = fc.record(
  {
    matchLabels: fc.oneof(labels, fc.constant({ 'kubernetes.io/metadata.name': 'bank' })),
    matchExpressions: fc.array(expression, { maxLength: 2 }),
  },
  { requiredKeys: [] },
)
const peer = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector: selector }),
  fc.record({ podSelector: selector, namespaceSelector: selector }),
  fc.record({
    ipBlock: fc.record(
      {
        cidr: fc.constantFrom('10.244.0.0/16', '10.244.0.0/30', '172.30.0.0/24', '0.0.0.0/0'),
        except: fc.array(fc.constantFrom('10.244.0.2/32', '10.244.0.0/31'), { maxLength: 2 }),
      },
      { requiredKeys: ['cidr'] },
    ),
  }),
)
const port = fc.oneof(
  fc.constant({}),
  fc.record({ protocol: fc.constantFrom('UDP', 'SCTP'), port: fc.constant(80) }),
  fc.record(
    { port: fc.constantFrom(80, 8080, 'http', 'admin'), protocol: fc.constant('TCP') },
    { requiredKeys: ['port'] },
  ),
  fc.constant({ port: 79, endPort: 81 }),
  fc.constant({ protocol: 'TCP' }),
)
const rule = (peers: 'from' | 'to') =>
  fc.record(
    { [peers]: fc.array(peer, { maxLength: 2 }), ports: fc.array(port, { maxLength: 2 }) },
    { requiredKeys: [] },
  )
const policy = fc.record({
  namespace: fc.constantFrom('shop', 'bank'),
  spec: fc.record(
    {
      podSelector: selector,
      policyTypes: fc.subarray(['Ingress', 'Egress']),
      ingress: fc.array(rule('from'), { maxLength: 2 }),
      egress: fc.array(rule('to'), { maxLength: 2 }),
    },
    { requiredKeys: ['podSelector'] },
  ),
})
const pod = fc.record({
  namespace: fc.constantFrom('shop', 'bank'),
  labels,
  hostNetwork: fc.boolean(),
  ports: fc.subarray([
    { name: 'http', containerPort: 8080 },
    { name: 'admin', containerPort: 80 },
  ]),
})
const NAMES = ['x', 'y', 'z'] as const
const step = fc.oneof(
  fc.record({ kind: fc.constant('pod' as const), at: fc.nat(3), pod }),
  fc.record({ kind: fc.constant('podGone' as const), at: fc.nat(3) }),
  fc.record({ kind: fc.constant('policy' as const), name: fc.constantFrom(...NAMES), policy }),
  fc.record({ kind: fc.constant('policyGone' as const), name: fc.constantFrom(...NAMES) }),
  fc.record({
    kind: fc.constant('namespace' as const),
    name: fc.constantFrom('shop', 'bank'),
    labels,
  }),
)

/** A full cluster, and then what happens to it. */
const history = fc
  .tuple(
    fc.array(pod, { minLength: 4, maxLength: 4 }),
    fc.array(policy, { minLength: 3, maxLength: 3 }),
    fc.array(step, { maxLength: 8, size: 'max' }),
  )
  .map(([pods, policies, steps]) => [
    ...pods.map((each, at) => ({ kind: 'pod' as const, at, pod: each })),
    ...policies.map((each, at) => ({
      kind: 'policy' as const,
      name: NAMES[at] ?? 'x',
      policy: each,
    })),
    ...steps,
  ])

void t.test('it is as the Kubernetes API reads, in whatever order things come', async (t) => {
  let refusals = 0
  fc.assert(
    fc.property(history, (steps) => {
      const { translator, state } = startTranslator()
      const pods = new Map<number, NaivePod>()
      const policies = new Map<string, NaiveNetworkPolicy>()
      const namespaces = new Map<string, Record<string, string>>()
      const putNamespace = (name: string, own: Record<string, string>): void => {
        translator.upsert('Namespace', { metadata: { name, labels: own } })
        namespaces.set(name, own)
      }
      for (const name of ['shop', 'bank']) putNamespace(name, {})
      translator.complete()
      const remove = (at: number): void => {
        translator.delete('Pod', pods.get(at)?.namespace ?? '', `p${at}`)
        pods.delete(at)
      }
      for (const each of steps)
        if (each.kind === 'namespace') putNamespace(each.name, each.labels)
        else if (each.kind === 'podGone') remove(each.at)
        else if (each.kind === 'pod') {
          remove(each.at)
          const { hostNetwork, ports } = each.pod
          const ip = hostNetwork ? `172.30.0.${each.at + 1}` : `10.244.0.${each.at + 1}`
          const spec = { hostNetwork, containers: [{ name: 'main', ports: [...ports] }] }
          translator.upsert(
            'Pod',
            kubePod(`p${each.at}`, { ...each.pod, spec, status: running(ip) }),
          )
          pods.set(each.at, { ...each.pod, ip })
        } else if (each.kind === 'policy') {
          for (const namespace of ['shop', 'bank'])
            translator.delete('NetworkPolicy', namespace, each.name)
          translator.upsert(
            'NetworkPolicy',
            kubePolicy(each.name, each.policy.spec, each.policy.namespace),
          )
          policies.set(each.name, each.policy)
        } else {
          for (const namespace of ['shop', 'bank'])
            translator.delete('NetworkPolicy', namespace, each.name)
          policies.delete(each.name)
        }
      for (const [index, at] of pods)
        for (const other of pods.values())
          for (const way of ['ingress', 'egress'] as const)
            for (const asked of [80, 81, 8080]) {
              const uid = podUid(at.namespace, `p${index}`)
              const is = passes(state, way, uid, other.ip as IpAddress, asked)
              const wanted = naivelyAllowed(
                way,
                [...policies.values()],
                namespaces,
                at,
                other,
                asked,
              )
              if (!wanted) refusals += 1
              if (is !== wanted) return false
            }
      return true
    }),
    { numRuns: 600 },
  )
  t.ok(refusals > 500, `${refusals} refusals among them`)
})

/** A pod `web` that is selected by a policy of this spec, called by `client` of its namespace. */
function selectedBy(spec: unknown) {
  const { translator, state, problems, pod: find } = startTranslator()
  translator.upsert('Namespace', { metadata: { name: 'shop' } })
  translator.upsert(
    'Pod',
    kubePod('web', { labels: { app: 'web' }, status: running('10.244.0.1') }),
  )
  translator.upsert(
    'Pod',
    kubePod('client', { labels: { app: 'client' }, status: running('10.244.0.2') }),
  )
  translator.upsert('NetworkPolicy', kubePolicy('np', spec))
  translator.complete()
  const admits = (asked: number, from = '10.244.0.2'): boolean =>
    passes(state, 'ingress', podUid('shop', 'web'), from as IpAddress, asked)
  const lets = (asked: number, to = '10.244.0.2'): boolean =>
    passes(state, 'egress', podUid('shop', 'web'), to as IpAddress, asked)
  return { admits, lets, problems, find, state }
}

const FROM_CLIENT = { podSelector: { matchLabels: { app: 'client' } } }

void t.test('a rule that lets 15008 through opens nothing', async (t) => {
  const { admits } = selectedBy({
    podSelector: {},
    ingress: [{ ports: [{ port: 15_008 }] }, { from: [FROM_CLIENT], ports: [{ port: 'http' }] }],
  })
  t.ok(admits(8080))
  t.notOk(admits(9090))
  t.notOk(admits(8080, '10.244.0.9'), 'an address of nobody')
  t.ok(admits(9090, '10.244.0.1'), 'itself')
})

void t.test('what cannot be read opens nothing, and says which field it was', async (t) => {
  const closed: readonly (readonly [string, unknown])[] = [
    ['spec', 'garbled'],
    ['spec.selektor', { podSelector: {}, selektor: {} }],
    ['spec.podSelector.matchLabels[app]', { podSelector: { matchLabels: { app: 1 } } }],
    ['spec.ingress', { podSelector: {}, ingress: {} }],
    ['spec.ingress[0].form', { podSelector: {}, ingress: [{ form: [] }] }],
    ['spec.ingress[0].from', { podSelector: {}, ingress: [{ from: 'all' }] }],
    ['spec.ingress[0].from[0]', { podSelector: {}, ingress: [{ from: [{}] }] }],
    [
      'spec.ingress[0].from[0].podSelector.matchExpressions[0]',
      {
        podSelector: {},
        ingress: [
          { from: [{ podSelector: { matchExpressions: [{ key: 'app', operator: 'Like' }] } }] },
        ],
      },
    ],
    [
      'spec.ingress[0].from[0].ipBlock.except[0]',
      {
        podSelector: {},
        ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1/16'] } }] }],
      },
    ],
    ['spec.ingress[0].ports', { podSelector: {}, ingress: [{ ports: 80 }] }],
    ['spec.ingress[0].ports[0].port', { podSelector: {}, ingress: [{ ports: [{ port: 0 }] }] }],
    [
      'spec.ingress[0].ports[0].endPort',
      { podSelector: {}, ingress: [{ ports: [{ port: 9000, endPort: 80 }] }] },
    ],
    [
      'spec.ingress[0].ports[0].protocol',
      { podSelector: {}, ingress: [{ ports: [{ protocol: 'tcp', port: 8080 }] }] },
    ],
    [
      'spec.ingress',
      {
        podSelector: {},
        ingress: [{ ports: Array.from({ length: 10_001 }, () => ({ port: 8080 })) }],
      },
    ],
  ]
  for (const [field, spec] of closed) {
    const { admits, problems } = selectedBy(spec)
    t.notOk(admits(8080), field)
    t.match(problems, [{ kind: 'NetworkPolicy', name: 'np', field }], field)
  }
  const { admits, lets, problems } = selectedBy({ podSelector: {}, policyTypes: ['Inbound'] })
  t.same([admits(8080), lets(8080)], [false, false], 'types that are none: both')
  t.match(problems, [{ field: 'spec.policyTypes' }])
})

void t.test('egress to a name server by TCP is a rule like any other', async (t) => {
  const { lets } = selectedBy({
    podSelector: {},
    policyTypes: ['Egress'],
    egress: [
      {
        to: [{ ipBlock: { cidr: '10.96.0.10/32' } }],
        ports: [
          { protocol: 'UDP', port: 53 },
          { protocol: 'TCP', port: 53 },
        ],
      },
    ],
  })
  t.ok(lets(53, '10.96.0.10'))
  t.notOk(lets(80, '10.96.0.10'))
  t.notOk(lets(53, '192.0.2.1'))
})

void t.test('a pod that has ended is nobody any more; one that is ending still is', async (t) => {
  const { translator, state } = startTranslator()
  translator.upsert('Namespace', { metadata: { name: 'shop' } })
  translator.upsert('Pod', kubePod('web', { status: running('10.244.0.1') }))
  translator.upsert(
    'NetworkPolicy',
    kubePolicy('np', { podSelector: {}, ingress: [{ from: [FROM_CLIENT] }] }),
  )
  translator.complete()
  const client = (change: object) =>
    translator.upsert(
      'Pod',
      kubePod('client', { labels: { app: 'client' }, status: running('10.244.0.2'), ...change }),
    )
  const admits = (): boolean =>
    passes(state, 'ingress', podUid('shop', 'web'), '10.244.0.2' as IpAddress, 8080)
  client({})
  t.ok(admits())
  client({ deletionTimestamp: '2026-11-28T00:00:00Z' })
  t.ok(admits())
  client({ status: { ...running('10.244.0.2'), phase: 'Succeeded' } })
  t.notOk(admits(), 'its address may be another’s')
})

void t.test('a pod’s change is one change of one workload, whoever speaks of it', async (t) => {
  const { translator, state, batches } = startTranslator()
  const COUNT = 2_000
  translator.upsert('Namespace', { metadata: { name: 'shop' } })
  for (let index = 0; index < COUNT; index += 1) {
    const app = `app-${index}`
    const status = running(`10.0.${index >> 8}.${index & 255}`)
    translator.upsert('Pod', kubePod(`pod-${index}`, { labels: { app }, status }))
    translator.upsert(
      'NetworkPolicy',
      kubePolicy(`np-${index}`, {
        podSelector: { matchLabels: { app } },
        ingress: [
          { from: [{ podSelector: { matchLabels: { app: `app-${(index + 1) % COUNT}` } } }] },
        ],
      }),
    )
  }
  translator.complete()
  batches.length = 0
  const status = running('10.0.0.0')
  translator.upsert('Pod', kubePod('pod-0', { labels: { app: 'app-1' }, status }))
  t.match(batches, [[{ kind: 'workload', workload: { name: 'pod-0' } }]])
  t.same(batches.flat().length, 1)
  batches.length = 0
  translator.upsert(
    'NetworkPolicy',
    kubePolicy('np-7', { podSelector: { matchLabels: { app: 'app-7' } } }),
  )
  t.same(
    batches.flat().map(({ kind }) => kind),
    ['networkPolicy', 'workload'],
    'the policy, and the pod that is in the group no more',
  )
  t.equal([...state.networkPolicies].length, COUNT)
})

void t.test('the state that travels and is kept is the same', async (t) => {
  const { state } = selectedBy({
    podSelector: {},
    policyTypes: ['Ingress', 'Egress'],
    ingress: [{ from: [FROM_CLIENT], ports: [{ port: 'http' }, { port: 90, endPort: 99 }] }],
    egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] } }] }],
  })
  const fresh = new FreshState()
  const read = decodeMeshState(encodeMeshState(state))
  if (!read.ok) throw new Error(read.error)
  fresh.apply(read.value)
  t.strictSame([...fresh.networkPolicies], [...state.networkPolicies])
  t.strictSame(fresh.workload(podUid('shop', 'web')), state.workload(podUid('shop', 'web')))
})
