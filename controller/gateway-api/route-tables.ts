// SPDX-License-Identifier: Apache-2.0
// What a waypoint does at a Service or one of its ports: the rules of all routes that are attached there, in the order in which the Gateway
// API gives precedence to equals. Pure.

import { LONGEST_LIST } from '../../mesh/model/codec/kind.ts'
import type { ConnectionRule, HttpRoutes, HttpRule } from '../../mesh/model/http-routes.ts'
import { HTTP_ROUTES_RECORD, httpRoutesKey } from '../../mesh/model/http-routes-wire.ts'
import type { ObjectKey } from '../core/origin.ts'
import { isOfConnections, type RouteKind } from './route-object.ts'

/** A route at a Service, or at one of its ports. */
export interface AttachedRoute {
  /** The Service it is attached to. */
  readonly at: ObjectKey
  /** Undefined: at all of them. */
  readonly port: number | undefined
  /** The namespace for whose clients it is; undefined: for all. */
  readonly clients: string | undefined
  readonly kind: RouteKind
  readonly namespace: string
  readonly name: string
  /** As Kubernetes writes it: texts in the order of time. */
  readonly createdAt: string
  readonly rules: readonly HttpRule[]
  readonly hostnames: readonly string[]
  /** Of its rules on the wire. */
  readonly bytes: number
}

/** The routes of one key. */
export interface RouteTable {
  readonly routes: HttpRoutes
  /** Those that found no room there. */
  readonly leftOut: readonly RouteId[]
  /** Those of another kind than the one that counts there. */
  readonly conflicted: readonly RouteId[]
}

/** `kind/namespace/name` */
export type RouteId = string & { readonly __brand: 'RouteId' }

/** As much as a resource may have on its way to a waypoint, and some room: the last routes do not count where there are more. */
const MOST_BYTES = 2_000_000

const NOWHERE = { key: '', service: '', port: undefined, clients: undefined }

/** Names a route among those of a Service. */
export function routeId(route: Pick<AttachedRoute, 'kind' | 'namespace' | 'name'>): RouteId {
  return [route.kind, route.namespace, route.name].join('/') as RouteId
}

/** How many bytes rules have on their way to a waypoint. */
export function bytesOf(route: Pick<AttachedRoute, 'kind' | 'rules' | 'hostnames'>): number {
  return HTTP_ROUTES_RECORD.encode({ ...NOWHERE, ...contentOf(route) }).length
}

/**
 * The tables of a Service that has these routes: for all clients, and for those of each namespace that has routes of its own, one for each
 * port that has routes of its own, and one for the others.
 */
export function routeTables(
  service: string,
  attached: readonly AttachedRoute[],
): readonly (readonly [string, RouteTable])[] {
  const places = new Map(
    attached.map(({ port, clients }) => [httpRoutesKey(service, port, clients), { port, clients }]),
  )
  return [...places].map(([key, { port, clients }]) => {
    const here = attached.filter(
      (route) => route.clients === clients && (route.port === undefined || route.port === port),
    )
    const once = new Map(here.map((route) => [routeId(route), route]))
    return [key, tableOf({ key, service, port, clients }, [...once.values()].sort(byAge))]
  })
}

/** The kinds of routes, the one that counts where there are several at the head (GEP-1294, Route types). */
const KINDS: readonly RouteKind[] = ['GRPCRoute', 'HTTPRoute', 'TLSRoute', 'TCPRoute']

function tableOf(
  place: Omit<HttpRoutes, 'rules' | 'connections'>,
  all: readonly AttachedRoute[],
): RouteTable {
  const kind = KINDS.find((each) => all.some((route) => route.kind === each))
  const ordered = all.filter((route) => route.kind === kind)
  const conflicted = all.filter((route) => route.kind !== kind).map(routeId)
  const rules: HttpRule[] = []
  const connections: ConnectionRule[] = []
  const leftOut: RouteId[] = []
  let bytes = 0
  let count = 0
  for (const route of ordered) {
    bytes += route.bytes
    count += route.rules.length
    // Once one is left out all younger ones are: who counts must not depend on sizes.
    if (bytes > MOST_BYTES || count > LONGEST_LIST) leftOut.push(routeId(route))
    else {
      const content = contentOf(route)
      rules.push(...content.rules)
      connections.push(...content.connections)
    }
  }
  return { routes: { ...place, rules, connections }, leftOut, conflicted }
}

/** What a route says, of requests or of connections. */
function contentOf({
  kind,
  rules,
  hostnames,
}: Pick<AttachedRoute, 'kind' | 'rules' | 'hostnames'>): Pick<HttpRoutes, 'rules' | 'connections'> {
  if (!isOfConnections(kind)) return { rules, connections: [] }
  const isTls = kind === 'TLSRoute'
  const connections = rules.map(
    ({ route, backends, fault }): ConnectionRule => ({
      route,
      isTls,
      hostnames,
      backends: backends.map(({ target, weight }) => ({ target, weight })),
      fault,
    }),
  )
  return { rules: [], connections }
}

/** The oldest first, then by namespace/name. */
function byAge(left: AttachedRoute, right: AttachedRoute): number {
  return (
    compare(left.createdAt, right.createdAt) ||
    compare(`${left.namespace}/${left.name}`, `${right.namespace}/${right.name}`)
  )
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0
}
