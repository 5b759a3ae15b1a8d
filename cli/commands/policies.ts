// SPDX-License-Identifier: Apache-2.0
// `ambit policies`

import type { Command } from 'commander'
import { oneDump } from '../cluster/dumps.ts'
import { waypointFailures, waypointsBeside } from '../cluster/waypoint-dumps.ts'
import { type DumpFlags, dumpCommand } from '../flags.ts'
import { show } from '../show.ts'
import {
  policiesOf,
  type PolicyFilter,
  policyTable,
  waypointPoliciesOf,
  waypointPolicyRows,
} from '../tables/policies.ts'

export function policiesCommand(): Command {
  return dumpCommand('policies', 'the policies that agents and waypoints enforce')
    .option('-n, --policy-namespace <namespace>', 'only those of this namespace')
    .action((flags: DumpFlags & PolicyFilter) =>
      show(flags, async () => {
        const [{ dump, failures }, asked] = await Promise.all([
          oneDump(flags),
          waypointsBeside(flags),
        ])
        const { waypoints } = asked
        return {
          data: [...policiesOf(dump, flags), ...waypointPoliciesOf(waypoints, flags)],
          text: () => {
            const { heading, rows } = policyTable(dump, flags)
            return [{ heading, rows: [...rows, ...waypointPolicyRows(waypoints, flags)] }]
          },
          failures: [...failures, ...waypointFailures(asked)],
        }
      }),
    )
}
