// SPDX-License-Identifier: Apache-2.0
// `ambit policies`

import type { Command } from 'commander'
import { oneDump } from '../cluster/dumps.ts'
import { type DumpFlags, dumpCommand } from '../flags.ts'
import { show } from '../show.ts'
import { policiesOf, type PolicyFilter, policyTable } from '../tables/policies.ts'

export function policiesCommand(): Command {
  return dumpCommand('policies', 'the policies that an agent enforces')
    .option('--policy-namespace <namespace>', 'only those of this namespace')
    .action((flags: DumpFlags & PolicyFilter) =>
      show(flags, async () => {
        const { dump, failures } = await oneDump(flags)
        return {
          data: policiesOf(dump, flags),
          text: () => [policyTable(dump, flags)],
          failures,
        }
      }),
    )
}
