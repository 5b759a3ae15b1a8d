// SPDX-License-Identifier: Apache-2.0
// DENY and AUDIT policies without rules. An ALLOW without rules allows nothing, which is what it is written for.

import { finding } from '../finding.ts'
import type { Check } from './check.ts'

export const EMPTY_RULES: Check = {
  codes: ['AMB205'],
  needs: ['AuthorizationPolicy'],
  *run({ policies }) {
    for (const policy of policies.authorizations) {
      const { action, rules, requestRules, isCut } = policy.facts
      const isEmpty = rules.length + requestRules.length === 0
      if ((action === 'deny' || action === 'audit') && isEmpty && !isCut)
        yield finding('AMB205', policy, 'spec.rules', `${action.toUpperCase()} without a rule`)
    }
  },
}
