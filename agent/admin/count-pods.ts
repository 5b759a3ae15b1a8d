// SPDX-License-Identifier: Apache-2.0
// How many pods of the node are in the mesh, and how many are to be and are not.

import type { PodStanding } from '../enrolment/index.ts'

/** Active ones are captured and served; pending ones wait, have failed, or are cut off. */
export function countPods(standings: readonly Pick<PodStanding, 'state'>[]): {
  readonly active: number
  readonly pending: number
} {
  let active = 0
  let pending = 0
  for (const { state } of standings)
    if (state === 'captured') active += 1
    else if (state !== 'outside') pending += 1
  return { active, pending }
}
