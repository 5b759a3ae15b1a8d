// SPDX-License-Identifier: Apache-2.0
// What a pod of a waypoint says of itself, out of its config dump.

import { err, ok, type Result } from '../../../mesh/result.ts'
import { type ProgramFacts, readProgramFacts } from './program-facts.ts'
import { count, fields } from './reading.ts'

export interface WaypointFacts extends ProgramFacts {
  /** Calls that are open. */
  readonly calls: number
  readonly requests: number
  readonly failed: number
  readonly denied: number
}

/** Reads them; the error says why it is no dump of a waypoint. */
export function readWaypointFacts(value: unknown): Result<WaypointFacts, string> {
  const dump = fields(value)
  const calls = count(dump['tunnels'])
  if (calls === undefined) return err('its config dump has no count "tunnels"')
  const traffic = fields(dump['traffic'])
  return ok({
    ...readProgramFacts(dump),
    calls,
    requests: count(traffic['requests']) ?? 0,
    failed: count(traffic['failed']) ?? 0,
    denied: count(traffic['denied']) ?? 0,
  })
}
