// SPDX-License-Identifier: Apache-2.0
// Who may read what over discovery: one table. A type that is not in it is nobody's, so that a new one is hidden until
// somebody has thought about its readers.

import type { ResourceType } from '../../mesh/xds/resource-type.ts'
import { ADDRESS } from '../../mesh/xds/types/address.ts'
import { AUTHORIZATION } from '../../mesh/xds/types/authorization.ts'
import { NODE } from '../../mesh/xds/types/mesh-node.ts'
import type { ComponentRole, MeshComponent } from '../auth/component-gate.ts'

const READERS: ReadonlyMap<string, ReadonlySet<ComponentRole>> = new Map([
  // Where everything is and under whose name: an agent relays for any pod of its node to any pod of the mesh.
  [ADDRESS.typeUrl, new Set<ComponentRole>(['agent'])],
  // Their addresses, at which node ports are served.
  [NODE.typeUrl, new Set<ComponentRole>(['agent'])],
  [AUTHORIZATION.typeUrl, new Set<ComponentRole>(['agent'])],
])

/** Says of each caller whether it may see this type. */
export function visibleTo(
  type: Pick<ResourceType<unknown>, 'typeUrl'>,
): (caller: MeshComponent) => boolean {
  return ({ role }) => READERS.get(type.typeUrl)?.has(role) === true
}
