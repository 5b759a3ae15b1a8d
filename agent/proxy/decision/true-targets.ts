// SPDX-License-Identifier: Apache-2.0
// Where a call that a pod makes leads in the end: what NetworkPolicies on its way out go by. Pure.

import { familyOf } from '../../../mesh/model/address.ts'
import type { MeshState } from '../../../mesh/model/mesh-state.ts'
import type { Service, SocketAddress } from '../../../mesh/model/types.ts'
import type { OutboundDecision } from './outbound.ts'

/**
 * The endpoint that was chosen. Where others choose, the node or a waypoint, among the endpoints of a Service, any of them: all must be
 * allowed. What is no endpoint's is the address itself. A waypoint is on the way and no target: that it may be called opens nothing behind
 * it, and nobody has to allow it. Where its routes lead to another Service, that is its own call.
 */
export function trueTargets(
  mesh: MeshState,
  decision: Exclude<OutboundDecision, { readonly kind: 'deny' }>,
  asked: SocketAddress,
): readonly SocketAddress[] {
  const { service, workload, target } = decision
  const waypoint = decision.kind === 'hbone' ? decision.waypoint : undefined
  const isChosen = waypoint === undefined ? workload !== undefined : waypoint.of === 'workload'
  if (service === undefined || isChosen) return [target]
  const behind = endpointsBehind(mesh, service, waypoint === undefined ? asked : target)
  return behind.length === 0 ? [target] : behind
}

function endpointsBehind(
  mesh: MeshState,
  service: Service,
  { address: asked, port: servicePort }: SocketAddress,
): readonly SocketAddress[] {
  return mesh
    .endpoints(service.key)
    .flatMap(({ addresses, services, leaving }) =>
      [...(services.get(service.key) ?? []), ...(leaving.get(service.key) ?? [])]
        .filter((port) => port.servicePort === servicePort)
        .flatMap(({ targetPort }) =>
          addresses
            .filter((address) => familyOf(address) === familyOf(asked))
            .map((address) => ({ address, port: targetPort })),
        ),
    )
}
