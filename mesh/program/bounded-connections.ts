// SPDX-License-Identifier: Apache-2.0
// Bounds on the connections to HTTP ports that every pod of the cluster can reach: no single source may take them all, and
// none, nor all together, keep the kubelet's probe out.

import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { Newcomers } from './newcomers.ts'

/** A scraper or a kubelet uses one or two. */
const MAX_PER_ADDRESS = 16
/** The pods of a node, and the nodes of a cluster, often share an IPv6 /64. */
const MAX_PER_NETWORK = 256
/** Of all sources together, unless told otherwise: far below what would hurt the agent's file descriptors. */
const MAX_TOTAL = 1024
/** A request is one short line, and its answer comes at once. */
const REQUEST_DEADLINE_MS = 5_000

/** Timeouts for fastify: a client that does not finish its request or keeps an idle connection is cut. */
export const PUBLIC_SERVER_TIMEOUTS = {
  connectionTimeout: 2 * REQUEST_DEADLINE_MS,
  requestTimeout: REQUEST_DEADLINE_MS,
  keepAliveTimeout: REQUEST_DEADLINE_MS,
} as const

/**
 * Cuts connections over the bounds as they arrive: of a source that has as many as it may, the newest; when all sources
 * together have, the oldest, so that no crowd keeps out who comes next.
 */
export function boundConnections(server: Server, total = MAX_TOTAL): void {
  const limits = { perAddress: MAX_PER_ADDRESS, perNetwork: MAX_PER_NETWORK, total }
  const connections = new Newcomers<Socket>(limits, (socket) => socket.destroy())
  server.on('connection', (socket) => {
    const source = socket.remoteAddress ?? ''
    if (connections.of(source) >= MAX_PER_ADDRESS) return void socket.destroy()
    connections.add(source, socket)
    socket.once('close', () => connections.delete(socket))
  })
}
