// SPDX-License-Identifier: Apache-2.0
// The sample client: one HTTP GET, then one line of JSON with the answer and what the sockets of this side say.
// Usage: client.ts URL [MARKER]. Exit 0 on an answer, 1 on none.

import type { LookupAddress } from 'node:dns'
import { lookup } from 'node:dns/promises'
import { http } from '../../mesh/node-http.ts'

const [url, marker] = process.argv.slice(2)
if (url === undefined) {
  console.error('usage: client.ts URL [MARKER]')
  process.exit(2)
}

const target = new URL(url)
/** The longest a call across the lab may take. Milliseconds. */
const DEADLINE_MS = 5000

const dialled: LookupAddress = await lookup(target.hostname.replace(/^\[|\]$/g, ''))
const request = http.get(url, {
  family: dialled.family,
  lookup: (_host, options, callback) => {
    if (options.all === true) callback(null, [dialled])
    else callback(null, dialled.address, dialled.family)
  },
  headers: marker === undefined ? {} : { 'x-marker': marker },
  signal: AbortSignal.timeout(DEADLINE_MS),
})
request.on('error', (error) => {
  console.log(JSON.stringify({ dialled: dialled.address, error: error.message }))
  process.exitCode = 1
})
request.on('response', (response) => {
  // getpeername and getsockname, asked while the connection is open.
  const { remoteAddress, remotePort, localAddress } = response.socket
  let body = ''
  response.setEncoding('utf8')
  response.on('data', (chunk: string) => {
    body += chunk
  })
  response.on('end', () => {
    const answer: unknown = response.statusCode === 200 ? JSON.parse(body) : body
    console.log(
      JSON.stringify({
        dialled: dialled.address,
        peer: remoteAddress,
        peerPort: remotePort,
        local: localAddress,
        status: response.statusCode,
        answer,
      }),
    )
  })
})
