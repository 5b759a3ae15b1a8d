// SPDX-License-Identifier: Apache-2.0
// The dumps of all pods of all waypoints. One that cannot be asked is told of, and holds up no other.

import { AmbitError } from '../../mesh/errors.ts'
import type { Result } from '../../mesh/result.ts'
import { readWaypointDump, type WaypointDump } from '../dump/waypoint-dump.ts'
import { askAdmin } from './admin.ts'
import type { DumpFlags } from '../flags.ts'
import { type ClusterTarget, openTarget } from './target.ts'
import { type WaypointPod, waypointPods } from './waypoint-pods.ts'

export interface WaypointAnswer extends WaypointPod {
  readonly answer: Result<WaypointDump, string>
}

interface WaypointAnswers {
  readonly waypoints: readonly WaypointAnswer[]
  /** Why it cannot be told which waypoints there are. */
  readonly failures: readonly AmbitError[]
}

/** Asks each pod at once. Who may not look for waypoints is told so, and has the rest. */
export async function askAllWaypoints(target: ClusterTarget): Promise<WaypointAnswers> {
  let pods: readonly WaypointPod[]
  try {
    pods = await waypointPods(target)
  } catch (thrown) {
    if (thrown instanceof AmbitError) return { waypoints: [], failures: [thrown] }
    throw thrown
  }
  const waypoints = await Promise.all(
    pods.map(async (pod): Promise<WaypointAnswer> => {
      const { namespace, pod: name } = pod
      const asked = await askAdmin(target, { pod: name, namespace, path: '/config_dump' })
      return { ...pod, answer: asked.ok ? readWaypointDump(asked.value) : asked }
    }),
  )
  return { waypoints, failures: [] }
}

/** Those beside the agents that the flags speak of: none where that is one node's, or a saved dump. */
export async function waypointsBeside(flags: DumpFlags): Promise<WaypointAnswers> {
  return flags.file !== undefined || flags.node !== undefined
    ? { waypoints: [], failures: [] }
    : await askAllWaypoints(await openTarget(flags))
}

/** The error of a pod that cannot be asked. */
export function waypointUnreachable(
  { namespace, gateway, pod }: WaypointPod,
  reason: string,
): AmbitError {
  return new AmbitError(
    'AMB_WAYPOINT_UNREACHABLE',
    `Cannot ask waypoint ${namespace}/${gateway} (${pod}): ${reason}`,
  )
}

/** Those that could not be asked. */
export function waypointFailures({ waypoints, failures }: WaypointAnswers): readonly AmbitError[] {
  return [
    ...failures,
    ...waypoints.flatMap(({ answer, ...pod }) =>
      answer.ok ? [] : [waypointUnreachable(pod, answer.error)],
    ),
  ]
}
