// SPDX-License-Identifier: Apache-2.0
// Runs inside a pod and answers on port 15008 with the certificate that it reads, as JSON {key, chain, roots}, from
// standard input (none: no TLS at all). Prints "listening", then a line of JSON for every connection: how its handshake
// ended, and what was heard of the client in plain.

import { createServer as createTcpServer } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { text } from 'node:stream/consumers'
import type { PeerCertificate } from './stranger.ts'

const HBONE_PORT = 15008
const given = JSON.parse(await text(process.stdin)) as Partial<PeerCertificate>

function tell(event: string, heard = ''): void {
  process.stdout.write(`${JSON.stringify({ event, heard })}\n`)
}

if (given.key === undefined || given.chain === undefined || given.roots === undefined) {
  const server = createTcpServer((socket) => {
    socket.on('data', (chunk) => tell('bytes', chunk.toString('latin1')))
    socket.on('error', () => undefined) // the client goes as it likes
    // A server that speaks HTTP at once, hoping for a careless client.
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
  })
  server.listen(HBONE_PORT, '::', () => process.stdout.write('listening\n'))
} else {
  const server = createTlsServer(
    {
      key: given.key,
      cert: given.chain,
      ca: given.roots,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
      requestCert: true,
      rejectUnauthorized: false,
    },
    (socket) => {
      socket.on('data', (chunk: Buffer) => tell('bytes', chunk.toString('latin1')))
      socket.on('error', () => undefined)
      tell('handshake')
    },
  )
  server.on('tlsClientError', () => tell('refused'))
  server.listen(HBONE_PORT, '::', () => process.stdout.write('listening\n'))
}
