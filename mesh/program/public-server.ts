// SPDX-License-Identifier: Apache-2.0
// HTTP servers on ports that pods can reach: bounded connections, short deadlines.

import fastify, { type FastifyInstance } from 'fastify'
import { boundConnections, PUBLIC_SERVER_TIMEOUTS } from './bounded-connections.ts'

/** A server on a port that pods can reach, with at most so many connections. */
export function publicServer(maxConnections?: number): FastifyInstance {
  const app = fastify({ forceCloseConnections: true, ...PUBLIC_SERVER_TIMEOUTS })
  boundConnections(app.server, maxConnections)
  return app
}
