// SPDX-License-Identifier: Apache-2.0
// Policies in a small cluster: their kinds, the pods they are for, and what their statuses say.

import { applyManifests } from '../../lab/cluster/apply.ts'
import { absentKinds } from '../../lab/cluster/mesh.ts'
import type { RunningController } from '../../controller/controller.ts'
import {
  AUTHORIZATION_POLICIES,
  type KubeResource,
  PODS,
  type PolicyResource,
} from '../../mesh/kube/index.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { until } from '../support/until.ts'
import { follow } from './follow.ts'
import { expectOk, type SmallCluster, type TestScope } from './small-cluster.ts'

/** Defines the kinds of policies. */
export async function installKinds(cluster: SmallCluster): Promise<void> {
  await applyManifests(cluster.admin, await absentKinds(cluster.admin))
}

/** A policy object. */
export const policy = (name: string, spec: object, namespace = 'shop'): PolicyResource => ({
  metadata: { namespace, name },
  spec,
})

/** A pod of the mesh, as its node's agent leaves it. */
export async function enrolledPod(
  cluster: SmallCluster,
  name: string,
  node: string,
): Promise<void> {
  await cluster.pod('shop', name, name, node)
  const annotations = { 'ambient.istio.io/redirection': 'enabled' }
  const target = { namespace: 'shop', name }
  expectOk(await cluster.admin.patch(PODS, target, { metadata: { annotations } }))
}

/** The conditions of an object, each in a line. */
async function conditions(
  cluster: SmallCluster,
  resource: KubeResource<PolicyResource>,
  name: string,
): Promise<readonly string[]> {
  const { metadata, status } = expectOk(
    await cluster.admin.get(resource, { namespace: 'shop', name }),
  )
  const list = (status as { conditions?: Record<string, unknown>[] } | undefined)?.conditions ?? []
  return list.map(({ type, status: is, reason, message, observedGeneration }) => {
    const isOld = observedGeneration !== metadata?.generation
    return [type, is, reason, message, ...(isOld ? ['of another generation'] : [])].join(' ')
  })
}

/** Waits until the object has conditions that match. */
export async function says(
  cluster: SmallCluster,
  name: string,
  patterns: readonly RegExp[],
  resource: KubeResource<PolicyResource> = AUTHORIZATION_POLICIES,
): Promise<void> {
  let found: readonly string[] = []
  await until(
    async () => {
      found = await conditions(cluster, resource, name)
      return patterns.every((pattern) => found.some((each) => pattern.test(each)))
    },
    () => `${patterns.join(' and ')}, not ${JSON.stringify(found)}`,
  )
}

/** An agent that follows the controller; whose it is says its token. */
export async function agentOf(
  t: TestScope,
  cluster: SmallCluster,
  controller: Pick<RunningController, 'grpcPort' | 'rootsPem'>,
  token: string,
): Promise<MeshState> {
  const state = new MeshState()
  const followed = follow(t, cluster, controller, token, (change) => void state.apply([change]))
  await followed.synced
  return state
}
