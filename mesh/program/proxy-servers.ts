// SPDX-License-Identifier: Apache-2.0
// The HTTP ports of a proxy that pods can reach, by Istio's numbers: 15020 metrics, 15021 readiness.

import type { FastifyInstance } from 'fastify'
import type { MetricsSource } from '../telemetry/metrics/family.ts'
import { serveMetrics } from './metrics-page.ts'
import { publicServer } from './public-server.ts'

/** How the proxy stands. */
export interface Standing {
  /** What is missing until it serves; empty when nothing is. */
  readonly missing: () => readonly string[] | Promise<readonly string[]>
  /** What a restart alone can cure; undefined when there is nothing of the kind. */
  readonly fault?: () => string | undefined
}

// Setting code or type is never awaited: a fastify reply is a promise of its own end, which comes only after the handler's.

/**
 * GET /healthz/ready: 200 `ready`, or 500 and what is still missing.
 * GET /healthz/live: 200 while the main thread turns and there is no fault.
 */
export function createReadinessServer({ missing, fault }: Standing): FastifyInstance {
  const app = publicServer()
  app.get('/healthz/live', async (_request, reply) => {
    const found = fault?.()
    void reply.type('text/plain').code(found === undefined ? 200 : 500)
    return found === undefined ? 'live\n' : `${found}\n`
  })
  app.get('/healthz/ready', async (_request, reply) => {
    const pending = await missing()
    void reply.type('text/plain').code(pending.length === 0 ? 200 : 500)
    return pending.length === 0 ? 'ready\n' : `not ready, pending: ${pending.join(', ')}\n`
  })
  return app
}

/** GET /metrics and /stats/prometheus. */
export function createMetricsServer(metrics: MetricsSource): FastifyInstance {
  const app = publicServer()
  serveMetrics(app, metrics, ['/metrics', '/stats/prometheus'])
  return app
}
