// SPDX-License-Identifier: Apache-2.0
// All that is known at one moment, from which every page is computed.

import type { AuditView } from '../view.ts'
import type { LocalFacts } from './local-facts.ts'
import type { MeshFacts } from './mesh-facts.ts'
import type { TrafficCounts } from './traffic-series.ts'
import type { WaypointFacts } from './waypoint-facts.ts'

/** One agent and what it has last told; an agent that cannot be asked keeps that, with the time since when. */
export interface AgentSnapshot {
  readonly node: string
  readonly pod: string
  readonly isReady: boolean
  readonly restarts: number
  readonly answeredAt: number | undefined
  readonly silent: { readonly since: number; readonly reason: string } | undefined
  readonly facts: LocalFacts | undefined
  readonly totals: TrafficCounts
  /** Per second. */
  readonly rates: TrafficCounts
}

/** The same of a pod of a waypoint. */
export interface WaypointSnapshot {
  /** `namespace/name` of the Gateway. */
  readonly waypoint: string
  readonly pod: string
  readonly node: string
  readonly answeredAt: number | undefined
  readonly silent: AgentSnapshot['silent']
  readonly facts: WaypointFacts | undefined
  readonly totals: TrafficCounts
  readonly rates: TrafficCounts
}

export interface Snapshot {
  readonly at: number
  readonly windowSeconds: number
  readonly problem: string | undefined
  readonly agents: readonly AgentSnapshot[]
  readonly waypoints: readonly WaypointSnapshot[]
  readonly mesh: MeshFacts
  /** Newest first. */
  readonly audit: readonly AuditView[]
}
