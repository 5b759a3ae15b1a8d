// SPDX-License-Identifier: Apache-2.0
// A certificate that comes while a handshake is under way, which is made on the one before. Who cuts and replaces connections
// as roots change does not see that one yet: no tunnel may stand on it, or the next change takes the ground from under it.

import { X509Certificate } from 'node:crypto'
import t, { type Test } from 'tap'
import { FRAME } from '../../mesh/http2/protocol.ts'
import type { SourceBounds } from '../../mesh/hbone/sources.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import { makeCertificate, makeRoot, type TestRoot, testIdentity } from './certs.ts'
import { makeWorld, type World } from './harness.ts'
import { until } from '../support/until.ts'
import { CONNECT, goAwayCode, headers, rawPeer } from './raw-peer.ts'

/** Serial numbers that one end of each connection shows. */
function shownBy(end: World['pool'] | World['server']): readonly (string | undefined)[] {
  const shown: (string | undefined)[] = []
  end.closeWhere(({ socket }) => {
    shown.push(socket.getX509Certificate()?.serialNumber)
    return false
  })
  return shown
}

const serialOf = ({ chainPem }: WorkloadCertificate): string =>
  new X509Certificate(chainPem).serialNumber

async function says(world: World): Promise<string> {
  const { tunnel } = await world.open()
  tunnel.on('error', () => undefined)
  tunnel.write('word')
  for await (const chunk of tunnel) return String(chunk)
  return 'ended'
}

/** A world whose server gets this certificate as soon as the first connection has come, before its handshake. */
async function renewedServer(
  t: Test,
  root: TestRoot,
  renewed: WorkloadCertificate,
  limits: Partial<SourceBounds> = {},
): Promise<World> {
  let isFirst = true
  const world: World = await makeWorld(t, {
    root,
    limits,
    isFromOutside: () => {
      // The next thing after the connection was accepted, and long before anything of it is read.
      if (isFirst) process.nextTick(() => world.server.setCertificate(renewed))
      isFirst = false
      return true
    },
  })
  return world
}

await t.test(
  'given a client that is calling for the first time, when its certificate is renewed during the handshake, then the call goes by the new one',
  async (t) => {
    let isFirst = true
    const root = await makeRoot()
    const renewed = await makeCertificate(root, testIdentity('client'))
    const world: World = await makeWorld(t, {
      root,
      onDialled: () => {
        if (isFirst) world.renewClient(renewed)
        isFirst = false
      },
    })
    t.equal(await says(world), 'word')
    t.same(shownBy(world.pool), [serialOf(renewed)])
    t.equal(world.dials(), 2)
  },
)

await t.test(
  'given a client that is calling for the first time, when its roots change during the handshake and its certificate does not, then the call goes by the new roots',
  async (t) => {
    let isFirst = true
    const root = await makeRoot()
    const next = await makeRoot('CN=next root')
    const own = await makeCertificate(root, testIdentity('client'))
    const world: World = await makeWorld(t, {
      root,
      clientCertificate: () => Promise.resolve(own),
      onDialled: () => {
        if (isFirst) world.renewClient({ ...own, rootsPem: `${own.rootsPem}\n${next.pem}` })
        isFirst = false
      },
    })
    t.equal(await says(world), 'word')
    t.same(shownBy(world.pool), [serialOf(own)])
    t.equal(world.dials(), 2)
  },
)

await t.test(
  'given a server that is called for the first time, when its roots change during the handshake and no longer vouch for the caller, then it is refused',
  async (t) => {
    let isFirst = true
    const root = await makeRoot()
    const next = await makeRoot('CN=next root')
    const own = await makeCertificate(root, testIdentity('server'))
    const world: World = await makeWorld(t, {
      root,
      serverCertificate: () => Promise.resolve(own),
      isFromOutside: () => {
        if (isFirst)
          process.nextTick(() => world.server.setCertificate({ ...own, rootsPem: next.pem }))
        isFirst = false
        return true
      },
    })
    const opened = await world.pool.open(world.target, 'a:1', {}, AbortSignal.timeout(10_000))
    t.notOk(opened.ok)
    const refusal = await world.refusal(({ reason }) => reason === 'tlsFailure')
    t.match(refusal.message, /root this workload does not trust any more/)
    t.equal(world.server.connectionCount(), 0)
  },
)

await t.test(
  'given a handshake that fails, when the certificate for it came too late, then it is tried with that one',
  async (t) => {
    let isFirst = true
    const root = await makeRoot()
    const stranger = await makeRoot('CN=other root')
    const good = await makeCertificate(root, testIdentity('client'))
    const world: World = await makeWorld(t, {
      root,
      clientCertificate: () => makeCertificate(stranger, testIdentity('client')),
      onDialled: () => {
        if (isFirst) world.renewClient(good)
        isFirst = false
      },
    })
    t.equal(await says(world), 'word')
    t.equal(world.dials(), 2)
  },
)

await t.test(
  'given a server that is called for the first time, when its certificate is renewed during the handshake, then the call goes by the new one',
  async (t) => {
    const root = await makeRoot()
    const renewed = await makeCertificate(root, testIdentity('server'))
    const world = await renewedServer(t, root, renewed)
    t.equal(await says(world), 'word')
    t.equal(world.dials(), 2)
    await until(() => world.server.connectionCount() === 1, 'the first connection to be gone')
    t.same(shownBy(world.server), [serialOf(renewed)])
    t.same(world.refused, [])
  },
)

await t.test(
  'given a handshake that a new certificate of the server overtook, then only the one after it is counted',
  async (t) => {
    const root = await makeRoot()
    const renewed = await makeCertificate(root, testIdentity('server'))
    const handshakesToPod = { burst: 1, perSecond: 0 }
    const world = await renewedServer(t, root, renewed, { handshakesToPod })
    t.equal(await says(world), 'word')
    t.equal(world.dials(), 2)
    t.strictSame(world.refused, [])
    await t.rejects(rawPeer(t, world.port, world.clientCertificate), 'and that one was')
    t.match(world.refused, [{ reason: 'floodRefused' }])
  },
)

await t.test(
  'given a client that puts a call on such a connection before it hears of it, then the call is served, and no other after it',
  async (t) => {
    const root = await makeRoot()
    const renewed = await makeCertificate(root, testIdentity('server'))
    const world = await renewedServer(t, root, renewed)
    const peer = await rawPeer(t, world.port, world.clientCertificate)
    peer.send(headers(1, CONNECT))
    const away = await peer.frame((seen) => seen.type === FRAME.goAway)
    t.equal(away.payload.readUInt32BE(0), 2 ** 31 - 1, 'first without naming a last stream')
    t.equal(goAwayCode(away), 0)
    const answer = await peer.frame((seen) => seen.type === FRAME.headers)
    t.equal(answer.streamId, 1)
    const last = await peer.frame(
      (seen) => seen.type === FRAME.goAway && seen.payload.readUInt32BE(0) !== 2 ** 31 - 1,
    )
    t.equal(last.payload.readUInt32BE(0), 1)
  },
)

await t.test(
  'given a client of a root that is taken away during its handshake, then it gets no tunnel, and the log says why',
  async (t) => {
    const young = await makeRoot('CN=young root')
    const renewed = await makeCertificate(young, testIdentity('server'))
    const world = await renewedServer(t, await makeRoot(), renewed)
    const opened = await world.pool.open(world.target, 'a:1', {}, AbortSignal.timeout(10_000))
    t.notOk(opened.ok)
    const refusal = await world.refusal(({ reason }) => reason === 'tlsFailure')
    t.match(refusal.message, /root this workload does not trust any more/)
    t.equal(world.server.connectionCount(), 0)
  },
)

await t.test(
  'given a connection that is to go, when the first that should take its place cannot be had, then it is tried again soon, however long the certificates last',
  async (t) => {
    const root = await makeRoot()
    const renewed = await makeCertificate(root, testIdentity('client'))
    let dials = 0
    const world: World = await makeWorld(t, {
      root,
      onDialled: () => {
        dials += 1
        if (dials === 2) world.dialled.at(-1)?.destroy()
      },
    })
    const { tunnel } = await world.open()
    tunnel.on('error', () => undefined)
    world.renewClient(renewed)
    world.pool.leaveWhere(() => true)
    await until(() => shownBy(world.pool).includes(serialOf(renewed)), 'the replacement')
    t.equal(dials, 3)
    t.equal(tunnel.destroyed, false, 'the tunnel lives on meanwhile')
  },
)
