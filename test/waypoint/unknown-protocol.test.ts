// SPDX-License-Identifier: Apache-2.0
// Ports of which nobody said what they speak: whoever speaks first, and how, decides.

import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { echo } from '../hbone/harness.ts'
import { closed, makeWaypointWorld } from './world.ts'

void t.test('a server that speaks first is heard by a client that waits for it', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'unknown' })
  await world.addPod('mysql', (incoming) => {
    const tunnel = incoming.accept({})
    tunnel.write('greeting')
    tunnel.once('data', (chunk: Buffer) => tunnel.end(`you said ${chunk.toString()}`))
  })
  const tunnel = await world.tunnel()
  const [greeting] = (await once(tunnel, 'data')) as [Buffer]
  t.equal(greeting.toString(), 'greeting')
  tunnel.end('GET / HTTP/1.1\r\n\r\n')
  t.equal((await buffer(tunnel)).toString(), 'you said GET / HTTP/1.1\r\n\r\n')
  t.equal(world.ended[0]?.end.end ?? 'ok', 'ok')
})

void t.test('a client that speaks first, and no HTTP, is carried as it is', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'unknown' })
  const pod = await world.addPod('redis', echo)
  const tunnel = await world.tunnel()
  tunnel.write('*1\r\n$4\r\n')
  tunnel.end('PING\r\n')
  t.equal((await buffer(tunnel)).toString(), '*1\r\n$4\r\nPING\r\n')
  t.equal(pod.tunnels.length, 1)
})

void t.test('a client that was silent and then speaks, and no HTTP, is carried', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'unknown' })
  const arrived = Promise.withResolvers<void>()
  const pod = await world.addPod('redis', (incoming) => {
    arrived.resolve()
    echo(incoming)
  })
  const tunnel = await world.tunnel()
  await arrived.promise
  tunnel.end('*1\r\n')
  t.equal((await buffer(tunnel)).toString(), '*1\r\n')
  t.equal(pod.tunnels.length, 1, 'by the connection that was made meanwhile')
})

void t.test('a server that closes without a word is closed to its client, too', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'unknown' })
  await world.addPod('closing', (incoming) => incoming.accept({}).end())
  const tunnel = await world.tunnel()
  tunnel.resume()
  await once(tunnel, 'end')
  tunnel.end()
  await world.told.until(() => world.ended.length === 1)
  t.equal(world.ended[0]?.end.end, 'ok')
})

void t.test('a client that leaves before it said anything leaves nothing behind', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'unknown' })
  await world.addPod('redis', echo)
  const tunnel = await world.tunnel()
  tunnel.reset()
  await world.told.until(() => world.ended.length === 1)
  t.equal(world.ended[0]?.end.end, 'clientReset')
  t.equal(world.waypoint.tunnels, 0)
})

void t.test('a client that was silent and finds no pod is reset', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'unknown' })
  const tunnel = await world.tunnel()
  await closed(tunnel)
  t.ok(tunnel.wasReset)
  t.match(world.ended[0]?.end, { end: 'noHealthyUpstream' })
})
