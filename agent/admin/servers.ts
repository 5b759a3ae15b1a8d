// SPDX-License-Identifier: Apache-2.0
// The agent's HTTP ports that pods can reach, by Istio's numbers: 15020 metrics, 15021 readiness.

import type { FastifyInstance } from 'fastify'
import { publicServer, serveMetrics } from '../../mesh/program/public-server.ts'
import type { Readiness } from '../../mesh/program/readiness.ts'
import type { AgentMetrics } from './metrics.ts'

/** How long the workers may take to answer a readiness probe; the kubelet's own time-out is one second by default. */
const WORKER_ANSWER_MS = 500

/** How the data plane does. */
export interface WorkersHealth {
  /** The workers that do not answer within the time. */
  unresponsive(timeoutMs: number): Promise<readonly number[]>
  /** Those that hang and cannot be ended. */
  readonly unkillable: readonly number[]
}

// Setting code or type is never awaited: a fastify reply is a promise of its own end, which comes only after the handler's.

/**
 * GET /healthz/ready: 200 `ready`, or 500 and what is still missing. Asks the workers each time.
 * GET /healthz/live: 200 while the main thread turns and no worker hangs that cannot be ended; then a restart is all that helps.
 */
export function createReadinessServer(
  readiness: Readiness,
  workers: WorkersHealth,
): FastifyInstance {
  const app = publicServer()
  let asking: Promise<readonly number[]> | undefined
  // Who asks while the workers are being asked shares their answer: a crowd costs no more than one.
  const askOnce = (): Promise<readonly number[]> =>
    (asking ??= workers.unresponsive(WORKER_ANSWER_MS).finally(() => {
      asking = undefined
    }))
  app.get('/healthz/live', async (_request, reply) => {
    const hung = workers.unkillable
    void reply.type('text/plain').code(hung.length === 0 ? 200 : 500)
    return hung.length === 0 ? 'live\n' : `data-plane workers hang: ${hung.join(', ')}\n`
  })
  app.get('/healthz/ready', async (_request, reply) => {
    const stuck = await askOnce()
    const missing = [...readiness.pending(), ...stuck.map((index) => `data-plane worker ${index}`)]
    void reply.type('text/plain').code(missing.length === 0 ? 200 : 500)
    return missing.length === 0 ? 'ready\n' : `not ready, pending: ${missing.join(', ')}\n`
  })
  return app
}

/** GET /metrics and /stats/prometheus, in the Prometheus text format. */
export function createMetricsServer(metrics: AgentMetrics): FastifyInstance {
  const app = publicServer()
  serveMetrics(app, metrics.registry, ['/metrics', '/stats/prometheus'])
  return app
}
