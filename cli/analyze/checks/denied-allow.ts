// SPDX-License-Identifier: Apache-2.0
// ALLOW policies for workloads to which everything is denied.

import { WHOLE_MESH } from '../../../controller/istio-api/placed-policy.ts'
import { coversAll } from '../../../mesh/policy/covers.ts'
import { isOnlyReported } from '../../../mesh/policy/action-indexes.ts'
import { finding, refName } from '../finding.ts'
import type { AuthorizationObject } from '../policies.ts'
import { concernKey } from './concern-key.ts'
import type { Check } from './check.ts'

export const DENIED_ALLOW: Check = {
  codes: ['AMB208'],
  needs: ['AuthorizationPolicy'],
  *run({ policies }) {
    const closing = new Map<string, AuthorizationObject>()
    for (const each of policies.authorizations)
      if (each.placed !== undefined && deniesAll(each)) closing.set(concernKey(each.placed), each)
    for (const policy of policies.authorizations) {
      const { placed } = policy
      if (placed === undefined || placed.policy.action !== 'allow') continue
      if (isOnlyReported(placed.policy) || placed.policy.rules.length === 0) continue
      const { area, selector } = placed
      const by =
        closing.get(concernKey({ area: WHOLE_MESH, selector: undefined })) ??
        closing.get(concernKey({ area, selector: undefined })) ??
        closing.get(concernKey({ area: WHOLE_MESH, selector })) ??
        closing.get(concernKey({ area, selector }))
      if (by !== undefined)
        yield finding(
          'AMB208',
          policy,
          'spec.action',
          `AuthorizationPolicy ${refName(by)} denies everything to the same workloads`,
        )
    }
  },
}

/** Whether it certainly denies every call. */
export function deniesAll({ placed }: AuthorizationObject): boolean {
  if (placed === undefined || isOnlyReported(placed.policy)) return false
  return placed.policy.action === 'deny' && placed.policy.rules.some(coversAll)
}
