// SPDX-License-Identifier: Apache-2.0
// Who has the address of a service's endpoint. Whoever writes a service's endpoints says where its traffic goes, but a workload
// of the mesh is never sent plaintext for it: its own protocol and identity count. Pure.

import type { MeshState } from './mesh-state.ts'
import type { IpAddress, Workload } from './types.ts'

/** The workload that `listed`, an endpoint of a service, is at `address`: another one where it is listed as a plain one. */
export function whoIsAt(mesh: MeshState, listed: Workload, address: IpAddress): Workload {
  if (listed.tunnelProtocol !== 'none') return listed
  const owner = holderOf(mesh, address)
  return owner?.tunnelProtocol === 'hbone' && owner.network === listed.network ? owner : listed
}

/** The workload that has the address; where nobody is known to, who had it in the mesh until not long ago: it may be there yet. */
export function holderOf(mesh: MeshState, address: IpAddress): Workload | undefined {
  return mesh.findWorkload(address) ?? mesh.formerWorkload(address)
}
