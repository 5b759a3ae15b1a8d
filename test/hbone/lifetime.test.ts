// SPDX-License-Identifier: Apache-2.0
// No connection outlives the certificates it was opened with, and nobody waits for the next one.

import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { FRAME } from '../../mesh/http2/protocol.ts'
import { CLIENT_LEAD, Lifetime, SERVER_LEAD } from '../../mesh/hbone/lifetime.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import { type TestRoot, makeCertificate, testIdentity } from './certs.ts'
import { makeWorld } from './harness.ts'
import { CONNECT, headers, rawPeer } from './raw-peer.ts'
import { readAll, relayApp } from './relayed-app.ts'
import { until } from '../support/until.ts'

t.setTimeout(60_000)

const HOUR_MS = 3_600_000

/** A certificate that ends in so many seconds, at a whole one as certificates do. */
const shortLived =
  (name: string, seconds: number) =>
  (root: TestRoot): Promise<WorkloadCertificate> =>
    makeCertificate(root, testIdentity(name), {
      notAfter: new Date((Math.floor(Date.now() / 1000) + seconds) * 1000),
    })

/** Times, after its beginning, of a lifetime on a clock that the test moves. */
function lifetime(endsInMs: number, lead: typeof CLIENT_LEAD, random: number) {
  const clock = { now: 1_000_000 }
  const told: string[] = []
  const life = new Lifetime({
    endsAt: clock.now + endsInMs,
    lead,
    onEnding: () => told.push('ending'),
    onEnd: () => told.push('end'),
    now: () => clock.now,
    random: () => random,
    lookAgainMs: 1,
  })
  return { clock, told, life }
}

await t.test(
  'a clock that jumps past the end is noticed, and one that is set back waits',
  async (t) => {
    const { clock, told, life } = lifetime(24 * HOUR_MS, CLIENT_LEAD, 0)
    t.teardown(() => life.stop())
    clock.now -= 48 * HOUR_MS
    await delay(20)
    t.same(told, [])
    clock.now += 48 * HOUR_MS + 23 * HOUR_MS
    while (told.length === 0) await delay(1)
    t.same(told, ['ending'], 'an hour before the end')
    clock.now += HOUR_MS
    while (told.length === 1) await delay(1)
    t.same(told, ['ending', 'end'])
  },
)

void t.test('a client always leaves before its server sends it away', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 3_000, max: 400 * 24 * HOUR_MS }),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      fc.double({ min: 0, max: 0.999, noNaN: true }),
      (leftMs, ofClient, ofServer) => {
        const leadOf = ({ share, longestMs }: typeof CLIENT_LEAD, random: number): number =>
          Math.min(longestMs, leftMs * share) * (1 - random / 2)
        const client = leadOf(CLIENT_LEAD, ofClient)
        return client > leadOf(SERVER_LEAD, ofServer) && client <= HOUR_MS && client < leftMs / 2
      },
    ),
  )
  t.end()
})

await t.test(
  'with certificates of 6 s that are renewed before they end, no call waits or fails, and a long one is cut at the end',
  async (t) => {
    const app = await relayApp(
      t,
      (socket) => {
        socket.on('error', () => undefined)
        socket.on('data', (chunk: Buffer) => socket.write(chunk))
        socket.on('end', () => socket.end())
      },
      { clientCertificate: shortLived('client', 6), serverCertificate: shortLived('server', 6) },
    )
    const { world } = app
    const endsAt = world.clientCertificate.notAfter.getTime()
    const long = await app.connect()
    const cut = new Promise<number>((resolve) => long.once('close', () => resolve(Date.now())))
    long.on('error', () => undefined).write('hello')
    await once(long, 'data')
    const renewed = delay(1_000).then(async () => {
      world.renewClient(await shortLived('client', 60)(world.root))
      world.server.setCertificate(await shortLived('server', 60)(world.root))
    })
    let calls = 0
    /** Connections there were when a call began: a call that finds none has to wait. */
    let leastConnections = Number.POSITIVE_INFINITY
    while (Date.now() < endsAt + 1_000) {
      leastConnections = Math.min(leastConnections, world.pool.connectionCount())
      const socket = await app.connect()
      const answer = readAll(socket)
      socket.end('ping')
      t.equal((await answer).toString(), 'ping')
      calls += 1
      await delay(25)
    }
    await renewed
    t.ok(calls > 20, `${calls} calls`)
    t.ok(leastConnections >= 1, 'there was always a connection to take')
    t.equal(world.dials(), 2, 'and only one took the place of the first')
    t.equal(world.pool.connectionCount(), 1)
    const lateMs = (await cut) - endsAt
    t.ok(lateMs > -2_500 && lateMs < 2_000, `the long call was cut ${lateMs} ms after the end`)
    t.match(await app.outbound[0], { end: 'certificateExpired' })
    t.match(await app.inbound[0], { end: 'certificateExpired' })
    t.same(world.refused, [])
  },
)

await t.test('a client that ignores the GOAWAY is cut when its certificate ends', async (t) => {
  // By a clock that the test moves: on a loaded machine the time between the two is no longer than a turn.
  const clock = { aheadMs: 0 }
  const now = (): number => Date.now() + clock.aheadMs
  const world = await makeWorld(t, { lifetime: { random: () => 0, now, lookAgainMs: 5 } })
  const certificate = await shortLived('client', 3_600)(world.root)
  const peer = await rawPeer(t, world.port, certificate)
  peer.send(headers(1, CONNECT))
  await peer.frame((seen) => seen.type === FRAME.headers)
  t.notOk(peer.seen.some((seen) => seen.type === FRAME.goAway))
  // The lead is a ninth of what is left.
  clock.aheadMs = 3_600_000 * (9 / 10)
  await peer.frame((seen) => seen.type === FRAME.goAway)
  t.equal(world.server.connectionCount(), 1, 'it is asked to go before the end, and may finish')
  clock.aheadMs = 3_600_000
  await once(peer.socket, 'close')
  await until(() => world.server.connectionCount() === 0, 'the server to forget it')
})

await t.test("the server's own certificate ends a connection, too", async (t) => {
  const world = await makeWorld(t, { serverCertificate: shortLived('server', 3) })
  const { tunnel } = await world.open()
  tunnel.on('error', () => undefined)
  await once(tunnel, 'close')
  t.ok(tunnel.wasReset)
  t.ok(Date.now() >= world.serverCertificate.notAfter.getTime() - 5)
  while (world.pool.connectionCount() > 0) await delay(5)
})

await t.test('a replacement that cannot be had takes nothing from those who call', async (t) => {
  const world = await makeWorld(t, { clientCertificate: shortLived('client', 4) })
  const first = await world.open()
  first.tunnel.on('error', () => undefined)
  world.renewClient({ ...world.clientCertificate, chainPem: 'none' })
  const { notAfter } = world.clientCertificate
  // Until the server sends it away, half a second before at most.
  while (Date.now() < notAfter.getTime() - 600) {
    const { tunnel } = await world.open()
    tunnel.destroy()
    await delay(50)
  }
  t.equal(world.pool.connectionCount(), 1)
  await once(first.tunnel, 'close')
})

await t.test(
  'when trust changes, the connections that it concerns are cut, and told why',
  async (t) => {
    const app = await relayApp(t, (socket) => socket.on('error', () => undefined).resume())
    const { world } = app
    const sockets = [await app.connect(), await app.connect()]
    for (const socket of sockets) socket.on('error', () => undefined)
    // Of both ends: what is cut before its answer came is opened anew.
    await until(() => app.inbound.length === 2 && app.outbound.length === 2, 'both calls to stand')
    t.equal(
      world.server.closeWhere(({ peerIdentity }) => peerIdentity !== testIdentity('client')),
      0,
    )
    const seen = world.server.closeWhere(
      ({ peerIdentity, socket }) =>
        peerIdentity === testIdentity('client') &&
        socket.getPeerX509Certificate()?.issuer === world.root.name,
    )
    t.equal(seen, 1)
    for (const socket of sockets) {
      socket.on('error', () => undefined)
      if (!socket.closed)
        await new Promise<void>((resolve) => socket.once('close', () => resolve()))
    }
    t.match(await app.inbound[0], { end: 'peerDistrusted' })
    t.match(await app.outbound[0], { end: 'serverReset' })

    const third = await app.connect()
    third.on('error', () => undefined)
    await until(() => app.inbound.length === 3 && app.outbound.length === 3, 'the third to stand')
    t.equal(
      world.pool.closeWhere(({ peerIdentity }) => peerIdentity === testIdentity('server')),
      1,
    )
    t.match(await app.outbound[2], { end: 'peerDistrusted' })
    t.equal(world.pool.connectionCount(), 0)
  },
)
