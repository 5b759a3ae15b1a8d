// SPDX-License-Identifier: Apache-2.0
// Who may read what over discovery: one table. A type that is not in it is nobody's, so that a new one is hidden until
// somebody has thought about its readers. Of some types a reader sees only what is his: sharesOf().

import type { ResourceType } from '../../mesh/xds/resource-type.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { BACKEND_TLS } from '../../mesh/xds/types/backend-tls.ts'
import { HTTP_ROUTES } from '../../mesh/xds/types/http-routes.ts'
import { NODE } from '../../mesh/xds/types/mesh-node.ts'
import { NETWORK } from '../../mesh/xds/types/network-policy.ts'
import { WAYPOINT_POLICIES } from '../../mesh/xds/types/waypoint-policy.ts'
import type { ComponentRole, MeshComponent } from '../auth/component-gate.ts'
import { gatewayOf } from '../status/enforcement.ts'
import type { WaypointAudience } from './waypoint-audience.ts'

const READERS: ReadonlyMap<string, ReadonlySet<ComponentRole>> = new Map([
  // Where everything is and under whose name: an agent relays for any pod of its node to any pod of the mesh, and a waypoint's routes may lead
  // to any Service.
  [ADDRESS.typeUrl, new Set<ComponentRole>(['agent', 'waypoint'])],
  // What a waypoint does with requests; agents see none, and a waypoint that of the Services it serves.
  [HTTP_ROUTES.typeUrl, new Set<ComponentRole>(['waypoint'])],
  // Whom it trusts behind it.
  [BACKEND_TLS.typeUrl, new Set<ComponentRole>(['waypoint'])],
  // What it judges calls by: agents judge by their own, and a waypoint by those that are about what it serves.
  [WAYPOINT_POLICIES.typeUrl, new Set<ComponentRole>(['waypoint'])],
  // Their addresses, at which node ports are served.
  [NODE.typeUrl, new Set<ComponentRole>(['agent'])],
  [AUTHORIZATION.typeUrl, new Set<ComponentRole>(['agent'])],
  [NETWORK.typeUrl, new Set<ComponentRole>(['agent'])],
])

/** Says of each caller whether it may see this type. */
export function visibleTo(
  type: Pick<ResourceType<unknown>, 'typeUrl'>,
): (caller: MeshComponent) => boolean {
  return ({ role }) => READERS.get(type.typeUrl)?.has(role) === true
}

/** Says of each caller, resource by resource, what of these types he may see. */
export function sharesOf(
  audience: WaypointAudience,
): Readonly<Record<'policies' | 'routes', (caller: MeshComponent, name: string) => boolean>> {
  return {
    policies: (caller, name) =>
      caller.role === 'waypoint' && audience.seesPolicy(gatewayOf(caller), name),
    routes: (caller, name) =>
      caller.role === 'waypoint' && audience.seesRoutes(gatewayOf(caller), name),
  }
}
