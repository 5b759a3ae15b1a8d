// SPDX-License-Identifier: Apache-2.0
// Waypoints, and the conditions of each, in istioctl's columns.

import { conditionOf, type WaypointReport } from '../waypoint/waypoint-report.ts'
import { byTexts, type Table } from './table.ts'

/** By namespace and name. */
export function sortedWaypoints(waypoints: readonly WaypointReport[]): readonly WaypointReport[] {
  return waypoints.toSorted(byTexts(({ namespace, name }) => [namespace, name]))
}

/** A line each. */
export function waypointTable(waypoints: readonly WaypointReport[]): Table {
  return {
    heading: ['NAMESPACE', 'NAME', 'CLASS', 'ADDRESS', 'PROGRAMMED'],
    rows: waypoints.map((waypoint) => [
      waypoint.namespace,
      waypoint.name,
      waypoint.class,
      waypoint.addresses.join(','),
      conditionOf(waypoint, 'Programmed')?.status ?? 'Unknown',
    ]),
  }
}

/** A line for each condition of each. */
export function waypointStatusTable(waypoints: readonly WaypointReport[]): Table {
  return {
    heading: ['NAMESPACE', 'NAME', 'STATUS', 'TYPE', 'REASON', 'MESSAGE'],
    rows: waypoints.flatMap(({ namespace, name, conditions }) =>
      conditions.length === 0
        ? [[namespace, name, 'Unknown', 'Programmed', 'Pending', 'no controller has spoken yet']]
        : conditions.map(({ status, type, reason, message }) => [
            namespace,
            name,
            status,
            type,
            reason,
            message,
          ]),
    ),
  }
}
