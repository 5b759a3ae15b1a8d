// SPDX-License-Identifier: Apache-2.0
// What statuses say, and when they are written.

import t from 'tap'
import {
  agentsByNode,
  enforcementOf,
  namers,
  WorkloadCounts,
} from '../../controller/status/enforcement.ts'
import { enforcedVerdict, wantedConditions } from '../../controller/status/policy-status.ts'
import { StatusBoard } from '../../controller/status/status-board.ts'
import { writeStatuses } from '../../controller/status/status-writer.ts'
import { authorizationStatus } from '../../controller/status/authorization-status.ts'
import { readAuthorizationPolicy } from '../../controller/istio-api/authorization-policy.ts'
import { Graph } from '../../mesh/collections/index.ts'
import {
  AUTHORIZATION_POLICIES,
  createKubeApi,
  type PolicyResource,
} from '../../mesh/kube/index.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import type { PolicyStatus } from '../../controller/status/policy-status.ts'
import type { ObjectKey } from '../../controller/core/origin.ts'
import { sampleWorkload } from '../model/samples.ts'
import { FaultyApi } from '../support/faulty-api.ts'
import { until } from '../support/until.ts'
import { silent } from '../xds/support.ts'
import { CONFIG, ORIGIN } from '../core/objects.ts'

const KEY = 'shop/p' as PolicyKey
const NOW = new Date('2026-01-02T03:04:05.678Z')

const agent = (node: string, isInStep: boolean) => ({
  caller: { node },
  isInStep: (name: string) => isInStep && name === KEY,
})

void t.test(
  'workloads count where an agent judges their calls, while they are there',
  async (t) => {
    const counts = new WorkloadCounts()
    const named = (node: string) => sampleWorkload('w', { node, authorizationPolicies: [KEY] })
    const plain = { ...named('node-a'), tunnelProtocol: 'none' as const }
    counts.update(undefined, named('node-a'))
    counts.update(undefined, named('node-b'))
    counts.update(undefined, { ...named('node-b'), nativeTunnel: true })
    counts.update(undefined, plain)
    t.strictSame(
      [...counts.at(namers(KEY))],
      [
        ['node-a', 1],
        ['node-b', 1],
      ],
    )
    counts.update(named('node-b'), { ...named('node-b'), authorizationPolicies: [] })
    counts.update(plain, named('node-a'))
    t.strictSame([...counts.at(namers(KEY))], [['node-a', 2]])
    counts.update(named('node-a'), undefined)
    counts.update(named('node-a'), undefined)
    t.equal(counts.at(namers(KEY)).size, 0)
  },
)

void t.test('a policy is in force where every agent of the node has acknowledged it', async (t) => {
  const workloads = new Map([
    ['a', 2],
    ['b', 3],
    ['c', 4],
    ['d', 5],
  ])
  const agents = agentsByNode([
    agent('a', true),
    agent('b', false),
    agent('c', true),
    agent('c', false),
  ])
  const counts = enforcementOf(KEY, workloads, agents)
  t.strictSame(counts, { concerned: 14, inForce: 2, lagging: ['b', 'c'], unseen: ['d'] })
  t.match(enforcedVerdict('enforced', 'agents', counts), {
    status: 'False',
    reason: 'Pending',
    message: /2 of 14 .* b, c; .* d$/,
  })
  const unseen = enforcementOf(KEY, workloads, agentsByNode([]))
  t.match(enforcedVerdict('enforced', 'agents', unseen), {
    status: 'Unknown',
    reason: 'AgentsNotSeen',
  })
  const all = enforcementOf(KEY, new Map([['a', 2]]), agents)
  t.match(enforcedVerdict('enforced', 'agents', all), {
    status: 'True',
    message: 'in force for 2 of 2 workloads',
  })
  t.match(enforcedVerdict('dryRun', 'agents', all), { status: 'False', reason: 'DryRun' })
  const none = enforcementOf(KEY, new Map(), agents)
  t.match(enforcedVerdict('enforced', 'agents', none), { status: 'False', reason: 'NoWorkloads' })
})

const seen = (conditions: readonly object[], generation = 2) => ({
  seen: { uid: 'u', generation, resourceVersion: '7', createdAt: '', conditions },
})
const accepted = {
  type: 'ZtunnelAccepted',
  status: 'True',
  reason: 'Accepted',
  message: 'm',
} as const

void t.test('a status keeps what others say, and times of what did not change', async (t) => {
  const theirs = { type: 'Theirs', status: 'True', anything: { at: ['all'] } }
  const first = wantedConditions(seen([theirs]), [accepted], NOW)
  const time = '2026-01-02T03:04:05Z'
  t.strictSame(first, [theirs, { ...accepted, observedGeneration: 2, lastTransitionTime: time }])
  t.equal(wantedConditions(seen(first ?? []), [accepted], NOW), undefined, 'nothing to write')
  const later = new Date('2026-02-01T00:00:00Z')
  const next = wantedConditions(seen(first ?? [], 3), [{ ...accepted, message: 'n' }], later)
  t.match(next?.[1], { message: 'n', observedGeneration: 3, lastTransitionTime: time })
  const changed = wantedConditions(seen(next ?? [], 3), [{ ...accepted, status: 'False' }], later)
  t.match(changed?.[1], { status: 'False', lastTransitionTime: '2026-02-01T00:00:00Z' })
  const waypoint = { type: 'WaypointAccepted', status: 'True', reason: 'Accepted', message: '' }
  const unbound = { ...waypoint, status: 'False', reason: 'AncestorNotBound' }
  t.match(wantedConditions(seen([waypoint]), [accepted], NOW)?.length, 2, "a waypoint's own stays")
  t.match(
    wantedConditions(seen([unbound]), [accepted], NOW)?.length,
    1,
    'what we said of none goes',
  )
  t.ok(wantedConditions(seen([{}, { type: 5 }]), [accepted], NOW), 'whatever stands there')
})

void t.test('what somebody else undoes is written again, less and less often', async (t) => {
  const kube = new FaultyApi()
  await kube.start()
  t.teardown(() => kube.stop())
  const object: PolicyResource = { metadata: { namespace: 'shop', name: 'p' }, spec: {} }
  kube.put(AUTHORIZATION_POLICIES, object)
  const graph = new Graph({ onFault: ({ error }) => t.fail(String(error)) })
  const statuses = graph.source<ObjectKey, PolicyStatus>('statuses')
  const board = new StatusBoard({
    statuses: [statuses],
    workloads: [],
    agents: () => new Map(),
    waypoints: () => new Map(),
  })
  const patches = () => kube.requests.filter(({ method }) => method === 'PATCH').length
  const { facts } = readAuthorizationPolicy(object, ORIGIN)
  if (facts === undefined) throw new Error('it is read')
  const ending = new AbortController()
  statuses.complete()
  statuses.set('shop/p' as ObjectKey, authorizationStatus(CONFIG, facts))
  const api = createKubeApi(kube.access())
  const writing = writeStatuses(api, { sources: [board], log: silent, signal: ending.signal })
  await until(() => patches() === 1, 'the first write')
  // The server goes on saying what it said before, and says so often.
  for (let version = 0; version < 100; version += 1) {
    const next = { ...facts, resourceVersion: String(version) }
    statuses.set('shop/p' as ObjectKey, authorizationStatus(CONFIG, next))
  }
  await until(() => patches() === 2, 'the second')
  const began = performance.now()
  await until(() => patches() === 3, 'the third')
  t.ok(performance.now() - began > 1_000, 'it waits longer')
  ending.abort()
  await writing
  const last = kube.requests.filter(({ method }) => method === 'PATCH').at(-1)
  t.match(last?.url.pathname, /authorizationpolicies\/p\/status$/)
})
