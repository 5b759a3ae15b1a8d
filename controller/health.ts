// SPDX-License-Identifier: Apache-2.0
// The controller's HTTP port: /healthz (the process answers), /readyz (it can serve; else 503 with what is
// missing), /metrics.

import type { FastifyInstance } from 'fastify'
import { AmbitError, errorMessage } from '../mesh/errors.ts'
import type { HostPort } from '../mesh/model/host-port.ts'
import { serveMetrics } from '../mesh/program/metrics-page.ts'
import { publicServer } from '../mesh/program/public-server.ts'
import type { Readiness } from '../mesh/program/readiness.ts'
import type { ControllerMetrics } from './metrics.ts'

/** Starts the HTTP server, for at most so many connections at a time; close() it at the end. */
export async function startHealthServer(
  address: HostPort,
  readiness: Readiness,
  metrics: ControllerMetrics,
  maxConnections: number,
): Promise<FastifyInstance> {
  const server = publicServer(maxConnections)
  server.get('/healthz', () => ({ status: 'ok' }))
  server.get('/readyz', (_request, reply) => {
    const missing = readiness.pending()
    reply.code(missing.length === 0 ? 200 : 503)
    return { status: missing.length === 0 ? 'ready' : 'not ready', missing }
  })
  serveMetrics(server, metrics, ['/metrics'])
  try {
    await server.listen({ host: address.host, port: address.port })
  } catch (thrown) {
    const where = `${address.host} port ${address.port}`
    throw new AmbitError('AMB_LISTEN', `Cannot listen on ${where}: ${errorMessage(thrown)}`)
  }
  return server
}
