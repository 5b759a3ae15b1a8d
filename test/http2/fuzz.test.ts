// SPDX-License-Identifier: Apache-2.0
// Whatever an authenticated peer sends, the server stays up, keeps nothing of it, and serves the next one.

import fc from 'fast-check'
import t from 'tap'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { echo, makeWorld } from '../hbone/harness.ts'
import { CONNECT, frame, headers, rawPeer } from '../hbone/raw-peer.ts'
import { until } from '../support/until.ts'

await t.test('a server survives any sequence of frames', async (t) => {
  const memory = new HeldMemory(HELD_LIMIT_BYTES)
  const world = await makeWorld(t, {
    memory,
    // Answers in every way a caller may.
    onTunnel: (incoming) => {
      if (incoming.authority.endsWith('1')) incoming.reject(503)
      else if (incoming.authority.endsWith('2')) setImmediate(() => incoming.accept({}).resume())
      else if (incoming.authority.endsWith('3')) incoming.accept({}).reset()
      else echo(incoming)
    },
  })
  const streamId = fc.constantFrom(0, 1, 1, 3, 5, 7, 2)
  const flags = fc.constantFrom(0, 1, 4, 5, 8, 0x2d)
  const noise = fc
    .tuple(fc.integer({ min: 0, max: 10 }), flags, streamId, fc.uint8Array({ maxLength: 24 }))
    .map(([type, flag, id, payload]) => frame(type, flag, id, payload))
  const connect = fc
    .tuple(fc.constantFrom(1, 3, 5, 7), fc.constantFrom(0, 1), fc.integer({ min: 0, max: 4 }))
    .map(([id, flag, last]) =>
      headers(id, [...CONNECT.slice(0, 1), [':authority', `10.0.0.1:${last}`]], flag),
    )
  const data = fc
    .tuple(fc.constantFrom(1, 3, 5), fc.constantFrom(0, 1), fc.uint8Array({ maxLength: 200 }))
    .map(([id, flag, payload]) => frame(0, flag, id, payload))
  const reset = fc.constantFrom(1, 3, 5).map((id) => frame(3, 0, id, Buffer.from([0, 0, 0, 8])))
  const script = fc.array(fc.oneof(connect, connect, data, data, reset, noise), { maxLength: 20 })
  await fc.assert(
    fc.asyncProperty(script, async (frames) => {
      const peer = await rawPeer(t, world.port, world.clientCertificate)
      const closed = new Promise<void>((resolve) => peer.socket.once('close', () => resolve()))
      peer.send(...frames)
      peer.socket.end()
      await closed
    }),
    { numRuns: 150 },
  )
  await until(() => world.server.connectionCount() === 0, 'the connection to go')
  t.equal(memory.total, 0, 'nothing is left on the account')
  const { tunnel } = await world.open()
  tunnel.end('still here')
  const [chunk] = await tunnel.toArray()
  t.equal(String(chunk), 'still here')
  t.equal(world.server.connectionCount(), 1)
})
