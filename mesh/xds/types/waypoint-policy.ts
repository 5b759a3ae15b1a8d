// SPDX-License-Identifier: Apache-2.0
// Policies of waypoints as resources of discovery. The type is ours, and for waypoints alone: agents, and Istio's ztunnel, would read of
// such a policy what it says of connections, and take that for all it says.

import { WAYPOINT_POLICY } from '../../model/waypoint-policy.ts'
import { keyedRecord } from './keyed-record.ts'

/** What an object of Kubernetes may have at most: a larger policy is made of none. */
const MAX_RESOURCE_BYTES = 2 * 1024 * 1024

/** Policies, named by their key. */
export const WAYPOINT_POLICIES = keyedRecord(
  'type.googleapis.com/ambit.mesh.WaypointPolicy',
  WAYPOINT_POLICY,
  MAX_RESOURCE_BYTES,
)
