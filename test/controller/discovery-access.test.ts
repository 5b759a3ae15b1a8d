// SPDX-License-Identifier: Apache-2.0
// Who may read the mesh and have certificates of a node's pods: an agent in its pod, and nobody who merely holds a token of
// the agents' account.

import t from 'tap'
import type { MeshComponent } from '../../controller/auth/component-gate.ts'
import { visibleTo } from '../../controller/serve/visibility.ts'
import type { MeshChange } from '../../mesh/model/types.ts'
import {
  httpRoutesSubscription,
  meshSubscription,
  waypointPolicySubscription,
} from '../../mesh/xds/mesh-subscription.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { BACKEND_TLS } from '../../mesh/xds/types/backend-tls.ts'
import { HTTP_ROUTES } from '../../mesh/xds/types/http-routes.ts'
import { NODE } from '../../mesh/xds/types/mesh-node.ts'
import { NETWORK } from '../../mesh/xds/types/network-policy.ts'
import {
  AUTHORIZATION_POLICIES,
  GATEWAY_CLASSES,
  GATEWAYS,
  HTTP_ROUTES as HTTP_ROUTE_OBJECTS,
  SERVICES,
} from '../../mesh/kube/index.ts'
import { applyManifests } from '../../lab/cluster/apply.ts'
import { absentKinds } from '../../lab/cluster/mesh.ts'
import { waypointGateway } from '../../cli/waypoint/waypoint-gateway.ts'
import { until } from '../support/until.ts'
import { backend, serviceParent } from '../gateway-api/route-objects.ts'
import { follow } from './follow.ts'
import { createWaypoint, gatewayCluster } from './gateway-cluster.ts'
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

/** Two waypoints are made and joined: much for a loaded machine. */
const PATIENCE_MS = 120_000

/** What a waypoint has been told of routes and policies, and of whom Services are bound to, in order. */
function told(changes: readonly MeshChange[]): readonly string[] {
  return changes.flatMap((change) => {
    switch (change.kind) {
      case 'waypointPolicy':
        return [`+policy ${change.policy.name}`]
      case 'waypointPolicyRemoved':
        return [`-policy ${change.key.slice(change.key.lastIndexOf('/') + 1)}`]
      case 'httpRoutes':
        return [`+routes ${change.routes.service.replace(/^.*\/([\w-]+)\..*$/, '$1')}`]
      case 'httpRoutesRemoved':
        return [`-routes ${change.key.replace(/^.*\/([\w-]+)\..*$/, '$1')}`]
      case 'service': {
        const at = change.service.waypoint?.destination
        return at?.kind === 'hostname'
          ? [`${change.service.name} at ${at.hostname.replace(/\..*$/, '')}`]
          : []
      }
      default:
        return []
    }
  })
}

void t.test(
  'a waypoint is told of the routes, session keys and policies of what it serves, and of no others',
  async (t) => {
    const cluster = await gatewayCluster(t)
    const controller = await cluster.controller()
    const { admin } = cluster
    const here = { namespace: 'shop' }
    for (const name of ['red', 'blue']) {
      await createWaypoint(cluster, name)
      const metadata = { ...here, name: `of-${name}`, labels: { 'istio.io/use-waypoint': name } }
      const spec = { ports: [{ name: 'http', port: 80 }] }
      expectOk(await admin.create(SERVICES, { metadata, spec }))
      const rules = [
        { sessionPersistence: { sessionName: 's' }, backendRefs: [backend(`of-${name}`)] },
      ]
      const parentRefs = [serviceParent(`of-${name}`)]
      expectOk(
        await admin.create(HTTP_ROUTE_OBJECTS, {
          metadata: { ...here, name },
          spec: { parentRefs, rules },
        }),
      )
      for (const [kind, target] of [
        ['Service', `of-${name}`],
        ['Gateway', name],
      ] as const)
        expectOk(
          await admin.create(AUTHORIZATION_POLICIES, {
            metadata: { ...here, name: `${name}-${kind.toLowerCase()}` },
            spec: { targetRefs: [{ kind, name: target }], action: 'DENY', rules: [{}] },
          }),
        )
    }
    const labels = (gateway: string) => ({
      'gateway.networking.k8s.io/gateway-name': gateway,
    })
    const all = [waypointPolicySubscription, httpRoutesSubscription, meshSubscription]
    const start = async (gateway: string) => {
      const pod = await cluster.pod('shop', `${gateway}-1`, gateway, 'node-b', labels(gateway))
      const token = await cluster.tokenFile(pod)
      const { changes, synced } = follow(t, cluster, controller, token, undefined, all)
      // It is refused until the controller has heard of the pod.
      await synced
      return {
        changes,
        until: (...last: readonly string[]) =>
          until(
            () => last.every((each) => told(changes).includes(each)),
            () => `${gateway} to be told ${last.join(', ')}, not ${told(changes).join(', ')}`,
            PATIENCE_MS,
          ),
      }
    }
    const [red, blue] = [await start('red'), await start('blue')]
    const own = (name: string) => [
      `+policy ${name}-gateway`,
      `+policy ${name}-service`,
      `+routes of-${name}`,
      'of-blue at blue',
      'of-red at red',
    ]
    await Promise.all([red.until(...own('red')), blue.until(...own('blue'))])
    const others = (changes: readonly MeshChange[], name: string) =>
      told(changes).filter((each) => /^[+-]/.test(each) && each.includes(name))
    t.strictSame(others(red.changes, 'blue'), [], 'not a name of what is not its own')
    t.strictSame(others(blue.changes, 'red'), [])
    const keys = (changes: readonly MeshChange[]) =>
      changes.flatMap((change) =>
        change.kind === 'httpRoutes'
          ? change.routes.rules.flatMap(({ session }) => session?.key ?? [])
          : [],
      )
    // A route has none until the controller has the secret that they are made of.
    const areThere = (): boolean =>
      [red, blue].every(({ changes }) => new Set(keys(changes)).size === 1)
    await until(areThere, 'a session key at each', PATIENCE_MS)
    t.not(keys(red.changes).at(-1), keys(blue.changes).at(-1), 'each has its own session key')

    const before = { red: red.changes.length, blue: blue.changes.length }
    const moved = { metadata: { labels: { 'istio.io/use-waypoint': 'blue' } } }
    expectOk(await admin.patch(SERVICES, { ...here, name: 'of-red' }, moved))
    await Promise.all([
      blue.until('of-red at blue'),
      red.until('-policy red-service', '-routes of-red'),
    ])
    const toBlue = told(blue.changes.slice(before.blue))
    t.strictSame(
      toBlue.filter((each) => each.includes('red')).toSorted(),
      ['+policy red-service', '+routes of-red', 'of-red at blue'],
      'what is about the Service goes with it, what is about the waypoint stays',
    )
    t.equal(
      toBlue.at(-1),
      'of-red at blue',
      'a waypoint serves nothing before it has what judges and leads calls to it',
    )
    const toRed = told(red.changes.slice(before.red))
    t.equal(toRed[0], 'of-red at blue', 'and loses that once it serves it no more')
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
