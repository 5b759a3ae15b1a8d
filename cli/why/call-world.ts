// SPDX-License-Identifier: Apache-2.0
// What is known when a connection is explained: who calls, and whom one can ask.

import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import type { CopiedWaypoint } from '../../waypoint/explain-request.ts'
import type { RequestText } from './request.ts'
import type { AgentView } from './world.ts'

/** The caller, in the mesh or not. */
export interface Caller {
  readonly pod: LocalPod
  readonly standing: { readonly state: string; readonly reason?: string }
}

export interface CallWorld {
  readonly source: AgentView
  /** The agent of a node; undefined when it did not answer. */
  readonly agentOf: (node: string) => AgentView | undefined
  readonly now: Date
  /** The waypoint of that name; undefined when it was not asked. */
  readonly waypointOf?: (name: string) => CopiedWaypoint | undefined
  /** What a waypoint is asked about; undefined: nobody has said, and it is PLAIN_REQUEST. */
  readonly request?: RequestText | undefined
}

/** More endpoints of a Service are counted. */
export const MOST_ENDPOINTS = 16
