// SPDX-License-Identifier: Apache-2.0
// The waypoints of a Service: the one that it is bound to and, while that is being replaced, a canary beside it that takes a share of the
// connections (istio.workload Service.waypoint, Service.weighted_waypoints). Pure.

import type { GatewayAddress } from './gateway.ts'
import type { Service } from './types.ts'

/** Where agents send the traffic to a Service. */
export type ServiceWaypoints = Pick<Service, 'waypoint' | 'weightedWaypoints'>

/** All of them, without an order: each may send to its endpoints and says for whom. */
export function waypointsOf({
  waypoint,
  weightedWaypoints,
}: ServiceWaypoints): readonly GatewayAddress[] {
  if (weightedWaypoints.length === 0) return waypoint === undefined ? [] : [waypoint]
  const weighted = weightedWaypoints.map(({ destination }) => destination)
  return waypoint === undefined ? weighted : [waypoint, ...weighted]
}

/**
 * The one that a new connection goes by, each by its weight out of the sum of all. Where all have none, the one that the Service is bound to.
 * `random` gives numbers from 0 to below 1.
 */
export function drawWaypoint(
  { waypoint, weightedWaypoints }: ServiceWaypoints,
  random: () => number,
): GatewayAddress | undefined {
  const total = weightedWaypoints.reduce((sum, { weight }) => sum + weight, 0)
  if (total === 0) return waypoint
  let left = random() * total
  for (const { destination, weight } of weightedWaypoints) {
    if (left < weight) return destination
    left -= weight
  }
  return waypoint
}
