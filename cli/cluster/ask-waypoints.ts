// SPDX-License-Identifier: Apache-2.0
// The state of waypoints, from one pod of each: all have the same.

import { AmbitError } from '../../mesh/errors.ts'
import type { CopiedWaypoint } from '../../waypoint/explain-request.ts'
import { waypointView } from '../why/waypoint-view.ts'
import { askAdmin } from './admin.ts'
import type { ClusterTarget } from './target.ts'
import { waypointPods } from './waypoint-pods.ts'

/** Asks those of these names, `namespace/name` of the Gateway. */
export async function askWaypoints(
  target: ClusterTarget,
  names: ReadonlySet<string>,
): Promise<{
  readonly waypoints: ReadonlyMap<string, CopiedWaypoint>
  readonly failures: readonly AmbitError[]
}> {
  const waypoints = new Map<string, CopiedWaypoint>()
  const problems = new Map<string, AmbitError>()
  for (const { namespace, pod, gateway } of await waypointPods(target)) {
    const name = `${namespace}/${gateway}`
    if (!names.has(name) || waypoints.has(name)) continue
    const answer = await askAdmin(target, { pod, namespace, path: '/config_dump?resources' })
    const view = answer.ok ? waypointView(answer.value) : answer
    if (view.ok) waypoints.set(name, view.value)
    else
      problems.set(
        name,
        new AmbitError(
          'AMB_WAYPOINT_UNREACHABLE',
          `Cannot ask waypoint ${name} (${pod}): ${view.error}`,
        ),
      )
  }
  const failures = [...problems].flatMap(([name, problem]) =>
    waypoints.has(name) ? [] : [problem],
  )
  return { waypoints, failures }
}
