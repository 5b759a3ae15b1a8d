// SPDX-License-Identifier: Apache-2.0
// Puts the dashboard together: what asks the agents, what computes the pages, and the server on loopback.

import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { findAgents } from '../cluster/agents.ts'
import type { ClusterTarget } from '../cluster/target.ts'
import { waypointPods } from '../cluster/waypoint-pods.ts'
import { agentClient } from './poll/agent-client.ts'
import { Poller } from './poll/poller.ts'
import { createGate, type Gate } from './server/gate.ts'
import { dashboardServer } from './server/server.ts'

const INTERVAL_MS = 2_000
/** Long enough that a call a second looks steady, short enough that a stop is seen. */
const WINDOW_MS = 15_000
const DEADLINE_MS = 5_000
const TOKEN_BYTES = 24

export interface Dashboard {
  /** With the token that lets in. */
  readonly url: string
  readonly close: () => Promise<void>
}

/** Starts it on the port of 127.0.0.1, on a free one for 0. Throws AMB_LISTEN. */
export async function startDashboard(target: ClusterTarget, port: number): Promise<Dashboard> {
  const ended = new AbortController()
  const poller = new Poller({
    intervalMs: INTERVAL_MS,
    windowMs: WINDOW_MS,
    deadlineMs: DEADLINE_MS,
    now: Date.now,
    findAgents: () => findAgents(target, undefined),
    findWaypoints: () => waypointPods(target),
    client: (pod, namespace) => agentClient(target, pod, namespace),
  })
  const token = randomBytes(TOKEN_BYTES).toString('base64url')
  let gate: Gate | undefined
  const app = dashboardServer({
    data: {
      snapshot: () => poller.snapshot(),
      subscribe: (listener) => poller.subscribe(listener),
    },
    gate: () => (gate ??= createGate(token, portOf(app.server.address()))),
  })
  try {
    await app.listen({ host: '127.0.0.1', port })
  } catch (thrown) {
    throw new AmbitError(
      'AMB_LISTEN',
      `Cannot serve the dashboard at 127.0.0.1:${port}: ${errorMessage(thrown)}`,
    )
  }
  const polling = poller.run(ended.signal)
  return {
    url: `http://127.0.0.1:${portOf(app.server.address())}/?token=${token}`,
    close: async () => {
      ended.abort()
      await Promise.all([polling, app.close()])
    },
  }
}

function portOf(address: AddressInfo | string | null): number {
  return typeof address === 'object' && address !== null ? address.port : 0
}
