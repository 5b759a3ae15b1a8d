// SPDX-License-Identifier: Apache-2.0
// The agent's admin API, by the paths of Istio's ztunnel. Whoever runs on the node's network can ask, so nothing here takes pods out of
// the mesh: that is for --unpin-on-exit.

import type { FastifyInstance } from 'fastify'
import { addLoggingRoutes, type LoggingRoutes } from '../../mesh/program/logging-routes.ts'
import { loopbackServer } from '../../mesh/program/loopback-server.ts'
import { addProfileRoutes, type ProfileOther } from '../../mesh/program/profile-routes.ts'
import { type AccessRoutes, addAccessRoutes } from '../../mesh/program/access-routes.ts'
import type { ConfigDumpOptions } from './config-dump.ts'
import { addProbeRoute, type Probe } from './probe-route.ts'

export interface AdminActions {
  /** The whole state as plain data. */
  readonly configDump: (options: ConfigDumpOptions) => Promise<Record<string, unknown>>
  readonly logging: LoggingRoutes
  readonly access: AccessRoutes
  /** Profiles a worker. */
  readonly profile: ProfileOther
  /** Tells the peers of these pods to send nothing new over the connections they have, of all pods when none is named. Says of how many. */
  readonly drain: (pod: string | undefined) => Promise<number>
  /** Makes a call of the pod NAMESPACE/NAME; undefined when it is not served here. */
  readonly probe: Probe
  /** Begins a graceful stop. */
  readonly quit: () => void
}

const PATHS = `GET  /audit                         what was refused, closed and granted; ?namespace=&since=&follow=true
GET  /config_dump                   the whole state, no key in it; ?resources adds the mesh state in its own encoding, ?local leaves out what all agents know alike
GET  /logging                       how loud each part is
POST /logging?level=LEVEL           or ?level=PART:LEVEL,..., or ?reset
GET  /logging/access                which connections have an access line
POST /logging/access                ?filter=EXPRESSION&sample=SHARE, or ?reset
GET  /debug/pprof/profile           a .cpuprofile; ?seconds=10&frequency=100&thread=main|data-plane-N
GET  /debug/pprof/heap              a .heapprofile; ?seconds=10&thread=main|data-plane-N
POST /drain                         peers open new connections into the node's pods; ?pod=NAMESPACE/NAME
POST /probe?pod=NAMESPACE/NAME      really makes a call of the pod's, and says what came of it; &to=IP:PORT&timeoutMs=5000
POST /quitquitquit                  ends the agent, gracefully
`

// Setting code or type is never awaited: a fastify reply is a promise of its own end, which comes only after the handler's.

/** Makes the server; it answers loopback callers only. */
export function createAdminServer(actions: AdminActions): FastifyInstance {
  const app = loopbackServer()
  app.get('/', (_request, reply) => reply.type('text/plain').send(PATHS))
  app.get<{ Querystring: { resources?: string; local?: string } }>('/config_dump', ({ query }) =>
    actions.configDump({
      withResources: query.resources !== undefined,
      isLocal: query.local !== undefined,
    }),
  )
  addLoggingRoutes(app, actions.logging)
  addAccessRoutes(app, actions.access)
  addProfileRoutes(app, actions.profile)
  app.post<{ Querystring: { pod?: string } }>('/drain', async (request, reply) => {
    const { pod } = request.query
    const drained = await actions.drain(pod)
    if (pod !== undefined && drained === 0)
      return reply.code(404).send({ error: `no pod ${pod.slice(0, 512)} is served here` })
    return { drained }
  })
  addProbeRoute(app, actions.probe)
  app.post('/quitquitquit', async (_request, reply) => {
    reply.raw.once('finish', () => actions.quit())
    void reply.type('text/plain')
    return 'shutting down\n'
  })
  return app
}
