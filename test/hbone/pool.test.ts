// SPDX-License-Identifier: Apache-2.0
// The pool: who shares a connection, when one is dialled, and what happens when one dies.

import { once } from 'node:events'
import { type AddressInfo, type Socket, connect, createServer } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { createServer as createTlsServer } from 'node:tls'
import t from 'tap'
import { connectSecured } from '../../mesh/hbone/connect.ts'
import { establishClient } from '../../mesh/hbone/client.ts'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import type { WayToPeer } from '../../mesh/http2/peer-silence.ts'
import { createHbonePool } from '../../mesh/hbone/pool.ts'
import type { HboneTunnel, IncomingTunnel, OpenedTunnel } from '../../mesh/hbone/types.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { err, ok } from '../../mesh/result.ts'
import { makeCertificate, makeRoot, testIdentity } from './certs.ts'
import { type World, echo, listeningFd, makeWorld } from './harness.ts'
import { CONNECT, frame, headers, rawPeer } from './raw-peer.ts'
import { serverTlsOptions } from '../../mesh/hbone/tls.ts'
import { until } from '../support/until.ts'
import { FRAME } from '../../mesh/http2/protocol.ts'
import { stopTime } from '../support/stop-time.ts'

/** A GOAWAY that serves no stream. */
const NO_STREAM = Buffer.alloc(8)
const PATIENCE = (): AbortSignal => AbortSignal.timeout(10_000)

async function says(tunnel: HboneTunnel, text: string): Promise<string> {
  tunnel.end(text)
  return (await buffer(tunnel)).toString()
}

async function openMany(world: World, count: number): Promise<OpenedTunnel[]> {
  return Promise.all(Array.from({ length: count }, () => world.open()))
}

await t.test('requests at the same moment share one dial', async (t) => {
  const world = await makeWorld(t)
  await openMany(world, 50)
  t.equal(world.dials(), 1)
  t.equal(world.pool.connectionCount(), 1)
})

await t.test(
  '1,000 requests at once dial one connection per 100, one after the other',
  async (t) => {
    const world = await makeWorld(t)
    await openMany(world, 1_000)
    t.equal(world.dials(), 10)
  },
)

await t.test('the limit of the peer counts when it is lower than ours', async (t) => {
  const world = await makeWorld(t, { maxStreams: 4 })
  const tunnels = await openMany(world, 10)
  t.equal(world.dials(), 3)
  for (const { tunnel } of tunnels.slice(0, 1)) await says(tunnel, 'done')
  await world.open()
  t.equal(world.dials(), 3, 'a place that became free is used')
})

await t.test('a peer that takes no tunnels is left no connection', async (t) => {
  const world = await makeWorld(t, { maxStreams: 0 })
  for (let call = 1; call <= 5; call += 1) {
    const opened = await world.pool.open(world.target, '127.0.0.1:80', {}, PATIENCE())
    t.match(opened, { ok: false, error: { reason: 'hboneRefused' } })
    t.equal(world.pool.connectionCount(), 0, 'else each call would cost the agent descriptors')
  }
})

await t.test('a peer that leaves as it says hello is forgotten', async (t) => {
  const root = await makeRoot()
  const certificate = await makeCertificate(root, testIdentity('client'))
  const server = createTlsServer(
    serverTlsOptions(await makeCertificate(root, testIdentity('server'))),
    (socket) =>
      void socket
        .on('error', () => undefined)
        .write(Buffer.concat([frame(FRAME.settings, 0, 0), frame(FRAME.goAway, 0, 0, NO_STREAM)])),
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const world = await makeWorld(t, { root })
  world.renewClient(certificate)
  const { port } = server.address() as AddressInfo
  const target = { ...world.target, destination: { ...world.target.destination, port } }
  const opened = await world.pool.open(target, '127.0.0.1:80', {}, PATIENCE())
  t.match(opened, { ok: false })
  t.equal(world.pool.connectionCount(), 0)
})

await t.test('of many idle connections to one peer only some are kept', async (t) => {
  const world = await makeWorld(t, { maxStreams: 1 })
  const tunnels = await openMany(world, 40)
  t.equal(world.pool.connectionCount(), 40)
  await Promise.all(tunnels.map(({ tunnel }) => says(tunnel, 'done')))
  await until(() => world.pool.connectionCount() <= 16, 'the rest to go')
  await world.open()
  t.equal(world.dials(), 40, 'those that stayed are used')
})

await t.test(
  'other source addresses, identities and expectations never share a connection',
  async (t) => {
    const world = await makeWorld(t)
    const { target, pool } = world
    const changes = [
      {},
      { sourceIp: '10.0.0.9' as IpAddress },
      { sourceIdentity: testIdentity('other') },
      { expectedIdentities: [...target.expectedIdentities, testIdentity('x')] },
    ]
    for (const change of changes) {
      const opened = await pool.open({ ...target, ...change }, 'a:1', {}, PATIENCE())
      t.ok(opened.ok)
    }
    t.equal(world.dials(), 4)
  },
)

await t.test('a refused connection and an unreachable address are told apart', async (t) => {
  const world = await makeWorld(t)
  const { fd, port } = await listeningFd()
  const { closeSync } = await import('node:fs')
  closeSync(fd)
  const destination = { address: '127.0.0.1' as IpAddress, port }
  const opened = await world.pool.open({ ...world.target, destination }, 'a:1', {}, PATIENCE())
  t.match(opened, {
    ok: false,
    error: { reason: 'connectFailed', message: /ECONNREFUSED.*maybe a NetworkPolicy/ },
  })
})

await t.test('one caller that gives up takes nothing from the others', async (t) => {
  const world = await makeWorld(t)
  const abort = new AbortController()
  const first = world.pool.open(world.target, 'a:1', {}, abort.signal)
  const second = world.open()
  abort.abort()
  t.match(await first, { ok: false, error: { reason: 'clientReset' } })
  t.equal(await says((await second).tunnel, 'still here'), 'still here')
  t.equal(world.dials(), 1)
})

await t.test('whoever comes after a dial was given up gets a dial of its own', async (t) => {
  const world = await makeWorld(t)
  const abort = new AbortController()
  const first = world.pool.open(world.target, 'a:1', {}, abort.signal)
  await new Promise(setImmediate) // the dial is under way
  abort.abort()
  const second = world.open()
  t.match(await first, { ok: false, error: { reason: 'clientReset' } })
  t.equal(await says((await second).tunnel, 'mine'), 'mine')
})

await t.test('giving up while the server has not answered aborts its work', async (t) => {
  const arrived = Promise.withResolvers<IncomingTunnel>()
  const world = await makeWorld(t, { onTunnel: arrived.resolve })
  const abort = new AbortController()
  const opening = world.pool.open(world.target, 'a:1', {}, abort.signal)
  const { signal } = await arrived.promise
  abort.abort()
  t.match(await opening, { ok: false, error: { reason: 'clientReset' } })
  const heard = Promise.withResolvers<undefined>()
  signal.addEventListener('abort', () => heard.resolve(undefined))
  if (!signal.aborted) await heard.promise
  t.ok(signal.aborted)
})

await t.test(
  'a connection that died before the answer is replaced, once, unseen by the caller',
  async (t) => {
    let requests = 0
    const world: World = await makeWorld(t, {
      onTunnel: (incoming) => {
        requests += 1
        if (requests === 1) world.dialled[0]?.resetAndDestroy()
        else echo(incoming)
      },
    })
    t.equal(await says((await world.open()).tunnel, 'hello'), 'hello')
    t.equal(world.dials(), 2)
  },
)

await t.test('a connection that always dies fails after the second attempt', async (t) => {
  const world: World = await makeWorld(t, {
    onTunnel: () => world.dialled.at(-1)?.resetAndDestroy(),
  })
  const opened = await world.pool.open(world.target, 'a:1', {}, PATIENCE())
  t.match(opened, { ok: false, error: { reason: 'hboneRefused' } })
  t.equal(world.dials(), 2)
})

await t.test('a draining server finishes its tunnels and gets no new ones', async (t) => {
  const world = await makeWorld(t)
  const { tunnel } = await world.open()
  const drained = world.server.drain(10_000)
  tunnel.write('before')
  await once(tunnel, 'data')
  const late = await world.pool.open(world.target, 'a:1', {}, PATIENCE())
  t.match(
    late,
    { ok: false, error: { reason: 'connectFailed' } },
    'the old connection is left alone, nobody listens',
  )
  t.equal(await says(tunnel, 'after'), 'after')
  t.same(await drained, { cut: 0 })
})

await t.test('a drain past its deadline cuts what is left, and says how much', async (t) => {
  const world = await makeWorld(t)
  const tunnels = await openMany(world, 3)
  const closed = tunnels.map(({ tunnel }) => once(tunnel, 'close'))
  t.same(await world.server.drain(50), { cut: 3 })
  await Promise.all(closed)
  t.ok(tunnels.every(({ tunnel }) => tunnel.wasReset))
})

await t.test('a draining pool finishes its tunnels and opens no new ones', async (t) => {
  const world = await makeWorld(t)
  const { tunnel } = await world.open()
  const drained = world.pool.drain(10_000)
  t.match(await world.pool.open(world.target, 'a:1', {}, PATIENCE()), {
    ok: false,
    error: { reason: 'drained' },
  })
  t.equal(await says(tunnel, 'bye'), 'bye')
  t.same(await drained, { cut: 0 })
  t.equal(world.pool.connectionCount(), 0)
})

await t.test(
  'a CONNECT that is never answered is given up, and its connection goes on',
  async (t) => {
    const asked = Promise.withResolvers<undefined>()
    const gaveUp = Promise.withResolvers<undefined>()
    let seen = 0
    const world = await makeWorld(t, {
      answerDeadlineMs: 200,
      onTunnel: (incoming) => {
        seen += 1
        if (seen > 1) return echo(incoming)
        incoming.signal.addEventListener('abort', () => gaveUp.resolve(undefined))
        asked.resolve(undefined)
      },
    })
    // No time passes for who is answered, however long this process has no CPU.
    const tick = stopTime(t)
    const opening = world.pool.open(world.target, '10.0.0.1:80', {}, PATIENCE())
    await asked.promise
    tick(200)
    t.match(await opening, {
      ok: false,
      error: { reason: 'connectTimeout', message: /within 200 ms/ },
    })
    await gaveUp.promise
    const { tunnel } = await world.open()
    tunnel.write('still here')
    t.equal(String((await once(tunnel, 'data'))[0]), 'still here')
    tick(300)
    t.equal(await says(tunnel, 'and later'), 'and later')
    t.equal(world.dials(), 1)
    t.equal(world.pool.connectionCount(), 1, 'an answered CONNECT has no deadline any more')
  },
)

await t.test('a connection without tunnels is released after a while', async (t) => {
  const world = await makeWorld(t, { idleReleaseMs: 50 })
  const { tunnel } = await world.open()
  await says(tunnel, 'x')
  const socket = world.dialled[0] as Socket
  if (!socket.closed) await once(socket, 'close')
  t.equal(world.pool.connectionCount(), 0)
  await world.open()
  t.equal(world.dials(), 2)
})

await t.test('a renewed certificate serves new connections; live ones go on', async (t) => {
  const world = await makeWorld(t, { expected: [testIdentity('server'), testIdentity('renewed')] })
  const before = await world.open()
  world.server.setCertificate(await makeCertificate(world.root, testIdentity('renewed')))
  const other = { ...world.target, sourceIp: '10.0.0.9' as IpAddress }
  const after = await world.pool.open(other, 'a:1', {}, PATIENCE())
  if (!after.ok) throw new Error(after.error.message)
  t.equal(after.value.peerIdentity, testIdentity('renewed'))
  t.equal(await says(before.tunnel, 'old'), 'old')
  t.equal(await says(after.value.tunnel, 'new'), 'new')
})

await t.test(
  'who acknowledges nothing of the handshake is given up before who is slow',
  async (t) => {
    const world = await makeWorld(t)
    const silent = createServer((socket) => {
      socket.on('error', () => undefined)
    })
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    t.teardown(() => silent.close())
    const { port } = silent.address() as AddressInfo
    const shake = async (way: () => WayToPeer, signal: AbortSignal) =>
      await connectSecured(
        world.target,
        world.clientCertificate,
        {
          dial: async () => {
            const socket = connect(port, '127.0.0.1')
            await once(socket, 'connect')
            t.teardown(() => socket.destroy())
            return ok(socket)
          },
          wayToPeer: way,
        },
        signal,
      )
    const gone = (): WayToPeer => ({ acknowledgedBytes: 1, unacknowledged: 1, heardAgoMs: 0 })
    t.match(await shake(gone, PATIENCE()), {
      ok: false,
      error: { reason: 'tlsFailure', code: 'ETIMEDOUT', message: /nothing was acknowledged/ },
    })
    // A busy agent, whose kernel has it all; and one to which there is always something under way.
    let acknowledgedBytes = 0
    const ways: (() => WayToPeer)[] = [
      () => ({ acknowledgedBytes: 300, unacknowledged: 0, heardAgoMs: 9_000 }),
      () => ({ acknowledgedBytes: (acknowledgedBytes += 1), unacknowledged: 1, heardAgoMs: 0 }),
    ]
    const slow = await Promise.all(ways.map((way) => shake(way, AbortSignal.timeout(4_000))))
    for (const each of slow)
      t.match(each, { ok: false, error: { reason: 'clientReset' } }, 'waited for')
  },
)

await t.test('a server that falls silent is given up after the PING timeout', async (t) => {
  const world = await makeWorld(t)
  const secured = await connectSecured(
    world.target,
    world.clientCertificate,
    {
      dial: async () => {
        const socket = connect(world.port, '127.0.0.1')
        await once(socket, 'connect')
        t.teardown(() => socket.destroy())
        return ok(socket)
      },
    },
    PATIENCE(),
  )
  if (!secured.ok) throw new Error(secured.error.message)
  const closed = Promise.withResolvers<undefined>()
  const established = await establishClient(secured.value, {
    pingIntervalMs: 100,
    memory: new HeldMemory(HELD_LIMIT_BYTES),
    pingTimeoutMs: 200,
    onTunnelClosed: () => undefined,
    onEnding: () => undefined,
    onClosed: () => closed.resolve(undefined),
  })
  if (!established.ok) throw new Error(established.error.message)
  const opened = await established.value.open('a:1', {}, PATIENCE())
  if (!opened.ok) throw new Error(opened.error.message)
  const { tunnel } = opened.value
  for (let round = 0; round < 5; round += 1) {
    tunnel.write('alive')
    await once(tunnel, 'data')
  }
  secured.value.socket.pause() // what the server answers is no longer heard
  await closed.promise
  if (!tunnel.closed) await once(tunnel, 'close')
  t.ok(tunnel.wasReset)
})

await t.test('a client that falls silent is given up by the server', async (t) => {
  const world = await makeWorld(t, { pingIntervalMs: 100, pingTimeoutMs: 200 })
  const peer = await rawPeer(t, world.port, world.clientCertificate)
  peer.send(headers(1, CONNECT))
  await peer.frame((seen) => seen.type === FRAME.ping)
  t.match(await world.refusal(() => true), { message: /no answer to PING/ })
  t.equal(world.server.connectionCount(), 0)
})

await t.test('a certificate that cannot be had fails the open with its reason', async (t) => {
  const pool = createHbonePool({
    certificate: () => Promise.resolve(err({ reason: 'identityError' as const, message: 'no CA' })),
    dial: () => Promise.reject(new Error('must not be dialled')),
    memory: new HeldMemory(HELD_LIMIT_BYTES),
  })
  const world = await makeWorld(t)
  t.match(await pool.open(world.target, 'a:1', {}, PATIENCE()), {
    ok: false,
    error: { reason: 'identityError' },
  })
})

await t.test('the client sends no SNI', async (t) => {
  const hello = Promise.withResolvers<Buffer>()
  const { createServer } = await import('node:net')
  const listener = createServer((socket) =>
    socket.once('data', hello.resolve).on('error', () => undefined),
  )
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  t.teardown(() => listener.close())
  const world = await makeWorld(t)
  const { port } = listener.address() as { readonly port: number }
  const abort = new AbortController()
  const destination = { address: '127.0.0.1' as IpAddress, port }
  const opening = world.pool.open({ ...world.target, destination }, 'a:1', {}, abort.signal)
  t.notOk(extensionsOf(await hello.promise).includes(0), 'server_name is extension 0')
  abort.abort()
  t.match(await opening, { ok: false })
})

/** Extension types of a ClientHello in one TLS record (RFC 8446 4.1.2). */
function extensionsOf(record: Buffer): readonly number[] {
  let at = 5 + 4 + 2 + 32
  at += 1 + (record[at] ?? 0) // session id
  at += 2 + record.readUInt16BE(at) // cipher suites
  at += 1 + (record[at] ?? 0) // compression methods
  const end = at + 2 + record.readUInt16BE(at)
  const types: number[] = []
  for (at += 2; at < end; at += 4 + record.readUInt16BE(at + 2)) types.push(record.readUInt16BE(at))
  return types
}
