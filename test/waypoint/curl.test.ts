// SPDX-License-Identifier: Apache-2.0
// What curl makes of a waypoint by HTTP/2 with prior knowledge: a client of another make (nghttp2).

import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer as createApp } from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import { promisify } from 'node:util'
import t from 'tap'
import { text } from 'node:stream/consumers'
import { makeWaypointWorld } from './world.ts'

const run = promisify(execFile)

void t.test('curl gets an answer by HTTP/2 of an app that speaks HTTP/1.1', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  const app = createApp((request, response) => {
    void text(request).then((body) => response.end(`${request.method} ${body}\n`))
  }).listen(0, '127.0.0.1')
  await once(app, 'listening')
  t.teardown(() => app.close())
  const { port } = app.address() as AddressInfo
  await world.addPlain('v1', (socket) => void socket.pipe(connect(port, '127.0.0.1')).pipe(socket))
  const front = createServer((socket) => {
    socket.on('error', () => undefined)
    void world.tunnel().then((tunnel) => socket.pipe(tunnel).pipe(socket))
  }).listen(0, '127.0.0.1')
  await once(front, 'listening')
  t.teardown(() => front.close())
  const url = `http://127.0.0.1:${(front.address() as AddressInfo).port}/`
  const flags = [
    '-sS',
    '--http2-prior-knowledge',
    '-m',
    '30',
    '-w',
    '%{http_version} %{http_code}\n',
  ]
  const { stdout } = await run('curl', [...flags, '-d', 'hello', url])
  t.equal(stdout, 'POST hello\n2 200\n')
})
