// SPDX-License-Identifier: Apache-2.0
// What a CONNECT of the waypoint says: for whom it calls, and by the name of which Service. Pods that are not bound to it would refuse to hear
// for whom (docs/compatibility.md, "By a waypoint"): where routes lead on to such, it calls for itself.

import { formatOriginalClient } from '../../mesh/telemetry/original-client.ts'
import type { TunnelHeaders } from '../../mesh/hbone/types.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import { waypointsOf } from '../../mesh/model/service-waypoints.ts'
import type { GatewayAddress, Service, Workload } from '../../mesh/model/types.ts'
import { workloadBaggage } from '../../mesh/telemetry/baggage.ts'
import { formatForwarded } from '../../mesh/telemetry/forwarded.ts'
import { formatTraceParent, newTraceParent } from '../../mesh/telemetry/traceparent.ts'
import type { RequestSource } from '../exchange/types.ts'

/** Where a CONNECT leads. */
interface Destination {
  readonly service: Pick<Service, 'hostname'> | undefined
  /** Whether the pod takes this waypoint's word for whom it calls. */
  readonly isBound: boolean
}

/** Whether the pod is bound to this waypoint, itself or by a Service of its own namespace: as its agent has it. */
export function isBoundPod(
  mesh: Pick<MeshState, 'service'>,
  { waypoint, services, leaving, namespace }: Workload,
  isOwn: (waypoint: GatewayAddress | undefined) => boolean,
): boolean {
  if (isOwn(waypoint)) return true
  for (const memberships of [services, leaving])
    for (const key of memberships.keys()) {
      const service = mesh.service(key)
      if (service?.namespace === namespace && waypointsOf(service).some(isOwn)) return true
    }
  return false
}

/** The headers of one CONNECT. */
export function upstreamHeaders(
  { address, identity, workload }: RequestSource,
  { service, isBound }: Destination,
): TunnelHeaders {
  return {
    ...(workload !== undefined && { baggage: workloadBaggage(workload) }),
    forwarded: formatForwarded({ for: address, host: service?.hostname }),
    traceparent: formatTraceParent(newTraceParent()),
    ...(isBound &&
      address !== undefined && {
        originalClient: formatOriginalClient({ identity, address: address.address }),
      }),
  }
}
