// SPDX-License-Identifier: Apache-2.0
// What is to be made of which Gateways. A Gateway that is none of a waypoint, or is not as a waypoint's has to be, is no order: nothing is
// made of it, and what was made stays as it is until somebody puts the Gateway right or deletes it.

import type { Collection, Graph } from '../../mesh/collections/index.ts'
import type { ObjectCollections } from '../core/input.ts'
import type { ObjectKey } from '../core/origin.ts'
import { isUnsupportedAddress } from '../gateway-api/gateway-status.ts'
import type { Infrastructure } from '../gateway-api/gateway.ts'
import type { Waypoint } from '../gateway-api/waypoints.ts'

export interface WaypointOrder {
  readonly cluster: string
  readonly namespace: string
  readonly name: string
  /** Of the Gateway: what is made goes with it. */
  readonly uid: string
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
