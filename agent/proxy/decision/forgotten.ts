// SPDX-License-Identifier: Apache-2.0
// What an operator has to know of a call that failed at an address whose holder the mesh has just forgotten (row 8a). Pure.

import type { HboneFailure } from '../../../mesh/hbone/types.ts'
import type { MeshState } from '../../../mesh/model/mesh-state.ts'
import type { Workload } from '../../../mesh/model/types.ts'

/** The failure; where the workload that was called is known no more it says so, since another may be meant who has the address by now. */
export function told(
  failure: HboneFailure,
  workload: Workload | undefined,
  mesh: MeshState,
): HboneFailure {
  if (workload === undefined || mesh.workload(workload.uid) !== undefined) return failure
  const { name, namespace } = workload
  const message = `${failure.message} (the address was pod ${namespace}/${name}'s, which is gone, and is kept for it for five minutes, or until it is another workload's)`
  return { ...failure, message }
}
