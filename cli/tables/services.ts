// SPDX-License-Identifier: Apache-2.0
// The Services that an agent knows, in istioctl's columns.

import type { ConfigDump, DumpedService } from '../dump/config-dump.ts'
import { byTexts, type Table } from './table.ts'
import { waypointName } from './waypoint.ts'

export interface ServiceFilter {
  readonly serviceNamespace?: string
}

/** Those that pass, by namespace, name and host name. */
export function servicesOf(
  { services }: ConfigDump,
  { serviceNamespace }: ServiceFilter,
): readonly DumpedService[] {
  return services
    .filter(({ namespace }) => serviceNamespace === undefined || namespace === serviceNamespace)
    .toSorted(byTexts(({ namespace, name, hostname }) => [namespace, name, hostname]))
}

/** The table of them; ENDPOINTS are the healthy ones of all. */
export function serviceTable(dump: ConfigDump, filter: ServiceFilter): Table {
  const status = new Map(dump.workloads.map((workload) => [workload.uid, workload.status]))
  return {
    heading: ['NAMESPACE', 'SERVICE NAME', 'SERVICE VIP', 'WAYPOINT', 'ENDPOINTS'],
    rows: servicesOf(dump, filter).map(({ namespace, name, vips, waypoint, endpoints }) => {
      const all = Object.values(endpoints)
      const healthy = all.filter(({ workloadUid }) => status.get(workloadUid) === 'Healthy')
      return [
        namespace,
        name,
        vips.map((vip) => vip.slice(vip.indexOf('/') + 1)).join(','),
        waypointName(waypoint, dump),
        `${healthy.length}/${all.length}`,
      ]
    }),
  }
}
