// SPDX-License-Identifier: Apache-2.0
// Who may read what over discovery: one table. A type that is not in it is nobody's, so that a new one is hidden until
// somebody has thought about its readers.

import type { ResourceType } from '../../mesh/xds/resource-type.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { BACKEND_TLS } from '../../mesh/xds/types/backend-tls.ts'
import { HTTP_ROUTES } from '../../mesh/xds/types/http-routes.ts'
import { NODE } from '../../mesh/xds/types/mesh-node.ts'
import { NETWORK } from '../../mesh/xds/types/network-policy.ts'
import { WAYPOINT_POLICIES } from '../../mesh/xds/types/waypoint-policy.ts'
import type { ComponentRole, MeshComponent } from '../auth/component-gate.ts'

const READERS: ReadonlyMap<string, ReadonlySet<ComponentRole>> = new Map([
  // Where everything is and under whose name: an agent relays for any pod of its node to any pod of the mesh, and a waypoint's routes may lead
  // to any Service.
  [ADDRESS.typeUrl, new Set<ComponentRole>(['agent', 'waypoint'])],
  // What a waypoint does with requests; agents see none.
  [HTTP_ROUTES.typeUrl, new Set<ComponentRole>(['waypoint'])],
  // Whom it trusts behind it.
  [BACKEND_TLS.typeUrl, new Set<ComponentRole>(['waypoint'])],
  // What it judges calls by, wherever they lead: agents judge by their own.
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
