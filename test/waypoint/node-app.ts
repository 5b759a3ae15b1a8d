// SPDX-License-Identifier: Apache-2.0
// Node's own server as a second reader of what goes on to an app: it knows nothing of what the waypoint made of it.

import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { Duplex } from 'node:stream'
import { text } from 'node:stream/consumers'

/** A request as an app hears of it. */
export function heardAs(
  { method, url }: Pick<IncomingMessage, 'method' | 'url'>,
  body: string,
): string {
  return `${method} ${url} ${body}`
}

/** What Node makes of one connection. */
export interface ReadByNode {
  /** The whole requests, in their order. */
  readonly heard: readonly string[]
  /** There was nothing but them. */
  readonly isWhole: boolean
}

/** Reads the bytes of one connection. */
export async function readByNode(bytes: string): Promise<ReadByNode> {
  const heard: string[] = []
  let isWhole = true
  const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    const place = heard.push('') - 1
    text(request).then(
      (body) => {
        heard[place] = heardAs(request, body)
        response.end()
      },
      // Cut in the middle: no whole request.
      () => response.destroy(),
    )
  })
  // Who has sent its last request still gets its answers: else Node cuts those that it has just read.
  Reflect.set(server, 'httpAllowHalfOpen', true)
  server.on('clientError', (_, socket) => {
    isWhole = false
    socket.destroy()
  })
  const wire = new Duplex({
    read: () => undefined,
    write: (_chunk, _encoding, done) => done(),
  })
  wire.on('error', () => undefined)
  server.emit('connection', wire)
  wire.push(Buffer.from(bytes, 'latin1'))
  wire.push(null)
  await once(wire, 'close')
  return { heard: heard.filter((each) => each !== ''), isWhole }
}
