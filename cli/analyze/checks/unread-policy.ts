// SPDX-License-Identifier: Apache-2.0
// Policies of which something cannot be read or evaluated: what the controller writes into their status, or where they have none
// into its log, before they are applied.

import { finding } from '../finding.ts'
import type { Check } from './check.ts'

export const UNREAD_POLICY: Check = {
  codes: ['AMB201', 'AMB202', 'AMB206'],
  needs: ['AuthorizationPolicy', 'PeerAuthentication', 'NetworkPolicy'],
  *run({ policies, networkPolicies }) {
    for (const policy of [...policies.authorizations, ...policies.peers])
      for (const { kind, field, reason } of policy.facts.flaws)
        yield finding(kind === 'unsupported' ? 'AMB201' : 'AMB202', policy, field, reason)
    for (const policy of networkPolicies.all)
      for (const { field, reason } of policy.problems)
        yield finding('AMB202', policy, field, reason)
    for (const policy of policies.authorizations)
      if (policy.facts.action === 'custom')
        yield finding('AMB206', policy, 'spec.action', 'CUSTOM is evaluated by no agent')
  },
}
