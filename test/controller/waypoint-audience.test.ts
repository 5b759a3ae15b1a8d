// SPDX-License-Identifier: Apache-2.0
// Which waypoints see which routes and policies: all that they judge and lead by, and nothing that they never ask.

import fc from 'fast-check'
import t from 'tap'
import { WaypointAudience } from '../../controller/serve/waypoint-audience.ts'
import type { HttpRoutes } from '../../mesh/model/http-routes.ts'
import { MeshState } from '../../mesh/model/mesh-state.ts'
import { waypointsOf } from '../../mesh/model/service-waypoints.ts'
import type { GatewayAddress, MeshChange } from '../../mesh/model/types.ts'
import type { PolicyTarget, WaypointPolicy } from '../../mesh/model/waypoint-policy.ts'
import { isOwnGateway } from '../../waypoint/config/own-gateway.ts'
import { podUid, sampleService, sampleWorkload, serviceKey } from '../model/samples.ts'
import { waypointPolicy } from '../policy/request/samples.ts'

const NAMESPACES = ['a', 'b'] as const
const NAMES = ['x', 'y'] as const
const GATEWAYS = NAMESPACES.map((namespace) => ({ namespace, name: 'w' }))

const at = (namespace: string, hostname = `w.${namespace}.svc.cluster.local`): GatewayAddress => ({
  destination: { kind: 'hostname', namespace, hostname },
  hbonePort: 15008,
})

const namespace = fc.constantFrom(...NAMESPACES)
const name = fc.constantFrom(...NAMES)
/** One of the waypoints, one that nobody is, or none. */
const bindings = fc.constantFrom(at('a'), at('b'), at('a', 'attachment-denied.invalid'), undefined)

const targets: fc.Arbitrary<PolicyTarget> = fc.oneof(
  namespace.map((of): PolicyTarget => ({ kind: 'waypoint', namespace: of, name: 'w' })),
  fc
    .tuple(namespace, name)
    .map(([of, named]): PolicyTarget => ({ kind: 'service', namespace: of, name: named })),
  namespace.map((of): PolicyTarget => ({ kind: 'namespace', namespace: of, name: '' })),
  fc.constant<PolicyTarget>({ kind: 'mesh', namespace: '', name: '' }),
)

const policyKey = (named: string): WaypointPolicy['key'] => waypointPolicy(named, 'deny', []).key

function routesOf(of: string, named: string, port: number | undefined): HttpRoutes {
  const service = serviceKey(of, named)
  const key = port === undefined ? service : `${service}:${port}`
  return { key, service, port, clients: undefined, rules: [], connections: [] }
}

const changes: fc.Arbitrary<MeshChange> = fc.oneof(
  fc.tuple(namespace, name, bindings, bindings).map(
    ([of, named, waypoint, canary]): MeshChange => ({
      kind: 'service',
      service: sampleService(named, {
        namespace: of,
        waypoint,
        weightedWaypoints:
          waypoint === undefined || canary === undefined
            ? []
            : [
                { destination: waypoint, weight: 90 },
                { destination: canary, weight: 10 },
              ],
      }),
    }),
  ),
  fc
    .tuple(namespace, name)
    .map(([of, named]): MeshChange => ({ kind: 'serviceRemoved', key: serviceKey(of, named) })),
  fc.tuple(namespace, name, bindings).map(
    ([of, named, waypoint]): MeshChange => ({
      kind: 'workload',
      workload: sampleWorkload(named, { namespace: of, waypoint }),
    }),
  ),
  fc
    .tuple(namespace, name)
    .map(([of, named]): MeshChange => ({ kind: 'workloadRemoved', uid: podUid(of, named) })),
  fc.tuple(name, fc.array(targets, { maxLength: 2 })).map(
    ([named, those]): MeshChange => ({
      kind: 'waypointPolicy',
      policy: waypointPolicy(named, 'deny', [], { targets: those }),
    }),
  ),
  name.map((named): MeshChange => ({ kind: 'waypointPolicyRemoved', key: policyKey(named) })),
  fc.tuple(namespace, name, fc.constantFrom(undefined, 80)).map(
    ([of, named, port]): MeshChange => ({
      kind: 'httpRoutes',
      routes: routesOf(of, named, port),
    }),
  ),
  fc.tuple(namespace, name, fc.constantFrom(undefined, 80)).map(
    ([of, named, port]): MeshChange => ({
      kind: 'httpRoutesRemoved',
      key: routesOf(of, named, port).key,
    }),
  ),
)

/** What a waypoint asks for when calls come, found the slow way: of everything that is bound to it, by its own functions. */
function needed(mesh: MeshState, waypoint: (typeof GATEWAYS)[number]) {
  const own = { ...waypoint, gatewayName: waypoint.name, clusterDomain: 'cluster.local' }
  const isOwn = isOwnGateway({ ...own, network: '' }, mesh)
  const policies = new Set<string>()
  const routes = new Set<string>()
  const ask = (kind: 'service' | 'workload', called: { namespace: string; name: string }) => {
    const found = mesh.waypointPolicies.concerning({ waypoint, called: { kind, ...called } })
    for (const { key } of found.policies) policies.add(key)
  }
  for (const service of mesh.services()) {
    if (!waypointsOf(service).some(isOwn)) continue
    ask('service', service)
    for (const change of mesh.httpRoutes.snapshot())
      if (change.kind === 'httpRoutes' && change.routes.service === service.key)
        routes.add(change.routes.key)
  }
  for (const workload of mesh.workloads()) if (isOwn(workload.waypoint)) ask('workload', workload)
  // Those that a call could meet as soon as anything is bound here.
  ask('workload', { namespace: waypoint.namespace, name: '' })
  return { policies, routes }
}

void t.test('a waypoint sees what it judges and leads by, and nothing else', async (t) => {
  const properties = fc.property(
    fc.array(fc.array(changes, { minLength: 1, maxLength: 4 }), { maxLength: 12 }),
    (batches) => {
      const audience = new WaypointAudience()
      const mesh = new MeshState()
      const seen = new Map<string, boolean>()
      for (const batch of batches) {
        const { policies, routes } = audience.apply(batch)
        mesh.apply(batch)
        const touched = new Set<string>([...policies, ...routes])
        for (const change of batch) {
          if (change.kind === 'waypointPolicyRemoved' || change.kind === 'httpRoutesRemoved')
            touched.add(change.key)
          if (change.kind === 'httpRoutes') touched.add(change.routes.key)
        }
        for (const waypoint of GATEWAYS) {
          const gateway = `${waypoint.namespace}/${waypoint.name}`
          const need = needed(mesh, waypoint)
          const look = (key: string, sees: boolean, isNeeded: boolean) => {
            const pair = `${gateway} ${key}`
            if (sees !== isNeeded) throw new Error(`${pair}: sees ${sees}, needs ${isNeeded}`)
            if (sees !== (seen.get(pair) ?? false) && !touched.has(key))
              throw new Error(`${pair}: nobody was told`)
            seen.set(pair, sees)
          }
          for (const named of NAMES) {
            const key = policyKey(named)
            look(key, audience.seesPolicy(gateway, key), need.policies.has(key))
            for (const of of NAMESPACES)
              for (const port of [undefined, 80]) {
                const { key: routesKey } = routesOf(of, named, port)
                const sees = audience.seesRoutes(gateway, routesKey)
                look(routesKey, sees, need.routes.has(routesKey))
              }
          }
        }
      }
    },
  )
  t.doesNotThrow(() => fc.assert(properties, { numRuns: 1_000 }))
})
