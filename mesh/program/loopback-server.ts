// SPDX-License-Identifier: Apache-2.0
// HTTP servers for the operator on the machine: they answer loopback callers only, and only those who mean loopback. A browser on
// the machine can be made to ask (a page of anybody, a name that turns to 127.0.0.1: DNS rebinding); its requests bear the name
// or the origin of whoever made it ask, and are refused by that.

import fastify, { type FastifyInstance } from 'fastify'
import type { IncomingHttpHeaders } from 'node:http'
import { isLoopback, parseIpAddress } from '../model/address.ts'

/** A server for loopback callers. */
export function loopbackServer(): FastifyInstance {
  const app = fastify({ forceCloseConnections: true })
  app.addHook('onRequest', async (request, reply) => {
    const refusal = refusalOf(request.raw.headers, request.socket.remoteAddress)
    return refusal === undefined ? undefined : reply.code(403).send({ error: refusal })
  })
  return app
}

/** Why a request is not answered; undefined when it is. Pure. */
function refusalOf(
  headers: IncomingHttpHeaders,
  remoteAddress: string | undefined,
): string | undefined {
  const remote = parseIpAddress(remoteAddress ?? '')
  if (remote === undefined || !isLoopback(remote)) return 'only callers on loopback are answered'
  if (!isLoopbackHost(headers.host)) return 'the Host header must name loopback'
  const { origin } = headers
  // Also of a page that loopback itself serves: nothing of ours runs in a browser there.
  if (origin !== undefined || headers['sec-fetch-site'] !== undefined)
    return 'browsers are not answered'
  return undefined
}

function isLoopbackHost(host: string | undefined): boolean {
  const url = host === undefined ? undefined : URL.parse(`http://${host}`)
  if (url === null || url === undefined || url.pathname !== '/') return false
  const name = url.hostname.replace(/^\[|\]$/g, '')
  const address = parseIpAddress(name)
  return name === 'localhost' || (address !== undefined && isLoopback(address))
}
