// SPDX-License-Identifier: Apache-2.0
// An ordinary HTTP/2 server over TLS, for a flood to break on elsewhere: what the flooder's own work costs the machine. Reads its papers
// as JSON from standard input, prints "listens". Usage: ordinary.ts PORT

import { createSecureServer } from 'node:http2'
import { text } from 'node:stream/consumers'
import type { PeerCertificate } from './stranger.ts'

const papers = JSON.parse(await text(process.stdin)) as PeerCertificate
const server = createSecureServer({
  key: papers.key,
  cert: papers.chain,
  ca: papers.roots,
  requestCert: true,
})
server.on('session', (session) => session.on('error', () => undefined))
server.on('connect', (_request, response) => {
  response.on('error', () => undefined)
  response.writeHead(400)
  response.end()
})
server.on('request', (_request, response) => {
  response.on('error', () => undefined)
  response.writeHead(400)
  response.end()
})
server.on('tlsClientError', () => undefined)
server.listen(Number(process.argv[2]), '::', () => console.log('listens'))
process.once('SIGTERM', () => process.exit(0))
