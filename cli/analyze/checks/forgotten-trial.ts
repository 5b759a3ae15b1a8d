// SPDX-License-Identifier: Apache-2.0
// Policies that have been on trial for long.

import { finding } from '../finding.ts'
import type { Check } from './check.ts'

/** Long enough to see a week's traffic. */
const TRIAL_DAYS = 7
const DAY_MS = 24 * 60 * 60 * 1_000

export const FORGOTTEN_TRIAL: Check = {
  codes: ['AMB207'],
  needs: ['AuthorizationPolicy'],
  *run({ policies, now }) {
    for (const policy of policies.authorizations) {
      const { isDryRun, createdAt } = policy.facts
      // What is in a file alone has not been created yet.
      const days = Math.floor((now.getTime() - Date.parse(createdAt)) / DAY_MS)
      if (isDryRun && days >= TRIAL_DAYS)
        yield finding(
          'AMB207',
          policy,
          'metadata.annotations[istio.io/dry-run]',
          `on trial, and created ${days} days ago`,
        )
    }
  },
}
