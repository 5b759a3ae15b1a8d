// SPDX-License-Identifier: Apache-2.0
// The dashboard's HTTP server: files of the page, what it shows as JSON, and an event whenever that has changed.

import fastify, { type FastifyInstance } from 'fastify'
import { auditPage } from '../model/audit.ts'
import { graphView } from '../model/graph.ts'
import { nodesView } from '../model/pods.ts'
import type { Snapshot } from '../model/snapshot.ts'
import { standingOf } from '../model/standing.ts'
import { workloadView } from '../model/workload.ts'
import { readAssets } from './assets.ts'
import type { Gate } from './gate.ts'
import { addEvents } from './events.ts'

export interface DashboardData {
  readonly snapshot: () => Snapshot
  readonly subscribe: (listener: () => void) => () => void
}

export interface DashboardOptions {
  readonly data: DashboardData
  /** Made once the port is known. */
  readonly gate: () => Gate
}

/**
 * Names of pods are chosen by others. Nothing they hold is ever markup: the page writes text only (trusted types hold it to that), no
 * script but the page's own runs, nothing is loaded from elsewhere, and nobody may frame it.
 */
const HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
}

/** Makes the server; it listens nowhere yet. */
export function dashboardServer({ data, gate }: DashboardOptions): FastifyInstance {
  const app = fastify({ forceCloseConnections: true })
  const assets = readAssets()
  app.addHook('onRequest', async (request, reply) => {
    void reply.headers(HEADERS)
    const url = new URL(request.raw.url ?? '/', 'http://localhost')
    const { judge, cookie } = gate()
    const entry = judge({
      method: request.method,
      headers: request.raw.headers,
      urlToken: url.searchParams.get('token') ?? undefined,
    })
    switch (entry.kind) {
      case 'welcome':
        return undefined
      case 'arrival':
        // The token stays in no history and on no screen.
        return reply.header('set-cookie', cookie).redirect('/', 303)
      case 'refused':
        return reply.code(403).type('text/plain; charset=utf-8').send(`${entry.reason}\n`)
    }
  })
  app.get('/', (_request, reply) => {
    const { type, body } = assets.get('index.html') ?? { type: 'text/plain', body: '' }
    return reply.type(type).send(body)
  })
  app.get<{ Params: { file: string } }>('/page/:file', (request, reply) => {
    const asset = assets.get(request.params.file)
    if (asset === undefined) return reply.code(404).send({ error: 'there is no such file' })
    return reply.type(asset.type).send(asset.body)
  })
  app.get('/api/graph', () => graphView(data.snapshot()))
  app.get('/api/standing', () => standingOf(data.snapshot()))
  app.get('/api/nodes', () => nodesView(data.snapshot()))
  app.get('/api/audit', () => auditPage(data.snapshot()))
  app.get<{ Querystring: { namespace?: string; name?: string } }>(
    '/api/workload',
    (request, reply) => {
      const { namespace = '', name = '' } = request.query
      const view = workloadView(data.snapshot(), { namespace, name })
      return view ?? reply.code(404).send({ error: 'no workload of this name is known' })
    },
  )
  addEvents(app, data.subscribe)
  return app
}
