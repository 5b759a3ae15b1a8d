// SPDX-License-Identifier: Apache-2.0
// Policies whose selector no workload has.

import { WHOLE_MESH } from '../../../controller/istio-api/placed-policy.ts'
import { finding } from '../finding.ts'
import type { Check } from './check.ts'

export const SELECTS_NOTHING: Check = {
  codes: ['AMB101'],
  needs: ['Pod'],
  *run({ policies, objects }) {
    for (const policy of [...policies.authorizations, ...policies.peers]) {
      const { placed, concern, namespace } = policy
      if (placed?.selector === undefined || concern.workloads > 0) continue
      const isOfMesh = placed.area === WHOLE_MESH
      if (!objects.knows('Pod', isOfMesh ? undefined : namespace)) continue
      const labels = [...placed.selector].map((label) => label.join('=')).join(', ')
      const where = isOfMesh ? 'the cluster' : `namespace ${namespace}`
      yield finding(
        'AMB101',
        policy,
        'spec.selector.matchLabels',
        `no workload in ${where} has ${labels}`,
      )
    }
  },
}
