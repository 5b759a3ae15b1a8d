// SPDX-License-Identifier: Apache-2.0
// The Gateway that asks the controller for a waypoint, as `apply` writes and `generate` prints it. Pure.

import { WAYPOINT_FOR_LABEL } from '../../mesh/model/names.ts'

/** Which traffic a waypoint can be for. */
export const TRAFFIC_KINDS = ['service', 'workload', 'all', 'none'] as const

export interface WaypointChoices {
  readonly name: string
  /** Left out of the object where it is to be that of whoever applies it. */
  readonly namespace: string | undefined
  /** Undefined: as its class says, which is `service` as a rule. */
  readonly traffic: (typeof TRAFFIC_KINDS)[number] | undefined
}

export const WAYPOINT_CLASS = 'ambit-waypoint'
const HBONE_PORT = 15008

/** The object. */
export function waypointGateway({ name, namespace, traffic }: WaypointChoices): object {
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: {
      name,
      ...(namespace !== undefined && { namespace }),
      ...(traffic !== undefined && { labels: { [WAYPOINT_FOR_LABEL]: traffic } }),
    },
    spec: {
      gatewayClassName: WAYPOINT_CLASS,
      listeners: [{ name: 'mesh', port: HBONE_PORT, protocol: 'HBONE' }],
    },
  }
}
