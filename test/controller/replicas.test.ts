// SPDX-License-Identifier: Apache-2.0
// Two replicas, and agents and waypoints that are connected to one or the other: a policy's status counts them all.

import t from 'tap'
import type { RunningController } from '../../controller/controller.ts'
import { AUTHORIZATION_POLICIES, CONFIG_MAPS, GATEWAY_CLASSES } from '../../mesh/kube/index.ts'
import { waypointPolicySubscription } from '../../mesh/xds/mesh-subscription.ts'
import { until } from '../support/until.ts'
import { follow } from './follow.ts'
import { createWaypoint, object } from './gateway-cluster.ts'
import { agentOf, enrolledPod, installKinds, policy, says } from './policy-cluster.ts'
import { expectOk, type SmallCluster, smallCluster } from './small-cluster.ts'

/** The reports that replicas have written, by name. */
async function reports(cluster: SmallCluster): Promise<readonly string[]> {
  const listed = await cluster.admin.list(CONFIG_MAPS, {
    namespace: 'ambit-system',
    labelSelector: 'ambit.io/acknowledgements=true',
  })
  return expectOk(listed).items.map(({ metadata }) => metadata?.name ?? '')
}

/** A policy for the whole namespace, applied. */
async function applied(cluster: SmallCluster, name: string): Promise<void> {
  expectOk(await cluster.admin.create(AUTHORIZATION_POLICIES, policy(name, { rules: [{}] })))
}

/** Two replicas with their pods; the leader is the first. */
async function twoReplicas(cluster: SmallCluster): Promise<[RunningController, RunningController]> {
  for (const name of ['one', 'two'])
    await cluster.pod('ambit-system', name, 'ambit-controller', 'node-a')
  const one = await cluster.controller({ podName: 'one' })
  await until(() => one.isLeader, 'the first leader')
  return [one, await cluster.controller({ podName: 'two' })]
}

void t.test('a status counts the agents of all replicas, and of those that are left', async (t) => {
  const cluster = await smallCluster(t)
  await installKinds(cluster)
  const tokenA = await cluster.tokenFile(
    await cluster.pod('ambit-system', 'agent-a', 'ambit-agent', 'node-a'),
  )
  const tokenB = await cluster.tokenFile(
    await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b'),
  )
  await enrolledPod(cluster, 'frontend', 'node-a')
  await enrolledPod(cluster, 'catalog', 'node-b')
  const [leader, other] = await twoReplicas(cluster)

  await agentOf(t, cluster, leader, tokenA)
  await applied(cluster, 'first')
  await says(cluster, 'first', [/^Enforced Unknown AgentsNotSeen in force for 1 of 2 .* node-b$/])
  await agentOf(t, cluster, other, tokenB)
  await says(cluster, 'first', [/^Enforced True InForce in force for 2 of 2 workloads$/])
  await applied(cluster, 'second')
  await says(cluster, 'second', [/^Enforced True InForce in force for 2 of 2 workloads$/])

  t.strictSame(await reports(cluster), ['ambit-acknowledged-two'], 'who leads writes none')
  const target = { namespace: 'ambit-system', name: 'ambit-acknowledged-two' }
  const report = expectOk(await cluster.admin.get(CONFIG_MAPS, target))
  t.match(report.metadata?.ownerReferences, [{ kind: 'Pod', name: 'two' }], 'it goes with its pod')
  t.equal(report.data?.nodes, 'node-b')

  // The agents of a leader that goes come to the one that is left, which has known its own all along.
  await leader.stop()
  await until(() => other.isLeader, 'the next leader')
  await applied(cluster, 'third')
  await says(cluster, 'third', [/^Enforced Unknown AgentsNotSeen in force for 1 of 2 .* node-a$/])
  await agentOf(t, cluster, other, tokenA)
  await says(cluster, 'third', [/^Enforced True InForce in force for 2 of 2 workloads$/])
  await until(async () => (await reports(cluster)).length === 0, 'the end of what is told nobody')
})

void t.test('a status counts the waypoints of all replicas', async (t) => {
  const cluster = await smallCluster(t)
  await installKinds(cluster)
  const [leader, other] = await twoReplicas(cluster)
  await object(cluster, GATEWAY_CLASSES, 'ambit-waypoint')
  await createWaypoint(cluster, 'w')
  const labels = { 'gateway.networking.k8s.io/gateway-name': 'w' }
  const token = await cluster.tokenFile(await cluster.pod('shop', 'w-1', 'w', 'node-b', labels))
  const targetRefs = [{ group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'w' }]
  const attached = policy('attached', { targetRefs, rules: [{}] })
  expectOk(await cluster.admin.create(AUTHORIZATION_POLICIES, attached))
  await says(cluster, 'attached', [/^Enforced Unknown WaypointsNotSeen/])

  const connected = follow(t, cluster, other, token, undefined, [waypointPolicySubscription])
  await connected.synced
  await says(cluster, 'attached', [/^Enforced True InForce in force for 1 of 1 waypoint$/])
  t.equal(leader.isLeader, true, 'the waypoint is not connected to who writes')
  const target = { namespace: 'ambit-system', name: 'ambit-acknowledged-two' }
  const { data } = expectOk(await cluster.admin.get(CONFIG_MAPS, target))
  t.match(data, { nodes: '', waypoints: 'shop/w' })

  await other.stop()
  await says(cluster, 'attached', [/^Enforced Unknown WaypointsNotSeen/])
})

void t.test('a new leader knows at once what the other has to tell', async (t) => {
  const cluster = await smallCluster(t)
  await installKinds(cluster)
  const token = await cluster.tokenFile(
    await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b'),
  )
  await enrolledPod(cluster, 'catalog', 'node-b')
  const [leader, second] = await twoReplicas(cluster)
  const third = await cluster.controller({ podName: 'three' })
  await agentOf(t, cluster, third, token)
  await applied(cluster, 'first')
  await says(cluster, 'first', [/^Enforced True InForce in force for 1 of 1 workload$/])
  await third.stop()
  await says(cluster, 'first', [/^Enforced Unknown AgentsNotSeen/])
  t.strictSame(await reports(cluster), ['ambit-acknowledged-two'], 'who ends takes its own away')
  await agentOf(t, cluster, second, token)
  await says(cluster, 'first', [/^Enforced True InForce/])
  t.equal(leader.isLeader, true)
})

void t.test('what a dead replica has left behind is not believed', async (t) => {
  const cluster = await smallCluster(t)
  await installKinds(cluster)
  const token = await cluster.tokenFile(
    await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b'),
  )
  await enrolledPod(cluster, 'catalog', 'node-b')
  const [leader, other] = await twoReplicas(cluster)
  await agentOf(t, cluster, other, token)
  await applied(cluster, 'first')
  await says(cluster, 'first', [/^Enforced True InForce in force for 1 of 1 workload$/])
  const target = { namespace: 'ambit-system', name: 'ambit-acknowledged-two' }
  const { metadata, data } = expectOk(await cluster.admin.get(CONFIG_MAPS, target))
  await other.stop()
  await says(cluster, 'first', [/^Enforced Unknown AgentsNotSeen/])
  const left = {
    metadata: {
      namespace: 'ambit-system',
      name: 'ambit-acknowledged-dead',
      labels: metadata?.labels ?? {},
      annotations: metadata?.annotations ?? {},
    },
    data: data ?? {},
  }
  expectOk(await cluster.admin.create(CONFIG_MAPS, left))
  await enrolledPod(cluster, 'frontend', 'node-b')
  await says(cluster, 'first', [/^Enforced Unknown AgentsNotSeen in force for 0 of 2/])
  t.equal(leader.isLeader, true)
})
