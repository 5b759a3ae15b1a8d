// SPDX-License-Identifier: Apache-2.0
// The column WAYPOINT of workloads and services, with istioctl's words.

import type { ConfigDump, DumpedGateway } from '../dump/config-dump.ts'

/** Names the waypoint's Service: `None` for no waypoint, `NA` for one that is not known. */
export function waypointName(
  waypoint: DumpedGateway | undefined,
  { services }: Pick<ConfigDump, 'services'>,
): string {
  if (waypoint === undefined) return 'None'
  const { destination } = waypoint
  const service = services.find(
    ({ namespace, hostname, vips }) =>
      `${namespace}/${hostname}` === destination || vips.includes(destination),
  )
  return service?.name ?? 'NA'
}
