// SPDX-License-Identifier: Apache-2.0
// What an operator has to know of a call that failed at an address whose holder the mesh has just forgotten (row 8a). Pure.

import type { MeshState } from '../../../mesh/model/mesh-state.ts'
import type { Workload } from '../../../mesh/model/types.ts'

/** Of a workload that was called and is known no more; empty of any other. Another may be meant, who has the address by now. */
export function lastKnown(workload: Workload | undefined, mesh: MeshState): string {
  if (workload === undefined || mesh.workload(workload.uid) !== undefined) return ''
  const { name, namespace } = workload
  return ` (the address was pod ${namespace}/${name}'s, which is gone, and is kept for it for five minutes, or until it is another workload's)`
}
