// SPDX-License-Identifier: Apache-2.0
// HTTP servers on ports that pods can reach: bounded connections, short deadlines, and metrics that are written no more often
// than is of use, whoever asks how often.

import fastify, { type FastifyInstance } from 'fastify'
import type { Registry } from 'prom-client'
import { boundConnections, PUBLIC_SERVER_TIMEOUTS } from './bounded-connections.ts'

/** Writing 20,000 series takes the main thread tens of milliseconds; whoever asks in a loop gets the same text again. */
const METRICS_REUSE_MS = 500

/** A server on a port that pods can reach, with at most so many connections. */
export function publicServer(maxConnections?: number): FastifyInstance {
  const app = fastify({ forceCloseConnections: true, ...PUBLIC_SERVER_TIMEOUTS })
  boundConnections(app.server, maxConnections)
  return app
}

/** Serves the registry's metrics at these paths, in the Prometheus text format. */
export function serveMetrics(
  app: FastifyInstance,
  registry: Registry,
  paths: readonly string[],
): void {
  let rendered: { readonly text: Promise<string>; readonly atMs: number } | undefined
  const render = (): Promise<string> => {
    const now = performance.now()
    if (rendered === undefined || now - rendered.atMs > METRICS_REUSE_MS)
      rendered = { text: registry.metrics(), atMs: now }
    return rendered.text
  }
  for (const path of paths)
    app.get(path, async (_request, reply) => {
      void reply.type(registry.contentType)
      return render()
    })
}
