// SPDX-License-Identifier: Apache-2.0
// Endpoints outside the mesh: they are reached in plain, and see what a TCP client would do.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { until } from '../support/until.ts'
import { closed, makeWaypointWorld } from './world.ts'

/** All that comes until the end; the stream stays open for answers. */
async function heard(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  await once(socket, 'end')
  return Buffer.concat(chunks)
}

void t.test('bytes and half-closes go both ways', async (t) => {
  const world = await makeWaypointWorld(t)
  await world.addPlain(
    'outside',
    (socket) => void heard(socket).then((all) => socket.end(`heard ${all.toString()}`)),
  )
  const tunnel = await world.tunnel()
  tunnel.end('hello')
  t.equal((await buffer(tunnel)).toString(), 'heard hello')
  await world.told.until(() => world.ended.length === 1)
  t.match(world.ended[0]?.end, { end: 'ok', bytesToUpstream: 5, bytesToDownstream: 11 })
})

void t.test('a receiver that lags is waited for, and gets everything', async (t) => {
  const world = await makeWaypointWorld(t)
  const arrived = Promise.withResolvers<Socket>()
  await world.addPlain('outside', (socket) => arrived.resolve(socket))
  const tunnel = await world.tunnel()
  const sent = Buffer.alloc(12 * 1024 * 1024, 'ambit')
  tunnel.end(sent)
  const socket = await arrived.promise
  // Nothing is read yet: what the windows take is under way, and the rest waits with its sender.
  t.ok((await heard(socket)).equals(sent))
  socket.end(sent)
  t.ok((await buffer(tunnel)).equals(sent))
})

void t.test("a reset of either side is one at the other's", async (t) => {
  const world = await makeWaypointWorld(t)
  const sockets: Socket[] = []
  await world.addPlain('outside', (socket) => {
    sockets.push(socket)
    socket.write('here')
  })
  const first = await world.tunnel()
  await once(first, 'data')
  const far = new Promise((resolve) => sockets[0]?.once('error', resolve))
  first.reset()
  t.match(await far, { code: 'ECONNRESET' })
  const second = await world.tunnel()
  await once(second, 'data')
  sockets[1]?.resetAndDestroy()
  await closed(second)
  t.ok(second.wasReset)
  await world.told.until(() => world.ended.length === 2)
  t.strictSame(
    world.ended.map(({ end }) => end.end),
    ['clientReset', 'serverReset'],
  )
})

void t.test(
  'requests are served, and a connection outside the mesh is used for whoever comes',
  async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http1' })
    const server = createServer((_, response) => response.end('plain'))
    let connections = 0
    await world.addPlain('outside', (socket) => {
      connections += 1
      server.emit('connection', socket)
    })
    const request = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n'
    for (const caller of [world, await world.asAnother('other')]) {
      const tunnel = await caller.tunnel()
      tunnel.write(request)
      let answer = ''
      tunnel.on('data', (chunk: Buffer) => {
        answer += chunk.toString()
      })
      await until(() => answer.endsWith('plain'), 'the answer')
      t.match(answer, /^HTTP\/1\.1 200 /)
      tunnel.end()
    }
    t.equal(connections, 1)
  },
)
