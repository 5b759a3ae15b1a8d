// SPDX-License-Identifier: Apache-2.0
// Who may read the mesh and have certificates of a node's pods: an agent in its pod, and nobody who merely holds a token of
// the agents' account.

import t from 'tap'
import type { MeshComponent } from '../../controller/auth/component-gate.ts'
import { visibleTo } from '../../controller/serve/visibility.ts'
import { meshSubscription } from '../../mesh/xds/mesh-subscription.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { BACKEND_TLS } from '../../mesh/xds/types/backend-tls.ts'
import { HTTP_ROUTES } from '../../mesh/xds/types/http-routes.ts'
import { NODE } from '../../mesh/xds/types/mesh-node.ts'
import { NETWORK } from '../../mesh/xds/types/network-policy.ts'
import { GATEWAY_CLASSES, GATEWAYS } from '../../mesh/kube/index.ts'
import { applyManifests } from '../../lab/cluster/apply.ts'
import { absentKinds } from '../../lab/cluster/mesh.ts'
import { waypointGateway } from '../../cli/waypoint/waypoint-gateway.ts'
import { until } from '../support/until.ts'
import { follow } from './follow.ts'
import { expectOk, smallCluster } from './small-cluster.ts'

const CATALOG = 'spiffe://cluster.local/ns/shop/sa/catalog'

void t.test(
  'a token of the agents that is bound to no pod gets neither mesh nor identity',
  async (t) => {
    const cluster = await smallCluster(t)
    const agent = await cluster.pod('ambit-system', 'agent-b', 'ambit-agent', 'node-b')
    await cluster.pod('shop', 'catalog', 'catalog', 'node-b')
    const controller = await cluster.controller()
    const unbound = await cluster.server.api.createToken({
      namespace: 'ambit-system',
      serviceAccount: 'ambit-agent',
      audiences: ['istio-ca'],
    })
    if (!unbound.ok) throw new Error(unbound.error.message)
    const token = cluster.file(unbound.value.token)
    const refused = follow(t, cluster, controller, token)
    t.match(
      await refused.refused,
      /PERMISSION_DENIED: the token of ambit-system\/ambit-agent must be bound to a pod/,
    )
    t.strictSame(refused.changes, [])
    t.match(await cluster.ask(controller, token, CATALOG), {
      ok: false,
      error: { kind: 'denied', message: /must be bound to a pod/ },
    })
    const bound = follow(t, cluster, controller, await cluster.tokenFile(agent))
    await bound.synced
    t.ok(bound.changes.length > 0, 'the agent in its pod is let in')
  },
)

void t.test(
  'a pod is a waypoint to discovery for as long as its Gateway is one, and no longer',
  async (t) => {
    const cluster = await smallCluster(t)
    await applyManifests(cluster.admin, await absentKinds(cluster.admin))
    const labels = { 'gateway.networking.k8s.io/gateway-name': 'waypoint' }
    const pod = await cluster.pod('shop', 'waypoint-1', 'waypoint', 'node-b', labels)
    const controller = await cluster.controller()
    const token = await cluster.tokenFile(pod)
    const waypoint = () => follow(t, cluster, controller, token, undefined, [meshSubscription])
    const first = waypoint()
    t.match(
      await first.refused,
      /PERMISSION_DENIED: the pod shop\/waypoint-1 says that it is of Gateway shop\/waypoint, which is not there/,
    )
    await until(
      async () => (await cluster.admin.get(GATEWAY_CLASSES, { name: 'ambit-waypoint' })).ok,
      'the class, which the controller makes',
    )
    const gateway = waypointGateway({ namespace: 'shop', name: 'waypoint', traffic: undefined })
    expectOk(await cluster.admin.create(GATEWAYS, gateway))
    await first.synced
    t.ok(
      first.changes.some((change) => change.kind === 'workload'),
      'let in, and told of the mesh, once the Gateway is there',
    )
    expectOk(await cluster.admin.delete(GATEWAYS, { namespace: 'shop', name: 'waypoint' }))
    await until(async () => {
      const { synced, refused } = waypoint()
      return await Promise.race([synced.then(() => false), refused.then(() => true)])
    }, 'the pod to be refused again')
  },
)

void t.test('a type that nobody thought of is nobody’s', async (t) => {
  const agent = {
    name: 'ambit-system/agent-b',
    role: 'agent',
    node: 'node-b',
  } as const
  const waypoint = {
    name: 'shop/waypoint-1',
    namespace: 'shop',
    role: 'waypoint',
    gateway: 'waypoint',
    node: 'node-b',
  } as const
  const seen = [
    ADDRESS,
    AUTHORIZATION,
    NODE,
    NETWORK,
    HTTP_ROUTES,
    BACKEND_TLS,
    { typeUrl: 'type.test/new' },
  ]
  const read = (caller: MeshComponent): readonly boolean[] =>
    seen.map((type) => visibleTo(type)(caller))
  t.strictSame(read(agent), [true, true, true, true, false, false, false])
  t.strictSame(read(waypoint), [true, false, false, false, true, true, false])
})
