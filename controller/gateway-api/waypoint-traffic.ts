// SPDX-License-Identifier: Apache-2.0
// Which traffic a waypoint is for: that to Services, that to workloads by their own addresses, both, or none.

import { WAYPOINT_FOR_LABEL } from '../../mesh/model/names.ts'
import { isAbsent, shown } from '../istio-api/flaw.ts'
import type { ObjectReader } from '../reading/object-reader.ts'

const WORDS = ['service', 'workload', 'all', 'none'] as const

export type WaypointTraffic = (typeof WORDS)[number]

/** Where neither the Gateway nor its class says. */
export const DEFAULT_TRAFFIC: WaypointTraffic = 'service'

/**
 * Reads the label. A word that is unknown is taken for `all`: whoever is bound to such a waypoint meant something to go through it,
 * and nobody can tell what, so nothing goes past it.
 */
export function readTraffic(
  reader: Pick<ObjectReader, 'note'>,
  word: unknown,
): WaypointTraffic | undefined {
  if (isAbsent(word)) return undefined
  const known = WORDS.find((each) => each === word)
  if (known === undefined)
    reader.note(
      `metadata.labels[${WAYPOINT_FOR_LABEL}]`,
      `${shown(word)} is none of ${WORDS.join(', ')}: it is taken for all`,
    )
  return known ?? 'all'
}

/** Whether a waypoint for `traffic` takes what goes to a Service, or to a workload by its own address. */
export function takes(traffic: WaypointTraffic, target: 'service' | 'workload'): boolean {
  return traffic === 'all' || traffic === target
}
