// SPDX-License-Identifier: Apache-2.0
// How each agent does, in a few words, and which cannot be asked: it stands on every page, since what such an agent would say is missing.

import type { AgentView, Standing } from '../view.ts'
import type { AgentSnapshot, Snapshot } from './snapshot.ts'

/** Computes it. */
export function standingOf({ at, windowSeconds, problem, agents }: Snapshot): Standing {
  return { at, windowSeconds, problem, agents: agents.map(agentView) }
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

const WELL = 'ready'

function stateOf({ silent, facts, isReady }: AgentSnapshot): string {
  if (silent !== undefined) return 'cannot be asked'
  if (facts === undefined) return 'not asked yet'
  const { discovery, pending } = facts
  if (discovery.state !== 'connected' && discovery.state !== '')
    return `without control plane since ${discovery.since}${discovery.reason === '' ? '' : `: ${discovery.reason}`}`
  if (pending.length > 0) return `not ready: waits for ${pending.join(', ')}`
  return isReady ? WELL : 'not ready'
}
