// SPDX-License-Identifier: Apache-2.0
// The agent's admin API, by the paths of Istio's ztunnel. Whoever runs on the node's network can ask, so nothing here takes pods out of
// the mesh: that is for --unpin-on-exit.

import type { FastifyInstance } from 'fastify'
import { addLoggingRoutes, type LoggingRoutes } from '../../mesh/program/logging-routes.ts'
import { loopbackServer } from '../../mesh/program/loopback-server.ts'
import { addProfileRoutes, type ProfileOther } from '../../mesh/program/profile-routes.ts'
import type { ConfigDumpOptions } from './config-dump.ts'

export interface AdminActions {
  /** The whole state as plain data. */
  readonly configDump: (options: ConfigDumpOptions) => Promise<Record<string, unknown>>
  readonly logging: LoggingRoutes
  /** Profiles a worker. */
  readonly profile: ProfileOther
  /** Tells the peers of these pods to send nothing new over the connections they have, of all pods when none is named. Says of how many. */
  readonly drain: (pod: string | undefined) => Promise<number>
  /** Begins a graceful stop. */
  readonly quit: () => void
}

const PATHS = `GET  /audit                         what was refused, closed and granted; ?namespace=&since=&follow=true
GET  /config_dump                   the whole state, no key in it; ?resources adds the mesh state in its own encoding
GET  /logging                       how loud each part is
POST /logging?level=LEVEL           or ?level=PART:LEVEL,..., or ?reset
GET  /debug/pprof/profile           a .cpuprofile; ?seconds=10&frequency=100&thread=main|data-plane-N
GET  /debug/pprof/heap              a .heapprofile; ?seconds=10&thread=main|data-plane-N
POST /drain                         peers open new connections into the node's pods; ?pod=NAMESPACE/NAME
POST /quitquitquit                  ends the agent, gracefully
`

// Setting code or type is never awaited: a fastify reply is a promise of its own end, which comes only after the handler's.

/** Makes the server; it answers loopback callers only. */
export function createAdminServer(actions: AdminActions): FastifyInstance {
  const app = loopbackServer()
  app.get('/', (_request, reply) => reply.type('text/plain').send(PATHS))
  app.get<{ Querystring: { resources?: string } }>('/config_dump', (request) =>
    actions.configDump({ withResources: request.query.resources !== undefined }),
  )
  addLoggingRoutes(app, actions.logging)
  addProfileRoutes(app, actions.profile)
  app.post<{ Querystring: { pod?: string } }>('/drain', async (request, reply) => {
    const { pod } = request.query
    const drained = await actions.drain(pod)
    if (pod !== undefined && drained === 0)
      return reply.code(404).send({ error: `no pod ${pod.slice(0, 512)} is served here` })
    return { drained }
  })
  app.post('/quitquitquit', async (_request, reply) => {
    reply.raw.once('finish', () => actions.quit())
    void reply.type('text/plain')
    return 'shutting down\n'
  })
  return app
}
