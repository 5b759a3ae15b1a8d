// SPDX-License-Identifier: Apache-2.0
// An app for pods of a lab that speaks TLS alone: it answers by which name it was asked for, and who called.
// Usage: tls-app.ts PORT CERTIFICATE-FILE KEY-FILE

import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { TLSSocket } from 'node:tls'

/** What it answers. */
export interface TlsAnswer {
  readonly serverName: string
  readonly client: string
}

const [port = '', certificate = '', key = ''] = process.argv.slice(2)

createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (request, response) => {
  const { servername, remoteAddress = '' } = request.socket as TLSSocket
  const answer: TlsAnswer = {
    serverName: typeof servername === 'string' ? servername : '',
    client: remoteAddress.replace(/^::ffff:/, ''),
  }
  response.writeHead(200, { 'content-type': 'application/json' })
  response.end(`${JSON.stringify(answer)}\n`)
}).listen(Number(port), '::')
