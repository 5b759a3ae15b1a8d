// SPDX-License-Identifier: Apache-2.0
// The sample application: an HTTP server that reports who called it. It knows nothing of the mesh.
// GET /healthz answers probes, GET /probes lists where they came from, GET /slow never answers, GET /late answers a moment later, GET /flaky
// answers 503 every other time, anything else answers a report. Told to end, it answers whom it is connected to until they have heard that it
// ends.
// Configured by the environment: SERVICE, VERSION, PORT (8080), IDLE_GRACE_MS (2000).

import { type AddressInfo, Server } from 'node:net'
import { hostname } from 'node:os'
import { http } from '../../mesh/node-http.ts'

const service = process.env.SERVICE ?? 'server'
const version = process.env.VERSION ?? 'v1'
const port = Number(process.env.PORT ?? '8080')

/** The last probes are enough to see where they come from. */
const REMEMBERED_PROBES = 50
/** Long enough that of many who call there are always some who wait. */
const LATE_MS = 100
const probes: { readonly address: string; readonly at: string }[] = []

/** How long kept connections may go on at the end. Those that were idle all the while are closed; their clients have heard nothing. */
const idleGraceMs = Number(process.env.IDLE_GRACE_MS ?? '2000')

let flaky = 0
let isEnding = false

const server = http.createServer((request, response) => {
  const client = (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '')
  if (isEnding) response.shouldKeepAlive = false
  const answer = (body: unknown): void => {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(`${JSON.stringify(body)}\n`)
  }
  if (request.url === '/healthz') {
    probes.push({ address: client, at: new Date().toISOString() })
    if (probes.length > REMEMBERED_PROBES) probes.shift()
    answer({ ok: true })
    return
  }
  if (request.url === '/probes') {
    answer({ probes })
    return
  }
  if (request.url === '/slow') return
  if (request.url?.startsWith('/flaky') === true) {
    flaky += 1
    if (flaky % 2 === 1) {
      response.writeHead(503).end()
      return
    }
  }
  console.log(`${service} ${version}: ${request.method} ${request.url} from ${client}`)
  const report = {
    service,
    version,
    pod: process.env.POD_NAME ?? hostname(),
    pid: process.pid,
    client,
    clientPort: request.socket.remotePort,
    local: (request.socket.localAddress ?? '').replace(/^::ffff:/, ''),
    marker: request.headers['x-marker'] ?? null,
  }
  if (request.url === '/late') setTimeout(answer, LATE_MS, report)
  else answer(report)
})

server.listen(port, '::', () => {
  const { port: actual } = server.address() as AddressInfo
  console.log(`${service} ${version} listens on port ${actual}`)
})

process.once('SIGTERM', () => {
  isEnding = true
  // Only the listener: http's own close would end idle connections at once, on which the next request may be under way.
  Server.prototype.close.call(server, () => process.exit(0))
  setTimeout(() => server.closeIdleConnections(), idleGraceMs)
})
