// SPDX-License-Identifier: Apache-2.0
// Bounds on the connections to ports that every pod of the cluster can reach: no single source may take them all, or
// keep the kubelet's probe out.

import type { Server } from 'node:http'
import { PerSource } from '../async/per-source.ts'

/** A scraper or a kubelet uses one or two. */
const MAX_PER_SOURCE = 16
/** Of all sources together: far below what would hurt the agent's file descriptors. */
const MAX_TOTAL = 1024
/** A request is one short line, and its answer comes at once. */
const REQUEST_DEADLINE_MS = 5_000

/** Timeouts for fastify: a client that does not finish its request or keeps an idle connection is cut. */
export const PUBLIC_SERVER_TIMEOUTS = {
  connectionTimeout: 2 * REQUEST_DEADLINE_MS,
  requestTimeout: REQUEST_DEADLINE_MS,
  keepAliveTimeout: REQUEST_DEADLINE_MS,
} as const

/** Cuts connections over the bounds as they arrive. */
export function boundConnections(server: Server): void {
  const connections = new PerSource({ perSource: MAX_PER_SOURCE, total: MAX_TOTAL })
  server.on('connection', (socket) => {
    const source = socket.remoteAddress ?? ''
    if (connections.enter(source)) socket.once('close', () => connections.leave(source))
    else socket.destroy()
  })
}
