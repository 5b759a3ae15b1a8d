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

const HOUR_S = 3_600
const HOUR_MS = 1_000 * HOUR_S

/** A certificate that ends in so many seconds, at a whole one as certificates do. */
const lasting =
  (name: string, seconds: number) =>
  (root: TestRoot): Promise<WorkloadCertificate> =>
    makeCertificate(root, testIdentity(name), {
      notAfter: new Date((Math.floor(Date.now() / 1000) + seconds) * 1000),
    })

/** A clock that the test moves: on a loaded machine the time between two moments is no longer than a turn. */
function movedClock() {
  const clock = { aheadMs: 0 }
  const now = (): number => Date.now() + clock.aheadMs
  return { clock, lifetime: { random: () => 0, now, lookAgainMs: 5 } }
}

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
  'with certificates that are renewed before they end, no call waits or fails, and a long one is cut at the end',
  async (t) => {
    const { clock, lifetime } = movedClock()
    const app = await relayApp(
      t,
      (socket) => {
        socket.on('error', () => undefined)
        socket.on('data', (chunk: Buffer) => socket.write(chunk))
        socket.on('end', () => socket.end())
      },
      {
        clientCertificate: lasting('client', HOUR_S),
        serverCertificate: lasting('server', HOUR_S),
        lifetime,
      },
    )
    const { world } = app
    /** Connections there were when a call began: a call that finds none has to wait. */
    let leastConnections = Number.POSITIVE_INFINITY
    const call = async (): Promise<void> => {
      leastConnections = Math.min(leastConnections, world.pool.connectionCount())
      const socket = await app.connect()
      const answer = readAll(socket)
      socket.end('ping')
      t.equal((await answer).toString(), 'ping')
    }
    const long = await app.connect()
    let isCut = false
    const cut = new Promise<void>((resolve) =>
      long.once('close', () => {
        isCut = true
        resolve()
      }),
    )
    long.on('error', () => undefined).write('hello')
    await once(long, 'data')
    await call()
    clock.aheadMs = HOUR_MS / 2
    world.renewClient(await lasting('client', 10 * HOUR_S)(world.root))
    world.server.setCertificate(await lasting('server', 10 * HOUR_S)(world.root))
    await call()
    t.equal(world.dials(), 1, 'at half of their time it has not begun to leave')
    // The lead is a quarter of what is left.
    clock.aheadMs = (HOUR_MS * 7) / 8
    while (world.dials() < 2 || world.pool.connectionCount() < 2) await call()
    for (let each = 0; each < 10; each += 1) await call()
    t.notOk(isCut, 'the long call goes on until the end')
    clock.aheadMs = HOUR_MS
    while (world.pool.connectionCount() > 1) await call()
    await cut
    await call()
    t.ok(leastConnections >= 1, 'there was always a connection to take')
    t.equal(world.dials(), 2, 'and only one took the place of the first')
    t.equal(world.pool.connectionCount(), 1)
    t.match(await app.outbound[0], { end: 'certificateExpired' })
    t.match(await app.inbound[0], { end: 'certificateExpired' })
    t.same(world.refused, [])
  },
)

await t.test('a client that ignores the GOAWAY is cut when its certificate ends', async (t) => {
  const { clock, lifetime } = movedClock()
  const world = await makeWorld(t, { lifetime })
  const certificate = await lasting('client', HOUR_S)(world.root)
  const peer = await rawPeer(t, world.port, certificate)
  peer.send(headers(1, CONNECT))
  await peer.frame((seen) => seen.type === FRAME.headers)
  t.notOk(peer.seen.some((seen) => seen.type === FRAME.goAway))
  // The lead is a ninth of what is left.
  clock.aheadMs = HOUR_MS * (9 / 10)
  await peer.frame((seen) => seen.type === FRAME.goAway)
  t.equal(world.server.connectionCount(), 1, 'it is asked to go before the end, and may finish')
  clock.aheadMs = HOUR_MS
  await once(peer.socket, 'close')
  await until(() => world.server.connectionCount() === 0, 'the server to forget it')
})

await t.test("the server's own certificate ends a connection, too", async (t) => {
  const { clock, lifetime } = movedClock()
  const world = await makeWorld(t, { serverCertificate: lasting('server', HOUR_S), lifetime })
  const { tunnel } = await world.open()
  tunnel.on('error', () => undefined)
  clock.aheadMs = (HOUR_MS * 7) / 8
  await until(() => world.dials() === 2, 'another connection for those who come')
  t.notOk(tunnel.wasReset, 'before the end nothing is cut')
  clock.aheadMs = HOUR_MS
  if (!tunnel.closed) await once(tunnel, 'close')
  t.ok(tunnel.wasReset)
  await until(() => world.pool.connectionCount() === 0, 'the other to end with it')
})

await t.test('a replacement that cannot be had takes nothing from those who call', async (t) => {
  const { clock, lifetime } = movedClock()
  const world = await makeWorld(t, { clientCertificate: lasting('client', HOUR_S), lifetime })
  const first = await world.open()
  first.tunnel.on('error', () => undefined)
  world.renewClient({ ...world.clientCertificate, chainPem: 'none' })
  // The client is to leave; its server does not send it away yet.
  clock.aheadMs = (HOUR_MS * 7) / 8
  await until(() => world.dials() > 1, 'the attempt to replace it')
  for (let each = 0; each < 20; each += 1) {
    const { tunnel } = await world.open()
    tunnel.destroy()
  }
  t.equal(world.pool.connectionCount(), 1)
  t.notOk(first.tunnel.closed)
  clock.aheadMs = HOUR_MS
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
