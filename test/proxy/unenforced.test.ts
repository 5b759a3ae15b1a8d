// SPDX-License-Identifier: Apache-2.0
// Given policies that this agent cannot enforce yet, then it does not act as if there were none: calls into the pods that they
// concern are refused, whatever way they come, and said so, until the operator says otherwise.

import { once } from 'node:events'
import type { Socket } from 'node:net'
import { pino } from 'pino'
import t from 'tap'
import type { InboundCall } from '../../agent/proxy/admission.ts'
import { policyJudge, unenforcedPolicies } from '../../agent/proxy/decision/unenforced.ts'
import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import { PolicyWarnings } from '../../agent/unenforced-policies.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import {
  EMPTY_MATCH,
  POLICY,
  type PolicyKey,
  type PolicyScope,
  type Policy,
} from '../../mesh/model/policy.ts'
import type { IpAddress, MeshChange, SocketAddress } from '../../mesh/model/types.ts'
import { Subscription } from '../../mesh/xds/subscription.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { makeRoot } from '../hbone/certs.ts'
import { until } from '../support/until.ts'
import { resetOf } from './conversation.ts'
import {
  newAddress,
  type ServedPod,
  startAgent,
  startApp,
  testPod,
  workloadOf,
} from './loopback-world.ts'

const STRICT = 'istio-system/istio_converted_static_strict'

function policy(name: string, scope: PolicyScope, change: Partial<Policy> = {}): MeshChange {
  const namespace = change.namespace ?? 'shop'
  const key = `${namespace}/${name}` as PolicyKey
  const policy = { ...POLICY.zero, key, namespace, name, scope, ...change }
  return { kind: 'policy', policy }
}

const named = (pod: LocalPod, ...authorizationPolicies: readonly string[]): MeshChange => ({
  kind: 'workload',
  workload: workloadOf(pod, { authorizationPolicies }),
})

const catalog = testPod('catalog', '10.244.2.3' as IpAddress)
const callBy = (via: InboundCall['via']): InboundCall => ({
  peer: { address: '10.244.1.2' as IpAddress, port: 40_000 },
  peerIdentity: via === 'plaintext' ? undefined : testPod('frontend').identity,
  destination: catalog.uid,
  target: { address: '10.244.2.3' as IpAddress, port: 8080 },
  via,
})
const WAYS = ['hbone', 'plaintext', 'sameNode', 'kernel'] as const

await t.test('a policy that concerns the pod closes every way into it, by name', (t) => {
  for (const [change, key] of [
    [named(catalog, 'shop/only-frontend'), 'shop/only-frontend'],
    [policy('nobody', 'namespace'), 'shop/nobody'],
    [policy('nobody', 'mesh', { namespace: 'istio-system' }), 'istio-system/nobody'],
    [
      named(catalog, 'shop/converted_peer_authentication_ports'),
      'shop/converted_peer_authentication_ports',
    ],
  ] as const) {
    const mesh = new MeshState()
    mesh.apply([named(catalog), change])
    for (const via of WAYS) {
      const refusal = policyJudge(mesh, 'refuse')(callBy(via), catalog)
      t.match(refusal, { reason: 'policyDenied', by: { policy: key } }, `${key} by ${via}`)
      t.match(refusal?.message, `${key} concerns the pod and is not enforced yet`)
      t.equal(policyJudge(mesh, 'serve')(callBy(via), catalog), undefined, 'unless told to serve')
    }
  }
  t.end()
})

await t.test('policies of others, on trial, or gone, do not', (t) => {
  const mesh = new MeshState()
  mesh.apply([
    named(catalog, 'shop/trial'),
    named(testPod('other'), 'shop/only-frontend'),
    policy('only-frontend', 'workload'),
    policy('trial', 'workload', { isDryRun: true }),
    policy('trial-for-all', 'mesh', { isDryRun: true }),
    policy('theirs', 'namespace', { namespace: 'elsewhere' }),
    policy('gone', 'namespace'),
    { kind: 'policyRemoved', key: 'shop/gone' as PolicyKey },
    policy('was-wide', 'mesh'),
    policy('was-wide', 'workload'),
  ])
  t.same(unenforcedPolicies(mesh, catalog), [])
  const copy = new MeshState()
  copy.apply(mesh.snapshot())
  t.same([...copy.policies], [...mesh.policies], 'a new worker is told the same')
  t.end()
})

await t.test('STRICT is enforced: nobody without an identity, everybody with one', (t) => {
  const mesh = new MeshState()
  mesh.apply([named(catalog, STRICT)])
  t.same(unenforcedPolicies(mesh, catalog), [])
  for (const mode of ['refuse', 'serve'] as const) {
    const judge = policyJudge(mesh, mode)
    t.match(judge(callBy('plaintext'), catalog), { reason: 'policyDenied', by: { policy: STRICT } })
    for (const via of ['hbone', 'sameNode'] as const)
      t.equal(judge(callBy(via), catalog), undefined)
  }
  t.end()
})

await t.test('what istiod sends is read as far as it is needed', (t) => {
  const changes: MeshChange[] = []
  const subscription = new Subscription(AUTHORIZATION, '*', (policies) =>
    changes.push(...policies.map((each) => ({ kind: 'policy' as const, policy: each }))),
  )
  t.equal(subscription.typeUrl, 'type.googleapis.com/istio.security.Authorization')
  // name "deny", namespace "shop", scope NAMESPACE, action DENY, one rule with something in it.
  const bytes = Buffer.from('0a0464656e79120473686f70180120012a040a021200', 'hex')
  t.same(AUTHORIZATION.decode('shop/deny', bytes), {
    ok: true,
    value: {
      key: 'shop/deny',
      name: 'deny',
      namespace: 'shop',
      scope: 'namespace',
      action: 'deny',
      rules: [{ clauses: [{ matches: [EMPTY_MATCH] }], place: undefined }],
      isDryRun: false,
      isAudit: false,
      madeOf: '',
    },
  })
  t.match(AUTHORIZATION.decode('shop/other', bytes), { ok: false, error: { field: 'name' } })
  t.match(AUTHORIZATION.decode('shop/deny', Buffer.from('0a04', 'hex')), { ok: false })
  t.end()
})

const echo = (socket: Socket): void => {
  socket.pipe(socket)
}

async function standing(pod: ServedPod, to: SocketAddress): Promise<Socket> {
  const socket = await pod.call(to)
  socket.write('x')
  await once(socket, 'data')
  return socket
}

await t.test('a policy that comes cuts what is open, and lets nobody in', async (t) => {
  const root = await makeRoot()
  const agent = await startAgent(t, { root })
  const abroad = await startAgent(t, { root })
  const neighbour = await agent.servePod(testPod('frontend'))
  const served = await agent.servePod(testPod('catalog'))
  const remote = await abroad.servePod(testPod('remote', newAddress()))
  const [address] = served.pod.addresses as [IpAddress]
  const app = { address, port: await startApp(t, address, echo) }
  for (const each of [agent, abroad]) {
    for (const { pod } of [neighbour, served, remote])
      each.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: workloadOf(pod) }] })
    each.send({ kind: 'meshSynced' })
  }
  for (const [came, went] of [
    [named(served.pod, 'shop/only-frontend'), named(served.pod)],
    [policy('nobody', 'namespace'), { kind: 'policyRemoved', key: 'shop/nobody' as PolicyKey }],
  ] as const) {
    const resets = [await standing(neighbour, app), await standing(remote, app)].map(resetOf)
    const linesBefore = agent.lines.length
    agent.send({ kind: 'mesh', changes: [came] })
    t.same(await Promise.all(resets), ['ECONNRESET', 'ECONNRESET'])
    const told = agent.lines.slice(linesBefore).filter((line) => line['direction'] === 'inbound')
    t.match(told, [
      { error: /policy rejection.*is not enforced yet/ },
      { error: /policy rejection.*is not enforced yet/ },
    ])
    t.equal(await resetOf(await neighbour.call(app)), 'ECONNRESET')
    t.equal(await resetOf(await remote.call(app)), 'ECONNRESET')
    agent.send({ kind: 'mesh', changes: [went] })
    t.ok(await standing(neighbour, app), 'without it all is as before')
  }
})

await t.test('the operator is told, once for each pod and what concerns it', async (t) => {
  const mesh = new MeshState()
  const events: string[] = []
  const logged: string[] = []
  let pods: readonly LocalPod[] = [catalog, testPod('other', newAddress(), 'elsewhere')]
  const warnings = new PolicyWarnings({
    mesh,
    pods: () => pods,
    mode: 'refuse',
    events: {
      warn: (pod, reason, message) => void events.push(`${pod.name} ${reason} ${message}`),
    },
    log: pino({}, { write: (line: string) => void logged.push(line) }),
  })
  t.teardown(() => warnings.close())
  mesh.apply([named(catalog, 'shop/a')])
  await until(() => events.length === 1, 'the first event')
  t.match(events[0], /^catalog PolicyNotEnforced .*\(shop\/a\): all calls into it are refused/)
  t.match(logged[0], /"level":50.*AMB_POLICY_UNENFORCED/)
  t.equal(warnings.pods, 1)
  mesh.apply([named(catalog, 'shop/a'), policy('b', 'mesh', { namespace: 'root' })])
  await until(() => events.length === 3, 'one more of each pod')
  t.match(events.join('\n'), /catalog .*\(shop\/a, root\/b\)[^]*other .*\(root\/b\)/)
  t.equal(warnings.pods, 2)
  pods = []
  mesh.apply([named(catalog)])
  await until(() => warnings.pods === 0, 'nobody left')
  t.equal(events.length, 3)
})
