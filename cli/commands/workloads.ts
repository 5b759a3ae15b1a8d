// SPDX-License-Identifier: Apache-2.0
// `ambit workloads`

import type { Command } from 'commander'
import { oneDump } from '../cluster/dumps.ts'
import { type DumpFlags, dumpCommand } from '../flags.ts'
import { show } from '../show.ts'
import { type WorkloadFilter, workloadsOf, workloadTable } from '../tables/workloads.ts'

export function workloadsCommand(): Command {
  return dumpCommand('workloads', 'the workloads of the mesh, as an agent knows them')
    .option('-n, --workload-namespace <namespace>', 'only those of this namespace')
    .option('--workload-node <node>', 'only those on this node')
    .option('--address <ip>', 'only the one with this address')
    .action((flags: DumpFlags & WorkloadFilter) =>
      show(flags, async () => {
        const { dump, failures } = await oneDump(flags)
        return {
          data: workloadsOf(dump, flags),
          text: () => [workloadTable(dump, flags)],
          failures,
        }
      }),
    )
}
