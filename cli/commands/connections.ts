// SPDX-License-Identifier: Apache-2.0
// `ambit connections`

import { type Command, Option } from 'commander'
import { allDumps } from '../cluster/dumps.ts'
import { type DumpFlags, dumpCommand } from '../flags.ts'
import { show } from '../show.ts'
import {
  type ConnectionFilter,
  connectionTable,
  podsWithConnections,
} from '../tables/connections.ts'

export function connectionsCommand(): Command {
  return dumpCommand('connections', 'the open connections of the pods in the mesh')
    .option('--workload-namespace <namespace>', 'only those of pods of this namespace')
    .addOption(
      new Option('--direction <way>', 'only those of one direction').choices([
        'inbound',
        'outbound',
      ]),
    )
    .option('--raw', 'addresses as they are, not by names')
    .action((flags: DumpFlags & ConnectionFilter) =>
      show(flags, async () => {
        const { dumps, failures } = await allDumps(flags)
        return {
          data: dumps.flatMap(({ dump }) => podsWithConnections(dump, flags)),
          text: () => {
            const tables = dumps.map(({ dump }) => connectionTable(dump, flags))
            const heading = tables[0]?.heading ?? []
            return [{ heading, rows: tables.flatMap(({ rows }) => rows) }]
          },
          failures,
        }
      }),
    )
}
