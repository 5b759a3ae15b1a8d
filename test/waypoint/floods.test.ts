// SPDX-License-Identifier: Apache-2.0
// What a client can send for nothing by HTTP/2 within its tunnel, kind by kind: its connection ends, and the requests of others are answered
// all the while. The same floods on the tunnels' own connections are in test/http2 and test/hbone.

import { createServer, type ServerHttp2Stream } from 'node:http2'
import t from 'tap'
import { FRAME, H2_CODE, PREFACE } from '../../mesh/http2/protocol.ts'
import type { IncomingTunnel, OpenedTunnel } from '../../mesh/hbone/types.ts'
import { frame } from '../hbone/raw-peer.ts'
import { within } from '../support/until.ts'
import { FLOODS } from './flood-kinds.ts'
import { makeWaypointWorld, type World } from './world.ts'

/** An app that answers what is complete. */
function app(incoming: IncomingTunnel): void {
  const tunnel = incoming.accept({})
  tunnel.on('error', () => undefined)
  const server = createServer()
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => undefined)
    stream.resume()
    stream.on('end', () => {
      // It was given up meanwhile.
      if (stream.destroyed) return
      stream.respond({ ':status': 200 })
      stream.end('ok')
    })
  })
  server.emit('connection', tunnel)
}

/** The code of the GOAWAY that ends a connection; undefined when it ended without one. */
async function goAwayOf(tunnel: OpenedTunnel['tunnel']): Promise<number | undefined> {
  const chunks: Buffer[] = []
  tunnel.on('data', (chunk: Buffer) => void chunks.push(Buffer.from(chunk)))
  await new Promise<void>((resolve) => tunnel.once('close', resolve))
  const bytes = Buffer.concat(chunks)
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3))
    if (bytes[at + 3] === FRAME.goAway && bytes.length >= at + 17)
      return bytes.readUInt32BE(at + 13)
  return undefined
}

/** Makes one request after the other until it is stopped; gives their statuses. */
async function keepAsking({ tunnel }: Pick<World, 'tunnel'>): Promise<() => Promise<string[]>> {
  const way = await tunnel()
  const statuses: string[] = []
  const over = Promise.withResolvers<string[]>()
  let isWanted = true
  let answer = ''
  const ask = (): void => {
    answer = ''
    way.write('GET /honest HTTP/1.1\r\nhost: catalog\r\n\r\n')
  }
  way.on('data', (chunk: Buffer) => {
    answer += String(chunk)
    if (!answer.endsWith('\r\n0\r\n\r\n')) return
    statuses.push(answer.slice(0, 'HTTP/1.1 200'.length))
    if (isWanted) return ask()
    over.resolve(statuses)
    way.destroy()
  })
  way.on('error', over.reject)
  way.on('end', () => over.reject(new Error('the connection of another was ended')))
  ask()
  return () => {
    isWanted = false
    return over.promise
  }
}

for (const [what, make] of Object.entries(FLOODS))
  void t.test(`a flood of ${what} ends its connection, and fails nobody else`, async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http2', now: () => 0 })
    await world.addPod('v1', app)
    const stop = await keepAsking(await world.asAnother('other'))
    const flooder = await world.tunnel()
    flooder.on('error', () => undefined)
    flooder.write(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0)]))
    const ended = goAwayOf(flooder)
    flooder.write(make())
    t.equal(await within(ended, 'the flood to be ended'), H2_CODE.enhanceYourCalm)
    const statuses = await within(stop(), 'the last answer')
    t.ok(statuses.length > 0)
    t.ok(
      statuses.every((status) => status === 'HTTP/1.1 200'),
      `${statuses.length} requests of another`,
    )
  })
