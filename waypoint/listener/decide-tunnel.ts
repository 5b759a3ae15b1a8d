// SPDX-License-Identifier: Apache-2.0
// What a CONNECT asks for: a port of a Service, or of a workload, that is bound to this waypoint. All else is refused: a waypoint that
// carried what is not its own would be an open proxy, and a way around the waypoint that it belongs to. Pure.

import { parseSocketAddress } from '../../mesh/model/address.ts'
import type { AppProtocol } from '../../mesh/model/gateway.ts'
import type { MeshState } from '../../mesh/model/mesh-state.ts'
import type { JudgedPlace } from '../../mesh/model/waypoint-policy-index.ts'
import { isMeshPort } from '../../mesh/model/ports.ts'
import { waypointsOf } from '../../mesh/model/service-waypoints.ts'
import type { GatewayAddress, Service, SocketAddress, Workload } from '../../mesh/model/types.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { excerpt } from '../../mesh/telemetry/excerpt.ts'
import type { Backend } from '../exchange/types.ts'
import { protocolAt } from '../upstream/backend-protocol.ts'

/** Whether a Service or a workload that is bound so is bound to this waypoint. */
export type IsOwn = (waypoint: GatewayAddress | undefined) => boolean

export type TunnelDecision =
  | {
      readonly kind: 'serve'
      /** What was called, as policies name it. */
      readonly called: JudgedPlace['called']
      /** What was called, as an address. */
      readonly target: SocketAddress
      readonly backend: Backend
      readonly service: Service | undefined
      readonly workload: Workload | undefined
      readonly protocol: AppProtocol
    }
  | {
      readonly kind: 'reject'
      readonly status: 400 | 404
      readonly reason: EndReason
      readonly message: string
    }

/** Decides one CONNECT. Never throws. */
export function decideTunnel(
  { mesh, namespace, isOwn }: TunnelWorld,
  authority: string,
): TunnelDecision {
  const target = parseSocketAddress(authority)
  if (target === undefined) return reject(400, `authority "${excerpt(authority)}" is not ip:port`)
  if (isMeshPort(target.port))
    return reject(400, `port ${target.port} belongs to the mesh`, 'selfCall')
  const match = mesh.findService(target, namespace)
  if (match !== undefined) {
    const { service, servicePort } = match
    if (!waypointsOf(service).some(isOwn))
      return reject(404, `service ${service.key} is not bound to this waypoint`)
    const port = service.ports.find((each) => each.servicePort === servicePort)
    if (port === undefined) return reject(404, `service ${service.key} has no port ${servicePort}`)
    return {
      kind: 'serve',
      called: { kind: 'service', namespace: service.namespace, name: service.name },
      target,
      backend: { kind: 'service', service: service.key, port: servicePort },
      service,
      workload: undefined,
      protocol: port.appProtocol,
    }
  }
  const workload = mesh.findWorkload(target.address)
  if (workload === undefined)
    return reject(404, `no service or workload is known at ${target.address}`)
  if (!isOwn(workload.waypoint))
    return reject(404, `workload ${workload.uid} is not bound to this waypoint`)
  return {
    kind: 'serve',
    called: { kind: 'workload', namespace: workload.namespace, name: workload.name },
    target,
    backend: { kind: 'workload', target },
    service: undefined,
    workload,
    protocol: protocolAt(workload, target.port),
  }
}

export interface TunnelWorld {
  readonly mesh: MeshState
  /** The waypoint's own: of several Services at one address its neighbour goes first. */
  readonly namespace: string
  readonly isOwn: IsOwn
}

function reject(
  status: 400 | 404,
  message: string,
  reason: EndReason = 'hboneBadRequest',
): TunnelDecision {
  return { kind: 'reject', status, reason, message }
}
