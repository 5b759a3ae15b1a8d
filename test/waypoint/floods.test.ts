// SPDX-License-Identifier: Apache-2.0
// What a client can send for nothing by HTTP/2 within its tunnel, kind by kind: its connection ends, and the requests of others are answered
// all the while. The same floods on the tunnels' own connections are in test/http2 and test/hbone.

import { createServer, type ServerHttp2Stream } from 'node:http2'
import t from 'tap'
import type { HeaderList } from '../../mesh/http2/hpack.ts'
import { FLAG, FRAME, H2_CODE, PREFACE } from '../../mesh/http2/protocol.ts'
import type { IncomingTunnel, OpenedTunnel } from '../../mesh/hbone/types.ts'
import { frame, headerBlock, headers } from '../hbone/raw-peer.ts'
import { within } from '../support/until.ts'
import { makeWaypointWorld, type World } from './world.ts'

/** More than any budget has; the clock stands, and so none fills up again. */
const MANY = 2_500
const REQUEST: HeaderList = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/flood'],
  [':authority', 'catalog'],
]

const int = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
const repeat = (count: number, make: (index: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, index) => make(index)))
const odd = (index: number): number => 2 * index + 1

/** A literal that enters the dynamic table: `x` with 3,000 octets; then 0xbe names it again in one octet. */
const LARGE_ENTRY = Buffer.concat([
  Buffer.from([0x40, 1]),
  Buffer.from('x'),
  Buffer.from([0x7f, ((3_000 - 127) & 0x7f) | 0x80, (3_000 - 127) >> 7]),
  Buffer.alloc(3_000, 'y'),
])

const FLOODS: Readonly<Record<string, () => Buffer>> = {
  'rapid reset': () =>
    repeat(MANY, (index) =>
      Buffer.concat([headers(odd(index), REQUEST), frame(FRAME.rstStream, 0, odd(index), int(8))]),
    ),
  PING: () => repeat(MANY, () => frame(FRAME.ping, 0, 0, Buffer.alloc(8))),
  SETTINGS: () => repeat(MANY, () => frame(FRAME.settings, 0, 0)),
  'windows of one byte': () =>
    Buffer.concat([
      headers(1, REQUEST),
      repeat(MANY, () => frame(FRAME.windowUpdate, 0, 1, int(1))),
    ]),
  'empty DATA': () =>
    Buffer.concat([headers(1, REQUEST), repeat(MANY, () => frame(FRAME.data, 0, 1))]),
  CONTINUATION: () =>
    Buffer.concat([
      frame(FRAME.headers, 0, 1, headerBlock(REQUEST)),
      repeat(100, () => frame(FRAME.continuation, 0, 1)),
    ]),
  'lists that are large when they are read': () =>
    repeat(300, (index) =>
      frame(
        FRAME.headers,
        FLAG.endHeaders | FLAG.endStream,
        odd(index),
        Buffer.concat([headerBlock(REQUEST), LARGE_ENTRY, Buffer.alloc(4_000, 0xbe)]),
      ),
    ),
  'malformed requests': () =>
    repeat(MANY, (index) => headers(odd(index), [...REQUEST, ['Upper', 'case']], FLAG.endStream)),
}

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
