// SPDX-License-Identifier: Apache-2.0
// Policies from kubectl's end to the agent's: what is applied is served, and its status says what became of it.

import t from 'tap'
import { absentKinds } from '../../lab/cluster/mesh.ts'
import { AUTHORIZATION_POLICIES, PEER_AUTHENTICATIONS } from '../../mesh/kube/index.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import { podUid } from '../model/samples.ts'
import { until } from '../support/until.ts'
import { runController } from './controller-process.ts'
import { agentOf, enrolledPod, installKinds, policy, says } from './policy-cluster.ts'
import { expectOk, smallCluster } from './small-cluster.ts'

void t.test('what is applied reaches agents, and its status says for how many', async (t) => {
  const cluster = await smallCluster(t)
  await installKinds(cluster)
  const agent = await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b')
  await enrolledPod(cluster, 'catalog', 'node-b')
  const controller = await cluster.controller()
  const state = await agentOf(t, cluster, controller, await cluster.tokenFile(agent))
  const selector = { matchLabels: { app: 'catalog' } }
  const rules = [{ from: [{ source: { principals: ['cluster.local/ns/shop/sa/frontend'] } }] }]
  expectOk(
    await cluster.admin.create(
      AUTHORIZATION_POLICIES,
      policy('frontend-only', { action: 'ALLOW', selector, rules }),
    ),
  )
  const key = 'shop/frontend-only' as PolicyKey
  const named = () => state.workload(podUid('shop', 'catalog'))?.authorizationPolicies
  await until(() => named()?.includes(key) === true, 'the workload that names the policy')
  t.match(state.policies.get(key), { action: 'allow', scope: 'workload', rules: [{ place: 0 }] })
  await says(cluster, 'frontend-only', [
    /^ZtunnelAccepted True Accepted agents have it as it is written$/,
    /^Enforced True InForce in force for 1 of 1 workload$/,
  ])

  // Of a node whose agent is not there nobody can say anything.
  await enrolledPod(cluster, 'stray', 'node-a')
  expectOk(await cluster.admin.create(AUTHORIZATION_POLICIES, policy('wide', { rules: [{}] })))
  await says(cluster, 'wide', [/^Enforced Unknown AgentsNotSeen in force for 1 of 2 .* node-a$/])

  const edit = { spec: { rules: [{ to: [{ operation: { methods: ['GET'] } }] }] } }
  const target = { namespace: 'shop', name: 'frontend-only' }
  expectOk(await cluster.admin.patch(AUTHORIZATION_POLICIES, target, edit))
  await says(cluster, 'frontend-only', [
    /^ZtunnelAccepted True UnsupportedValue stricter .* spec.rules\[0\].to\[0\].operation.methods .* waypoint/,
    /^Enforced True InForce in force for 1 of 1 workload$/,
  ])
  t.strictSame(state.policies.get(key)?.rules, [], 'and it allows nothing')

  const others = {
    custom: [
      { action: 'CUSTOM', rules: [{}] },
      /^ZtunnelAccepted False UnsupportedValue NOT IN FORCE/,
    ],
    attached: [
      { targetRefs: [{ kind: 'Service', name: 'x' }] },
      /^WaypointAccepted False TargetNotFound/,
    ],
    bad: [
      { rules: [{ from: [{ source: { ipBlocks: ['x'] } }] }] },
      /^ZtunnelAccepted True PartiallyInvalid .*ipBlocks/,
    ],
    none: [{ selector: { matchLabels: { app: 'nobody' } } }, /^Enforced False NoWorkloads/],
    record: [
      { action: 'AUDIT', selector, rules: [{}] },
      /^Enforced True Audited calls to 1 of 1 workload/,
    ],
  } as const
  for (const [name, [spec]] of Object.entries(others))
    expectOk(await cluster.admin.create(AUTHORIZATION_POLICIES, policy(name, spec)))
  for (const [name, [, pattern]] of Object.entries(others)) await says(cluster, name, [pattern])

  // Somebody else's condition stays, and nothing is written without need.
  const theirs = { type: 'Theirs', status: 'True', reason: 'R', message: 'm' }
  const read = expectOk(await cluster.admin.get(AUTHORIZATION_POLICIES, target))
  const there = (read.status as { conditions: object[] }).conditions
  const patch = { status: { conditions: [...there.slice(1), theirs] } }
  const status = { subresource: 'status' }
  expectOk(await cluster.admin.patch(AUTHORIZATION_POLICIES, target, patch, status))
  await says(cluster, 'frontend-only', [/^Theirs/, /^ZtunnelAccepted/, /^Enforced/])

  expectOk(await cluster.admin.delete(AUTHORIZATION_POLICIES, target))
  await until(() => state.policies.get(key) === undefined, 'the end of the policy')
  t.strictSame(named(), ['shop/record'])
})

void t.test('a cluster may have the kinds later, or never', async (t) => {
  const cluster = await smallCluster(t)
  const agent = await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b')
  const token = await cluster.tokenFile(agent)
  const controller = runController(t, cluster)
  await controller.logged('controller started')
  await controller.logged('the server does not have the kind')
  const grpcPort = Number(/"grpcPort":(\d+)/.exec(controller.output())?.[1])
  const map = await cluster.publishedRoot('shop', () => true)
  const running = { grpcPort, rootsPem: map.data?.['root-cert.pem'] ?? '' }
  const state = await agentOf(t, cluster, running, token)
  t.equal(state.policies.size, 0)

  await installKinds(cluster)
  t.strictSame(await absentKinds(cluster.admin), [], 'installed once')
  const deny = policy('deny', { action: 'DENY', rules: [{}] })
  expectOk(await cluster.admin.create(AUTHORIZATION_POLICIES, deny))
  const key = 'shop/deny' as PolicyKey
  await until(() => state.policies.get(key)?.action === 'deny', 'the first policy')
  const missing = [...controller.output().matchAll(/"watch":"(\w+)".*does not have the kind/g)]
  const kinds = missing.map(([, kind]) => kind)
  t.ok(kinds.includes('authorizationpolicies'), 'what is missing is told of')
  t.strictSame(kinds, [...new Set(kinds)], 'once for each kind')
  await says(cluster, 'deny', [/^ZtunnelAccepted True/])

  // The next one serves the same, and finds nothing to write.
  const before = expectOk(
    await cluster.admin.get(AUTHORIZATION_POLICIES, { namespace: 'shop', name: 'deny' }),
  )
  controller.process.kill('SIGTERM')
  await controller.exit
  const next = await cluster.controller()
  const again = await agentOf(t, cluster, next, token)
  t.match(again.policies.get(key), { action: 'deny' })
  await until(() => next.isLeader, 'leadership')
  expectOk(await cluster.admin.create(AUTHORIZATION_POLICIES, policy('other', {})))
  await says(cluster, 'other', [/^ZtunnelAccepted True/])
  const after = expectOk(
    await cluster.admin.get(AUTHORIZATION_POLICIES, { namespace: 'shop', name: 'deny' }),
  )
  t.equal(after.metadata?.resourceVersion, before.metadata?.resourceVersion)
})

void t.test('objects of the older version are the same objects', async (t) => {
  const cluster = await smallCluster(t)
  await installKinds(cluster)
  const old = { ...AUTHORIZATION_POLICIES, version: 'v1beta1' }
  expectOk(await cluster.admin.create(old, policy('old', { action: 'DENY' })))
  const agent = await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b')
  const controller = await cluster.controller()
  const state = await agentOf(t, cluster, controller, await cluster.tokenFile(agent))
  t.match(state.policies.get('shop/old' as PolicyKey), { action: 'deny' })
  const peer = policy('strict', { mtls: { mode: 'STRICT' } })
  expectOk(await cluster.admin.create({ ...PEER_AUTHENTICATIONS, version: 'v1beta1' }, peer))
  const bad = await cluster.admin.create(AUTHORIZATION_POLICIES, policy('bad', { action: 'deny' }))
  t.match(bad, { ok: false, error: { message: /spec.action/ } }, 'the server refuses what it can')
})
