// SPDX-License-Identifier: Apache-2.0
// Tunnels from the pool to the server: what the two ends of a user's connection see.

import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { within } from '../support/until.ts'
import { makeWorld } from './harness.ts'

await t.test('a tunnel carries bytes both ways and the half-close of either side', async (t) => {
  const { open } = await makeWorld(t)
  const { tunnel, peerIdentity } = await open()
  t.equal(peerIdentity, 'spiffe://cluster.local/ns/shop/sa/server')
  tunnel.end('hello')
  t.equal((await buffer(tunnel)).toString(), 'hello')
  t.notOk(tunnel.wasReset)
})

await t.test('many bytes written at once arrive, and the connection lives', async (t) => {
  const length = 4 * 1024 * 1024
  const { open, server } = await makeWorld(t, {
    onTunnel: (incoming) => {
      incoming
        .accept({})
        .on('error', () => undefined)
        .end(Buffer.alloc(length, 1))
    },
  })
  const { tunnel } = await open()
  t.equal((await buffer(tunnel)).length, length)
  t.equal(server.connectionCount(), 1)
})

await t.test('the server hears who calls, from where, and for what', async (t) => {
  const seen: unknown[] = []
  const { pool, target } = await makeWorld(t, {
    onTunnel: (incoming) => {
      const { authority, headers, peerIdentity, peer, local } = incoming
      seen.push({ authority, headers, peerIdentity, peer: peer.address, local })
      incoming.accept({ baggage: 'k8s.namespace.name=shop' }).end('server first')
    },
  })
  const headers = {
    baggage: 'k8s.cluster.name=Kubernetes',
    forwarded: 'for="10.1.2.3:4"',
    traceparent: '00-0-0-00',
  }
  const opened = await pool.open(target, '10.0.0.1:8080', headers, AbortSignal.timeout(5_000))
  if (!opened.ok) throw new Error(opened.error.message)
  t.equal(opened.value.responseBaggage, 'k8s.namespace.name=shop')
  t.match(seen, [
    {
      authority: '10.0.0.1:8080',
      headers,
      peerIdentity: 'spiffe://cluster.local/ns/shop/sa/client',
      peer: '127.0.0.1',
      local: target.destination,
    },
  ])
  opened.value.tunnel.end()
  t.equal((await buffer(opened.value.tunnel)).toString(), 'server first')
})

await t.test('a refused CONNECT names the status', async (t) => {
  const { pool, target } = await makeWorld(t, { onTunnel: (incoming) => incoming.reject(503) })
  const opened = await pool.open(target, '10.0.0.1:8080', {}, AbortSignal.timeout(5_000))
  t.match(opened, { ok: false, error: { reason: 'hboneRefused', status: 503 } })
})

await t.test('reset of one side is a reset at the other', async (t) => {
  const far = Promise.withResolvers<{ readonly wasReset: boolean }>()
  const { open } = await makeWorld(t, {
    onTunnel: (incoming) => {
      const tunnel = incoming.accept({})
      tunnel.resume()
      tunnel.on('error', () => undefined)
      tunnel.once('close', () => far.resolve(tunnel))
      tunnel.write('x')
    },
  })
  const { tunnel } = await open()
  await once(tunnel, 'data')
  tunnel.reset()
  t.ok((await far.promise).wasReset)
})

await t.test(
  'a tunnel that nobody has used keeps what came, and is over when it is reset',
  async (t) => {
    const { open } = await makeWorld(t, {
      onTunnel: (incoming) => incoming.acceptBare({}).asStream().end('server first'),
    })
    const kept = (await open()).bare
    const stream = kept.asStream()
    t.throws(() => kept.asStream(), /used already/)
    const closed = Promise.withResolvers<void>()
    kept.onceClosed(closed.resolve)
    stream.end()
    t.equal((await buffer(stream)).toString(), 'server first')
    await within(closed.promise, 'the end of a tunnel that was used')

    const reset = Promise.withResolvers<void>()
    const fresh = (await open()).bare
    fresh.onceClosed(reset.resolve)
    fresh.reset()
    await within(reset.promise, 'the end of a tunnel that was reset by us')
    let isTold = false
    fresh.onceClosed(() => (isTold = true))
    t.ok(isTold, 'who asks late hears at once')
  },
)

await t.test('a tunnel that the peer reset before anybody used it is a reset stream', async (t) => {
  const { open } = await makeWorld(t, { onTunnel: (incoming) => incoming.acceptBare({}).reset() })
  const { bare } = await open()
  const over = Promise.withResolvers<void>()
  bare.onceClosed(over.resolve)
  await within(over.promise, 'the reset by the peer')
  const stream = bare.asStream()
  await within(once(stream, 'close'), 'the close of the stream')
  t.ok(stream.wasReset)
})
