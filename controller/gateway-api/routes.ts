// SPDX-License-Identifier: Apache-2.0
// The routes of the mesh, as collections: what waypoints are offered of them, and what is to be said of each. Objects may come in any order:
// a route before its Service, its backends, their grants or a waypoint.

import type { Collection, Fetch, Graph } from '../../mesh/collections/index.ts'
import type { HttpRoutes } from '../../mesh/model/http-routes.ts'
import { httpRoutesKey } from '../../mesh/model/http-routes-wire.ts'
import type { CallersOf } from './backend-tls.ts'
import type { MeshSecret } from '../core/config.ts'
import type { ObjectCollections } from '../core/input.ts'
import { objectKey, type ObjectKey } from '../core/origin.ts'
import { serviceKeyOf } from '../core/service.ts'
import { type JudgedRoute, routeStatus, type RouteStatus } from '../status/route-status.ts'
import { attachmentOf, NO_WAYPOINT, serviceWaypointOf } from './route-parents.ts'
import { isOfConnections, type RouteFacts, type RouteKind } from './route-object.ts'
import { resolveRules } from './route-rules.ts'
import {
  type AttachedRoute,
  bytesOf,
  routeId,
  type RouteTable,
  routeTables,
} from './route-tables.ts'
import type { WaypointBindings } from './waypoint-bindings.ts'

export interface RouteCollections {
  readonly httpRoutes: Collection<string, HttpRoutes>
  /** What is to be said of each route. */
  readonly routeStatuses: readonly Collection<ObjectKey, RouteStatus>[]
  readonly callersOf: CallersOf
}

/** Routes that do not count at a place, though they are attached there. */
type Uncounted = Pick<RouteTable, 'leftOut' | 'conflicted'>

const KINDS: readonly RouteKind[] = ['HTTPRoute', 'GRPCRoute', 'TLSRoute', 'TCPRoute']
/** A namespace as a whole. */
const ALL_NAMES = ''

/** Derives them; bindings must have been derived before. */
export function deriveRoutes(
  graph: Graph,
  objects: ObjectCollections,
  { waypoints, bindingOfService }: Pick<WaypointBindings, 'waypoints' | 'bindingOfService'>,
  secrets: Collection<MeshSecret, string>,
): RouteCollections {
  const { Service: services, Gateway: gateways, ReferenceGrant: grants } = objects
  const grantsByNamespace = grants.index(({ cluster, namespace }) => [
    objectKey(cluster, namespace, ALL_NAMES),
  ])
  const serviceWaypoints = graph.derive('waypoints of routes', services, (fetch, service, key) => {
    const binding = bindingOfService(fetch, service)
    const gateway = binding?.asked.gateway
    const isForeign =
      gateway !== undefined &&
      fetch(waypoints, gateway) === undefined &&
      fetch(gateways, gateway) !== undefined
    const waypoint = serviceWaypointOf(binding, isForeign)
    return waypoint.kind === 'none' ? [] : [[key, waypoint]]
  })
  const judge = (fetch: Fetch, route: RouteFacts): JudgedRoute => {
    const { cluster, namespace, parents, gateways: ofGateways } = route
    const lookup = {
      service: (ns: string, name: string) => fetch(services, objectKey(cluster, ns, name)),
      grants: (ns: string) => fetch(grantsByNamespace, objectKey(cluster, ns, ALL_NAMES)),
    }
    const hasSessions = route.rules.some(({ session }) => session !== undefined)
    const { rules, problems } = resolveRules(
      route,
      lookup,
      hasSessions ? fetch(secrets, 'sessions') : undefined,
    )
    return {
      route,
      rules,
      problems,
      atWaypoints: ofGateways.filter(
        (parent) =>
          fetch(waypoints, objectKey(cluster, parent.namespace, parent.name)) !== undefined,
      ),
      parents: parents.map((parent) => {
        const at = objectKey(cluster, parent.namespace, parent.name)
        const service = fetch(services, at)
        const waypoint = fetch(serviceWaypoints, at) ?? NO_WAYPOINT
        const attachment = attachmentOf(namespace, parent, service, waypoint)
        const [hostname] = service?.hosts ?? []
        const key = hostname === undefined ? '' : serviceKeyOf(parent.namespace, hostname)
        return { parent, at, key, waypoint, attachment }
      }),
    }
  }
  const judged = KINDS.map((kind) =>
    graph.derive(`judged ${kind}s`, objects[kind], (fetch, route, key) => [
      [key, judge(fetch, route)],
    ]),
  )
  const byService = judged.map((routes) =>
    graph
      .derive(`attached ${routes.name}`, routes, (_fetch, route, key) => attachedOf(route, key))
      .index(({ at }) => [at]),
  )
  const byBackend = judged.map((routes) => routes.index(({ route }) => backendsOf(route)))
  const callersOf: CallersOf = (fetch, at) => {
    const ofRoutes = byBackend
      .flatMap((index) => fetch(index, at))
      .flatMap(({ parents }) => parents.filter(({ attachment }) => attachment.kind === 'attached'))
    const all = [fetch(serviceWaypoints, at), ...ofRoutes.map(({ waypoint }) => waypoint)]
    return all.flatMap((each) =>
      each?.kind === 'asked' && each.flaw === undefined
        ? [{ namespace: each.namespace, name: each.name }, ...(each.canary ? [each.canary] : [])]
        : [],
    )
  }
  const tables = graph.derive('route tables', services, (fetch, service, key) => {
    const attached = byService.flatMap((index) => fetch(index, key))
    return service.hosts.flatMap((hostname) =>
      routeTables(serviceKeyOf(service.namespace, hostname), attached),
    )
  })
  // Nearly always of none, so that a status does not follow from all other routes of its Service.
  const uncounted = graph.derive('uncounted routes', tables, (_fetch, table, key) => {
    const { leftOut, conflicted } = table
    const found: Uncounted = { leftOut, conflicted }
    return leftOut.length + conflicted.length === 0 ? [] : [[key, found]]
  })
  return {
    callersOf,
    httpRoutes: graph.derive('http routes', tables, (_fetch, { routes }, key) => [[key, routes]]),
    routeStatuses: judged.map((routes) =>
      graph.derive(`statuses of ${routes.name}`, routes, (fetch, route, key) => {
        const id = routeId(route.route)
        return [
          [
            key,
            routeStatus(route, (service, { port, clients }) => {
              const found = fetch(uncounted, httpRoutesKey(service, port, clients))
              if (found?.conflicted.includes(id) === true) return 'conflicted'
              return found?.leftOut.includes(id) === true ? 'noRoom' : 'counts'
            }),
          ],
        ]
      }),
    ),
  }
}

/** The Services that it sends requests to, each once. */
function backendsOf({ cluster, rules }: RouteFacts): readonly ObjectKey[] {
  const refs = rules.flatMap(({ backends, filters }) =>
    [...filters, ...backends.flatMap((each) => each.filters)]
      .flatMap((filter) => (filter.kind === 'mirror' ? filter.backend : []))
      .concat(backends.map(({ ref }) => ref)),
  )
  const services = refs.filter(({ group, kind }) => group === '' && kind === 'Service')
  return [...new Set(services.map(({ namespace, name }) => objectKey(cluster, namespace, name)))]
}

/** The places at which a route counts, each once. */
function attachedOf(
  { route, rules, parents }: JudgedRoute,
  key: ObjectKey,
): readonly (readonly [string, AttachedRoute])[] {
  const { kind, namespace, name, seen, hostnames } = route
  // One that says nothing of connections leaves them, and requests, where they go.
  if (isOfConnections(kind) && rules.length === 0) return []
  const bytes = bytesOf({ kind, rules, hostnames })
  const found = new Map<string, AttachedRoute>()
  for (const { at, attachment } of parents) {
    if (attachment.kind !== 'attached') continue
    const { port, clients } = attachment
    const { createdAt } = seen
    const place = { at, port, clients }
    const attached = { ...place, kind, namespace, name, createdAt, rules, hostnames, bytes }
    found.set([key, at, port ?? ''].join(' '), attached)
  }
  return [...found]
}
