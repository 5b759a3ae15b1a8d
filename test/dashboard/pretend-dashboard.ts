// SPDX-License-Identifier: Apache-2.0
// The dashboard's own poller and server over pretended agents.

import type { Test } from 'tap'
import { Poller } from '../../cli/dashboard/poll/poller.ts'
import { createGate, type Gate } from '../../cli/dashboard/server/gate.ts'
import { dashboardServer } from '../../cli/dashboard/server/server.ts'
import type { PretendCluster } from './pretend-cluster.ts'

export const TOKEN = 'the-token-of-this-test'

export interface PretendDashboard {
  readonly poller: Poller
  readonly origin: string
  readonly url: string
  readonly cookie: string
}

/** Serves it on loopback until the test ends. */
export async function pretendDashboard(
  t: Pick<Test, 'teardown'>,
  cluster: PretendCluster,
  times: { readonly intervalMs?: number; readonly deadlineMs?: number } = {},
): Promise<PretendDashboard> {
  const ended = new AbortController()
  const poller = new Poller({
    intervalMs: times.intervalMs ?? 50,
    windowMs: 15_000,
    deadlineMs: times.deadlineMs ?? 5_000,
    now: Date.now,
    findAgents: () => Promise.resolve(cluster.agents),
    findWaypoints: () => Promise.resolve(cluster.waypoints),
    client: cluster.client,
  })
  // It needs the port, which is known once the server listens.
  const known: { gate?: Gate } = {}
  const app = dashboardServer({
    data: {
      snapshot: () => poller.snapshot(),
      subscribe: (listener) => poller.subscribe(listener),
    },
    gate: () => {
      if (known.gate === undefined) throw new Error('asked before it listens')
      return known.gate
    },
  })
  const origin = await app.listen({ host: '127.0.0.1', port: 0 })
  const gate = createGate(TOKEN, Number(new URL(origin).port))
  known.gate = gate
  const polling = poller.run(ended.signal)
  t.teardown(async () => {
    ended.abort()
    await Promise.all([polling, app.close()])
  })
  return {
    poller,
    origin,
    url: `${origin}/?token=${TOKEN}`,
    cookie: gate.cookie.slice(0, gate.cookie.indexOf(';')),
  }
}
