// SPDX-License-Identifier: Apache-2.0
// Which Services are none of the mesh's business, though it knows them: the node's own proxying leads a call to their cluster IP.
// Chosen here, a plain endpoint would be dialled by its own address, and the node may lead that on once more: anybody may
// claim it as an external IP of a Service. Pure.

import { familyOf } from '../../../mesh/model/address.ts'
import type { MeshState, ServiceMatch } from '../../../mesh/model/mesh-state.ts'
import { isSlicesWorkloadUid, isPodWorkloadUid } from '../../../mesh/model/names.ts'
import type { IpAddress, Workload, WorkloadUid } from '../../../mesh/model/types.ts'
import { whoIsAt } from '../../../mesh/model/who-is-at.ts'

/** The call, and what would be chosen for it. */
export interface PlainCall {
  readonly mesh: MeshState
  readonly match: ServiceMatch
  /** The caller's key, which begins with its cluster. */
  readonly caller: WorkloadUid
  /** What was asked for. */
  readonly requested: IpAddress
  /** The plain endpoint's address. */
  readonly chosen: IpAddress
}

/**
 * Whether the node leads this call where the mesh would: to the cluster IP of a Kubernetes Service, whose endpoints are of slices
 * of this cluster, and all plain. All, fit or not: one of the mesh that becomes fit a moment later must not be called in plaintext, nor one
 * that the node has not heard the end of. Of the family asked for, because the node knows no other.
 */
export function isLedByNode({ mesh, match, caller, requested, chosen }: PlainCall): boolean {
  const { service, by } = match
  if (by !== 'own' || !service.canonical || familyOf(chosen) !== familyOf(requested)) return false
  if (mesh.hadMeshEndpoint(service.key)) return false
  return mesh.endpoints(service.key).every((endpoint) => isKnownToNode(mesh, endpoint, caller))
}

function isKnownToNode(mesh: MeshState, endpoint: Workload, caller: WorkloadUid): boolean {
  const { uid, clusterId, tunnelProtocol, addresses } = endpoint
  return (
    tunnelProtocol === 'none' &&
    caller.startsWith(clusterId) &&
    caller[clusterId.length] === '/' &&
    (isPodWorkloadUid(uid) || isSlicesWorkloadUid(uid)) &&
    addresses.every((address) => whoIsAt(mesh, endpoint, address) === endpoint)
  )
}
