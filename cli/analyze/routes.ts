// SPDX-License-Identifier: Apache-2.0
// The routes of a cluster, read as the controller reads them: those that have a Service, or a Gateway, for a parent.

import { readTcpRoute, readTlsRoute } from '../../controller/gateway-api/connection-routes.ts'
import { readGrpcRoute } from '../../controller/gateway-api/grpc-route.ts'
import { readHttpRoute } from '../../controller/gateway-api/http-route.ts'
import type { RouteFacts, RouteKind } from '../../controller/gateway-api/route-object.ts'
import type { ObjectRef } from './finding.ts'
import type { Objects } from './objects.ts'

export interface RouteObject extends ObjectRef {
  readonly kind: RouteKind
  readonly facts: RouteFacts
}

export const ROUTE_KINDS: readonly RouteKind[] = ['HTTPRoute', 'GRPCRoute', 'TLSRoute', 'TCPRoute']

const READERS: Readonly<Record<RouteKind, typeof readHttpRoute>> = {
  HTTPRoute: readHttpRoute,
  GRPCRoute: readGrpcRoute,
  TLSRoute: readTlsRoute,
  TCPRoute: readTcpRoute,
}
const ORIGIN = { cluster: '', clusterDomain: '' }

/** Reads them. */
export function readRoutes(objects: Objects): readonly RouteObject[] {
  return ROUTE_KINDS.flatMap((kind) =>
    objects.of(kind).flatMap((object) => {
      const { facts } = READERS[kind](object, ORIGIN)
      if (facts === undefined || facts.parents.length + facts.gateways.length === 0) return []
      const { namespace, name } = facts
      return [{ kind, namespace, name, facts }]
    }),
  )
}
