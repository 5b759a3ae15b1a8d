// SPDX-License-Identifier: Apache-2.0
// How each agent and waypoint does, in a few words, and which cannot be asked: it stands on every page, since what such an agent would say is missing.

import type { AgentView, Standing, WaypointView } from '../view.ts'
import type { AgentSnapshot, Snapshot, WaypointSnapshot } from './snapshot.ts'

/** Computes it. */
export function standingOf({ at, windowSeconds, problem, agents, waypoints }: Snapshot): Standing {
  return {
    at,
    windowSeconds,
    problem,
    agents: agents.map(agentView),
    waypoints: waypoints.map(waypointView),
  }
}

function agentView(agent: AgentSnapshot): AgentView {
  const { node, pod, restarts, answeredAt, silent, facts } = agent
  const state = stateOf(agent)
  return {
    node,
    pod,
    restarts,
    version: facts?.version ?? '',
    state,
    isWell: state === WELL,
    answeredAt,
    silent,
  }
}

function waypointView(each: WaypointSnapshot): WaypointView {
  const { waypoint, pod, node, answeredAt, silent, facts, rates } = each
  // A waypoint that has all it waits for is ready.
  const state = stateOf({ silent, facts, isReady: true })
  let requestRate = 0
  for (const { key, counts } of rates.values())
    if (key.to === waypoint) requestRate += counts.requests
  return {
    waypoint,
    pod,
    node,
    version: facts?.version ?? '',
    state,
    isWell: state === WELL,
    answeredAt,
    silent,
    calls: facts?.calls ?? 0,
    requestRate,
    requests: facts?.requests ?? 0,
    failed: facts?.failed ?? 0,
    denied: facts?.denied ?? 0,
  }
}

const WELL = 'ready'

interface Seen {
  readonly silent: AgentSnapshot['silent']
  readonly facts: Pick<NonNullable<AgentSnapshot['facts']>, 'discovery' | 'pending'> | undefined
  readonly isReady: boolean
}

function stateOf({ silent, facts, isReady }: Seen): string {
  if (silent !== undefined) return 'cannot be asked'
  if (facts === undefined) return 'not asked yet'
  const { discovery, pending } = facts
  if (discovery.state !== 'connected' && discovery.state !== '')
    return `without control plane since ${discovery.since}${discovery.reason === '' ? '' : `: ${discovery.reason}`}`
  if (pending.length > 0) return `not ready: waits for ${pending.join(', ')}`
  return isReady ? WELL : 'not ready'
}
