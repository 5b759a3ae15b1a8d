// SPDX-License-Identifier: Apache-2.0
// A small cluster that knows the Gateway API, and what tests wait for in it.

import { applyManifests } from '../../lab/cluster/apply.ts'
import { absentKinds } from '../../lab/cluster/mesh.ts'
import { GATEWAYS, type KubeObject, type KubeResource } from '../../mesh/kube/index.ts'
import { waypoint } from '../gateway-api/gateway-objects.ts'
import { until } from '../support/until.ts'
import { expectOk, type SmallCluster, smallCluster, type TestScope } from './small-cluster.ts'

/** A cluster that knows the Gateway API, with a controller that leads. */
export async function gatewayCluster(t: TestScope): Promise<SmallCluster> {
  const cluster = await smallCluster(t)
  await applyManifests(cluster.admin, await absentKinds(cluster.admin))
  const controller = await cluster.controller()
  await until(() => controller.isLeader, 'leadership')
  return cluster
}

/** Waits for an object that is so, and gives it. */
export async function object(
  cluster: SmallCluster,
  resource: KubeResource,
  name: string,
  isSo: (text: string) => boolean = () => true,
  namespace = 'shop',
): Promise<KubeObject> {
  let last = 'nothing'
  let found: KubeObject | undefined
  await until(
    async () => {
      const target = resource.namespaced ? { namespace, name } : { name }
      const read = await cluster.admin.get<KubeObject>(resource, target)
      found = read.ok ? read.value : undefined
      last = JSON.stringify(read.ok ? read.value : read.error.message)
      return read.ok && isSo(last)
    },
    () => `the right ${resource.kind} ${name}, not ${last}`,
  )
  if (found === undefined) throw new Error('it was found')
  return found
}

/** Makes a Gateway that is a waypoint of our class, but for what is given. */
export async function createWaypoint(
  cluster: SmallCluster,
  name: string,
  spec: object = {},
  namespace = 'shop',
): Promise<void> {
  const { metadata: _own, ...rest } = waypoint(name, { spec })
  expectOk(await cluster.admin.create(GATEWAYS, { ...rest, metadata: { namespace, name } }))
}
