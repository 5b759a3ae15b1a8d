// SPDX-License-Identifier: Apache-2.0
// The workloads that an agent knows, in istioctl's columns.

import type { ConfigDump, DumpedWorkload } from '../dump/config-dump.ts'
import { byTexts, type Table } from './table.ts'
import { waypointName } from './waypoint.ts'

export interface WorkloadFilter {
  readonly workloadNamespace?: string
  readonly workloadNode?: string
  readonly address?: string
}

/** Those that pass, by namespace, name and node. */
export function workloadsOf(
  { workloads }: ConfigDump,
  { workloadNamespace, workloadNode, address }: WorkloadFilter,
): readonly DumpedWorkload[] {
  return workloads
    .filter(
      ({ namespace, node, workloadIps }) =>
        (workloadNamespace === undefined || namespace === workloadNamespace) &&
        (workloadNode === undefined || node === workloadNode) &&
        (address === undefined || workloadIps.includes(address)),
    )
    .toSorted(byTexts(({ namespace, name, node }) => [namespace, name, node]))
}

/** The table of them. */
export function workloadTable(dump: ConfigDump, filter: WorkloadFilter): Table {
  return {
    heading: ['NAMESPACE', 'POD NAME', 'ADDRESS', 'NODE', 'WAYPOINT', 'PROTOCOL'],
    rows: workloadsOf(dump, filter).map(
      ({ namespace, name, workloadIps, hostname, node, waypoint, protocol }) => [
        namespace,
        name,
        workloadIps.length > 0 ? workloadIps.join(',') : (hostname ?? ''),
        node,
        waypointName(waypoint, dump),
        protocol,
      ],
    ),
  }
}
