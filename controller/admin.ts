// SPDX-License-Identifier: Apache-2.0
// The controller's admin API, on loopback: what it offers and to whom, how loud it is, profiles. The audit is added by who has it.

import type { FastifyInstance } from 'fastify'
import { addLoggingRoutes } from '../mesh/program/logging-routes.ts'
import { loopbackServer } from '../mesh/program/loopback-server.ts'
import { addProfileRoutes } from '../mesh/program/profile-routes.ts'
import type { LogLevels } from '../mesh/telemetry/log-levels.ts'
import type { HeldResources } from '../mesh/xds/digest.ts'
import type { StaleSeconds } from './sources/staleness.ts'
import type { ClientReport } from '../mesh/xds/server.ts'

/** What an operator may know of a replica. */
export interface ControllerReport {
  readonly version: string
  readonly podName: string
  readonly isLeader: boolean
  /** What it waits for before it is ready. */
  readonly pending: readonly string[]
  /** For how many seconds it has heard nothing of each kind of objects; those alone of which that is so. */
  readonly stale: StaleSeconds
  readonly trustDomain: string
  /** When the authority's certificate ends. */
  readonly rootNotAfter: string
  /** What is offered over discovery, by type URL. */
  readonly resources: Readonly<Record<string, HeldResources>>
  readonly clients: readonly ClientReport[]
}

/** Makes the server; it answers loopback callers only. */
export function createControllerAdmin(
  report: () => ControllerReport | undefined,
  levels: LogLevels,
): FastifyInstance {
  const app = loopbackServer()
  app.get('/', (_request, reply) =>
    reply
      .type('text/plain')
      .send(
        'GET  /audit\nGET  /status\nGET  /logging\nPOST /logging?level=\nGET  /debug/pprof/profile\nGET  /debug/pprof/heap\n',
      ),
  )
  app.get('/status', (_request, reply) => {
    const told = report()
    return told ?? reply.code(503).send({ error: 'the controller is still starting' })
  })
  addLoggingRoutes(app, { levels })
  addProfileRoutes(app)
  return app
}
