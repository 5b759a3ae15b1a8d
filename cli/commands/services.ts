// SPDX-License-Identifier: Apache-2.0
// `ambit services`

import type { Command } from 'commander'
import { oneDump } from '../cluster/dumps.ts'
import { type DumpFlags, dumpCommand } from '../flags.ts'
import { show } from '../show.ts'
import { type ServiceFilter, servicesOf, serviceTable } from '../tables/services.ts'

export function servicesCommand(): Command {
  return dumpCommand('services', 'the Services of the mesh, as an agent knows them')
    .option('-n, --service-namespace <namespace>', 'only those of this namespace')
    .action((flags: DumpFlags & ServiceFilter) =>
      show(flags, async () => {
        const { dump, failures } = await oneDump(flags)
        return {
          data: servicesOf(dump, flags),
          text: () => [serviceTable(dump, flags)],
          failures,
        }
      }),
    )
}
