// SPDX-License-Identifier: Apache-2.0
// The waypoint's HTTP ports, by Istio's numbers: 15000 admin on loopback, 15020 metrics, 15021 readiness.

import type { FastifyInstance } from 'fastify'
import type { AuditJournal } from '../mesh/audit/journal.ts'
import { serveAudit } from '../mesh/program/audit-route.ts'
import { type AccessRoutes, addAccessRoutes } from '../mesh/program/access-routes.ts'
import { listen } from '../mesh/program/listen.ts'
import { addLoggingRoutes } from '../mesh/program/logging-routes.ts'
import { loopbackServer } from '../mesh/program/loopback-server.ts'
import { createMetricsServer, createReadinessServer } from '../mesh/program/proxy-servers.ts'
import type { Readiness } from '../mesh/program/readiness.ts'
import type { LogLevels } from '../mesh/telemetry/log-levels.ts'
import type { MetricsSource } from '../mesh/telemetry/metrics/family.ts'
import type { WaypointConfig } from './config.ts'

export interface ServersParts {
  readonly config: WaypointConfig
  readonly levels: LogLevels
  readonly metrics: MetricsSource
  readonly readiness: Readiness
  /** The whole state as plain data. */
  readonly configDump: (shown: { readonly withResources: boolean }) => Record<string, unknown>
  readonly audit: AuditJournal
  readonly access: AccessRoutes
}

const PATHS = `GET  /config_dump            the whole state, no key in it; ?resources adds the mesh state in its own encoding
GET  /audit                  what policies have refused and want on record: ?namespace=, ?since=, ?follow=true
GET  /logging                how loud each part is
POST /logging?level=LEVEL    or ?level=PART:LEVEL,..., or ?reset
GET  /logging/access         which requests have an access line
POST /logging/access         ?filter=EXPRESSION&sample=SHARE, or ?reset
`

/** Listens on all of them; throws AMB_LISTEN. `started` lets go of each. */
export async function startServers(
  parts: ServersParts,
  started: AsyncDisposableStack,
): Promise<void> {
  const { config } = parts
  for (const [app, where, name] of [
    [adminServer(parts), config.adminAddress, '--admin-address'],
    [createMetricsServer(parts.metrics), config.metricsAddress, '--metrics-address'],
    [
      createReadinessServer({ missing: () => parts.readiness.pending() }),
      config.readinessAddress,
      '--readiness-address',
    ],
  ] as const) {
    await listen(app, where, name)
    started.defer(() => app.close())
  }
}

function adminServer({ levels, configDump, audit, access }: ServersParts): FastifyInstance {
  const app = loopbackServer()
  app.get('/', (_request, reply) => reply.type('text/plain').send(PATHS))
  app.get<{ Querystring: { resources?: string } }>('/config_dump', ({ query }) =>
    configDump({ withResources: query.resources !== undefined }),
  )
  serveAudit(app, audit)
  addLoggingRoutes(app, { levels })
  addAccessRoutes(app, access)
  return app
}
