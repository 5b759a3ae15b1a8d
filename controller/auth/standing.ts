// SPDX-License-Identifier: Apache-2.0
// How a caller stands to the mesh, as far as it can be said without asking the API server: it decides what a call may cost us, and
// nothing else. Who is let in to what, the methods decide.

import type { Standing } from './call-gate.ts'
import { type Caller, callerName } from './caller.ts'
import type { ComponentDirectory } from './component-gate.ts'
import type { PodIndex } from './pod-index.ts'
import { waypointOf } from './waypoint-pods.ts'

/** A waypoint whose pod no watch has told of yet is ordinary: it has time enough for a certificate, and then comes again. */
export function standingOf(
  caller: Caller,
  { agents, waypoints }: ComponentDirectory,
  pods: PodIndex,
): Standing {
  if (agents.has(callerName(caller))) return 'agent'
  const { namespace, pod } = caller
  const known = pod === undefined ? undefined : pods.find(namespace, pod.name, pod.uid)
  if (known === undefined || known.hasEnded) return 'ordinary'
  return waypointOf(known, waypoints).ok ? 'waypoint' : 'ordinary'
}
