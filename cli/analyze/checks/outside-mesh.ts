// SPDX-License-Identifier: Apache-2.0
// Policies that speak of workloads none of which is in the mesh.

import { finding } from '../finding.ts'
import type { Check } from './check.ts'

export const OUTSIDE_MESH: Check = {
  codes: ['AMB203'],
  needs: ['Namespace', 'Pod'],
  *run({ policies, objects }) {
    for (const policy of [...policies.authorizations, ...policies.peers]) {
      const { concern, namespace, placed } = policy
      if (placed === undefined || concern.workloads === 0 || concern.members > 0) continue
      // One that is read may be the only one that is not in it.
      if (!objects.knows('Pod', placed.area === namespace ? namespace : undefined)) continue
      yield finding(
        'AMB203',
        policy,
        placed.selector === undefined ? 'metadata.namespace' : 'spec.selector',
        placed.selector === undefined
          ? `no workload of namespace ${namespace} is in the mesh`
          : 'none of the workloads selected is in the mesh',
      )
    }
  },
}
