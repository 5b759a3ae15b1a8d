// SPDX-License-Identifier: Apache-2.0
// The lab's gate to a real API server: one process in the host's own network namespace, because only there the
// address of the kubeconfig means what its author meant, and its exec plugins work. It listens on two Unix sockets:
// one takes plain HTTP from the lab's own processes and adds the kubeconfig's credentials; the other carries bytes of
// pods, which bring their own TLS and their own tokens.

import type {
  IncomingHttpHeaders,
  IncomingMessage,
  OutgoingHttpHeaders,
  ServerResponse,
} from 'node:http'
import https from 'node:https'
import { createConnection, createServer, type Server } from 'node:net'
import { once } from 'node:events'
import { pipeline } from 'node:stream'
import { http } from '../../../mesh/node-http.ts'
import { errorMessage } from '../../../mesh/errors.ts'
import { type ClusterAccess, loadKubeConfig } from '../../../mesh/kube/access.ts'
import { createLogger, environmentLogLevel } from '../../../mesh/telemetry/log.ts'
import { tellReady } from '../../machine/tell-ready.ts'

/** What the lab tells its gateway at its start. */
export interface GatewayArguments {
  readonly kubeconfig: string
  /** Where to take requests of the lab's own processes. */
  readonly apiSocket: string
  /** Where to take connections of pods. */
  readonly relaySocket: string
}

const HTTPS_PORT = 443
const BAD_GATEWAY = 502
/** These concern one connection, not the message (RFC 9110 7.6.1). */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'host'])

async function main(options: GatewayArguments): Promise<void> {
  const logger = createLogger('lab-gateway', environmentLogLevel())
  const loaded = await loadKubeConfig({ kubeconfig: options.kubeconfig })
  if (!loaded.ok) throw loaded.error
  const access = loaded.value
  // Before the sockets are there: nobody but root may ever open them.
  process.umask(0o177)
  const api = http.createServer((request, response) => {
    forward(access, request, response).catch((error: unknown) => {
      logger.warn({ path: request.url, error: errorMessage(error) }, 'a request was not forwarded')
      refuse(response, errorMessage(error))
    })
  })
  // Watches last as long as their clients want.
  api.requestTimeout = 0
  await listen(api, options.apiSocket)
  await listen(relay(access), options.relaySocket)
  logger.info({ server: access.server.origin }, 'the way to the API server is open')
  tellReady()
}

/** Sends one request on with the credentials, and its answer back. */
async function forward(
  access: ClusterAccess,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { headers, agent } = await access.credentials()
  const url = new URL(
    access.server.pathname.replace(/\/$/, '') + (request.url ?? '/'),
    access.server,
  )
  const outgoing = https.request(url, {
    method: request.method,
    agent,
    headers: { ...endToEnd(request.headers), ...headers },
  })
  outgoing.on('response', (answer) => {
    // The caller asks once more after a 401: by then what rotated on disk has been read.
    if (answer.statusCode === 401) access.credentials({ refresh: true }).catch(() => undefined)
    response.writeHead(answer.statusCode ?? BAD_GATEWAY, endToEnd(answer.headers))
    // A watch of which nothing has happened yet must be seen to be open.
    response.flushHeaders()
    pipeline(answer, response, () => undefined)
  })
  outgoing.on('error', (error) => refuse(response, error.message))
  response.on('close', () => outgoing.destroy())
  pipeline(request, outgoing, () => undefined)
}

const endToEnd = (headers: IncomingHttpHeaders): OutgoingHttpHeaders =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP_BY_HOP.has(name)))

/** Answers as an API server that cannot serve. */
function refuse(response: ServerResponse, message: string): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const status = { kind: 'Status', apiVersion: 'v1', status: 'Failure', message, code: BAD_GATEWAY }
  response.writeHead(BAD_GATEWAY, { 'content-type': 'application/json' })
  response.end(JSON.stringify(status))
}

/** Joins each connection to one to the API server. */
function relay(access: ClusterAccess): Server {
  const { hostname, port } = access.server
  const target = {
    // The URL writes IPv6 addresses in brackets.
    host: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? HTTPS_PORT : Number(port),
  }
  return createServer({ allowHalfOpen: true }, (client) => {
    const upstream = createConnection({ ...target, allowHalfOpen: true })
    // What went wrong on one side is told the other by its end: a client sees what it would see of the server itself.
    pipeline(client, upstream, client, () => undefined)
  })
}

async function listen(server: Server, path: string): Promise<void> {
  server.listen(path)
  await once(server, 'listening')
}

await main(JSON.parse(process.argv[2] ?? '{}') as GatewayArguments)
