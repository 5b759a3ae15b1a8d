// SPDX-License-Identifier: Apache-2.0
// What is to be made of which Gateways. A Gateway that is none of a waypoint, or is not as a waypoint's has to be, is no order: nothing is
// made of it, and what was made stays as it is until somebody puts the Gateway right, gives it to another controller, or deletes it.

import type { Collection, Graph } from '../../mesh/collections/index.ts'
import type { ObjectCollections } from '../core/input.ts'
import { objectKey, type ObjectKey } from '../core/origin.ts'
import { isUnsupportedAddress } from '../gateway-api/gateway-status.ts'
import { isOurs } from '../gateway-api/gateway-class.ts'
import type { Infrastructure } from '../gateway-api/gateway.ts'
import type { Waypoint } from '../gateway-api/waypoints.ts'

/** A Gateway, as its objects know it. */
export interface GatewayOwner {
  readonly namespace: string
  readonly name: string
  /** Of the Gateway: what is made goes with it. */
  readonly uid: string
}

export interface WaypointOrder extends GatewayOwner {
  readonly cluster: string
  readonly className: string
  readonly infrastructure: Infrastructure
}

/** Derives the orders; a change of a status is none. */
export function deriveOrders(
  graph: Graph,
  { Gateway: gateways }: Pick<ObjectCollections, 'Gateway'>,
  waypoints: Collection<ObjectKey, Waypoint>,
): Collection<ObjectKey, WaypointOrder> {
  return graph.derive('waypoints to be made', waypoints, (fetch, { allowed }, key) => {
    const gateway = fetch(gateways, key)
    if (gateway === undefined || allowed === undefined) return []
    // Not accepted (Gateway API): whoever asked for it counts on an address that it would not have.
    if (gateway.addresses.some(isUnsupportedAddress)) return []
    const { cluster, namespace, name, className, infrastructure, seen } = gateway
    return [[key, { cluster, namespace, name, uid: seen.uid, className, infrastructure }]]
  })
}

/** Cluster-scoped objects have no namespace. */
const CLUSTER_SCOPE = ''

/**
 * Derives the Gateways that are somebody else's: what was made of one that was ours is to go. Not of one whose class is not there: that is
 * nobody's, and a class that is deleted and made anew must not cost anybody a waypoint.
 */
export function deriveOthersGateways(
  graph: Graph,
  { Gateway: gateways, GatewayClass: classes }: Pick<ObjectCollections, 'Gateway' | 'GatewayClass'>,
): Collection<ObjectKey, GatewayOwner> {
  return graph.derive('gateways of others', gateways, (fetch, gateway, key) => {
    const { cluster, namespace, name, className, seen } = gateway
    const gatewayClass = fetch(classes, objectKey(cluster, CLUSTER_SCOPE, className))
    if (gatewayClass === undefined || isOurs(gatewayClass)) return []
    return [[key, { namespace, name, uid: seen.uid }]]
  })
}
