// SPDX-License-Identifier: Apache-2.0
// `ambit connections`

import { type Command, Option } from 'commander'
import { allDumps } from '../cluster/dumps.ts'
import { waypointFailures, waypointsBeside } from '../cluster/waypoint-dumps.ts'
import type { WaypointDump } from '../dump/waypoint-dump.ts'
import { type DumpFlags, dumpCommand } from '../flags.ts'
import { show } from '../show.ts'
import {
  type ConnectionFilter,
  connectionTable,
  podsWithConnections,
  waypointConnectionRows,
} from '../tables/connections.ts'

export function connectionsCommand(): Command {
  return dumpCommand(
    'connections',
    'the open connections of the pods in the mesh, and of waypoints',
  )
    .option('-n, --workload-namespace <namespace>', 'only those of pods of this namespace')
    .addOption(
      new Option('--direction <way>', 'only those of one direction').choices([
        'inbound',
        'outbound',
      ]),
    )
    .option('--raw', 'addresses as they are, not by names')
    .action((flags: DumpFlags & ConnectionFilter) =>
      show(flags, async () => {
        const [{ dumps, failures }, asked] = await Promise.all([
          allDumps(flags),
          waypointsBeside(flags),
        ])
        const { waypoints } = asked
        return {
          data: [
            ...dumps.flatMap(({ dump }) => podsWithConnections(dump, flags)),
            ...waypoints.flatMap(({ namespace, gateway, pod, answer }) =>
              answer.ok
                ? [{ waypoint: { namespace, gateway, pod }, ...callsOf(answer.value) }]
                : [],
            ),
          ],
          text: () => {
            const tables = dumps.map(({ dump }) => connectionTable(dump, flags))
            const heading = tables[0]?.heading ?? []
            const names = dumps[0]?.dump ?? { services: [], workloads: [] }
            const ofWaypoints = waypointConnectionRows(waypoints, names, flags)
            return [{ heading, rows: [...tables.flatMap(({ rows }) => rows), ...ofWaypoints] }]
          },
          failures: [...failures, ...waypointFailures(asked)],
        }
      }),
    )
}

function callsOf({
  openCalls,
  moreCalls,
}: WaypointDump): Pick<WaypointDump, 'openCalls' | 'moreCalls'> {
  return { openCalls, moreCalls }
}
