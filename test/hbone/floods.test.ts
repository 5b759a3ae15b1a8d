// SPDX-License-Identifier: Apache-2.0
// Work that leads to nothing costs whoever sends it, also when they come again; and nobody else.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Socket, connect } from 'node:net'
import t, { type Test } from 'tap'
import { FLAG, FRAME, H2_CODE } from '../../mesh/http2/protocol.ts'
import type { HeaderList } from '../../mesh/http2/hpack.ts'
import { HboneSources, wasteOf } from '../../mesh/hbone/sources.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { makeCertificate, makeRoot, testIdentity } from './certs.ts'
import { until } from '../support/until.ts'
import { type World, echo, makeWorld } from './harness.ts'
import { CONNECT, type RawPeer, frame, goAwayCode, headers, rawPeer } from './raw-peer.ts'

const REQUESTS: readonly (readonly [string, HeaderList])[] = [
  [
    'another method',
    [
      [':method', 'GET'],
      [':scheme', 'https'],
      [':path', '/'],
      [':authority', 'a'],
    ],
  ],
  ['no authority', [[':method', 'CONNECT']]],
  ['a malformed header', [...CONNECT, ['Upper', 'x']]],
]

/** Resolves when the socket is closed, however it came to it. */
function gone(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve()
    else socket.once('close', () => resolve())
  })
}

/** Sends requests until it is cut, or all went; how many that were. */
async function flood(peer: RawPeer, list: HeaderList, count: number): Promise<number> {
  const closed = gone(peer.socket)
  let sent = 0
  for (; sent < count && !peer.socket.destroyed; sent += 1) {
    peer.send(headers(2 * sent + 1, list, FLAG.endStream))
    if (sent % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  await closed
  return sent
}

/** Whether a handshake from the address leads to HTTP/2. */
async function isServed(t: Test, world: World, localAddress = '127.0.0.1'): Promise<boolean> {
  const peer = await rawPeer(t, world.port, world.clientCertificate, true, localAddress).catch(
    () => undefined,
  )
  if (peer === undefined) return false
  const answer = await peer
    .frame((seen) => seen.type === FRAME.settings)
    .then(() => true)
    .catch(() => false)
  peer.socket.destroy()
  return answer
}

for (const [what, list] of REQUESTS)
  await t.test(
    `a flood of requests with ${what} ends, and coming again does not help`,
    async (t) => {
      // No time passes but when the test says so.
      let now = 0
      const limits = { shutOutMs: 1_000, now: () => now }
      const world = await makeWorld(t, { limits, isKnownSource: () => true })
      const peer = await rawPeer(t, world.port, world.clientCertificate)
      const goAway = peer.frame((seen) => seen.type === FRAME.goAway)
      await flood(peer, list, 2_000)
      t.equal(goAwayCode(await goAway), H2_CODE.enhanceYourCalm)
      await world.refusal(({ message }) => message.startsWith('flood'))
      const requests = world.refused.filter(({ reason }) => reason === 'hboneBadRequest').length
      t.ok(requests < 600, `${requests} of 2,000 requests were looked at`)

      t.notOk(await isServed(t, world), 'it is not shaken hands with again')
      t.match(world.refused.at(-1), { reason: 'floodRefused', message: /a moment ago/ })
      t.ok(await isServed(t, world, '127.0.0.9'), 'another pod of the same identity is served')
      now = 1_000
      t.ok(await isServed(t, world), 'and so is it, after a while')
    },
  )

await t.test('oversized headers cost more than small nonsense', async (t) => {
  const world = await makeWorld(t)
  const peer = await rawPeer(t, world.port, world.clientCertificate)
  // 34 bytes each in the list's size, 5 on the wire.
  const big: HeaderList = Array.from({ length: 2_100 }, () => ['a', 'b'] as const)
  await flood(peer, [...CONNECT, ...big], 200)
  const tooLarge = world.refused.filter(({ message }) => /headers are over/.test(message)).length
  t.ok(tooLarge >= 40 && tooLarge <= 120, `${tooLarge} of 200 requests were answered 431`)
})

await t.test(
  'an identity that floods from outside the mesh is shut out at any address',
  async (t) => {
    const world = await makeWorld(t)
    const peer = await rawPeer(t, world.port, world.clientCertificate)
    await flood(peer, CONNECT.slice(0, 1), 2_000)
    await world.refusal(({ message }) => message.startsWith('flood'))
    t.notOk(await isServed(t, world, '127.0.0.9'), 'its identity is refused from any address')
    t.match(world.refused.at(-1), { reason: 'floodRefused' })
    const other = await makeCertificate(world.root, testIdentity('other'))
    const honest = await rawPeer(t, world.port, other)
    t.ok(
      await honest.frame((seen) => seen.type === FRAME.settings),
      'who shares its address is served',
    )
  },
)

await t.test('a caller that meets an app that is down is not shut out', async (t) => {
  let isDown = true
  const world = await makeWorld(t, {
    onTunnel: (incoming) => (isDown ? incoming.reject(503) : echo(incoming)),
  })
  for (let round = 0; round < 30; round += 1)
    await Promise.all(
      Array.from({ length: 100 }, async () => {
        const opened = await world.pool.open(world.target, 'a:1', {}, AbortSignal.timeout(10_000))
        if (opened.ok) throw new Error('it is down')
        if (opened.error.status !== 503) throw new Error(opened.error.message)
      }),
    )
  isDown = false
  t.ok((await world.open()).tunnel, '3,000 refusals later it is served as soon as the app is back')
  t.equal(world.dials(), 1, 'by the same connection')
  t.same(world.refused, [])
})

await t.test('callers that lose patience with a stuck app are not shut out', async (t) => {
  const world = await makeWorld(t, { onTunnel: () => undefined }) // never answers
  const peer = await rawPeer(t, world.port, world.clientCertificate)
  const WAVE = 150
  for (let wave = 0; wave < 8; wave += 1) {
    const ids = Array.from({ length: WAVE }, (_, index) => 2 * (wave * WAVE + index) + 1)
    peer.send(...ids.map((id) => headers(id, CONNECT)))
    // The point: patience is over after a while, and what they cost meanwhile is forgiven by the second.
    await delay(130)
    peer.send(...ids.map((id) => frame(FRAME.rstStream, 0, id, Buffer.from([0, 0, 0, 8]))))
  }
  peer.send(frame(FRAME.ping, 0, 0, Buffer.alloc(8, 7)))
  t.ok(await peer.frame(({ type, payload }) => type === FRAME.ping && payload[0] === 7))
  t.same(world.refused, [])
  t.notOk(peer.seen.some(({ type }) => type === FRAME.goAway))
})

void t.test('a refusal is paid by whose fault it is', (t) => {
  t.equal(wasteOf(503), 0)
  t.equal(wasteOf(400), 1)
  t.ok(wasteOf(431) > wasteOf(400))
  t.ok(wasteOf(401) < wasteOf(400), 'an app that policy keeps out is no attacker')
  t.end()
})

await t.test('handshakes that come to nothing end in none at all, for that address', async (t) => {
  // Time stands still: nothing comes back meanwhile.
  const world = await makeWorld(t, { limits: { now: () => 0 } })
  const knock = async (localAddress: string): Promise<void> => {
    const socket = connect({ port: world.port, host: '127.0.0.1', localAddress })
    socket.on('error', () => undefined)
    socket.write('GET / HTTP/1.1\r\n\r\n')
    await gone(socket)
  }
  for (let round = 0; round < 25; round += 1)
    await Promise.all(Array.from({ length: 10 }, () => knock('127.0.0.5')))
  await world.refusal(({ reason }) => reason === 'floodRefused')
  t.notOk(await isServed(t, world, '127.0.0.5'))
  t.ok(await isServed(t, world, '127.0.0.6'))
})

/** A connection that asks for something, is answered, and ends. */
async function comeAndGo(t: Test, world: World, localAddress: string): Promise<void> {
  const peer = await rawPeer(t, world.port, world.clientCertificate, true, localAddress)
  peer.send(headers(1, CONNECT))
  await peer.frame((seen) => seen.type === FRAME.headers)
  const closed = gone(peer.socket)
  peer.socket.destroy()
  await closed
}

await t.test(
  'a mesh pod that shakes hands for each call is held back, and nobody else is',
  async (t) => {
    let now = 0
    const sources = new HboneSources({
      handshakesToPod: { burst: 4, perSecond: 2 },
      handshakes: { burst: 6, perSecond: 2 },
      now: () => now,
    })
    const isKnownSource = (): boolean => true
    const world = await makeWorld(t, { sources, owner: 'pod-1', isKnownSource })
    const { root } = world
    const other = await makeWorld(t, { sources, owner: 'pod-2', root, isKnownSource })
    for (let round = 0; round < 4; round += 1) await comeAndGo(t, world, '127.0.0.5')
    t.notOk(await isServed(t, world, '127.0.0.5'))
    t.match(world.refused.at(-1), { reason: 'floodRefused', message: /127\.0\.0\.5 makes one/ })
    await comeAndGo(t, world, '127.0.0.6')

    for (let round = 0; round < 2; round += 1) await comeAndGo(t, other, '127.0.0.5')
    t.notOk(await isServed(t, other, '127.0.0.5'), 'nor over all pods of the worker')
    await comeAndGo(t, other, '127.0.0.6')

    now += 500
    await comeAndGo(t, world, '127.0.0.5')
    t.notOk(await isServed(t, world, '127.0.0.5'), 'one more, half a second later')
  },
)

void t.test('an honest pool never meets the bound of handshakes', (t) => {
  const sources = new HboneSources({ now: () => 0 })
  const gateway = '10.244.0.9' as IpAddress
  const turnedAway: unknown[] = []
  const connect = (pod: string): void => {
    turnedAway.push(...[sources.turnAway(pod, gateway, true)].filter((away) => away !== undefined))
    sources.handshakeDone(pod, gateway, true)
  }
  // Each of the 250 pods of a full node by eight threads, at once.
  for (let pod = 0; pod < 250; pod += 1)
    for (let thread = 0; thread < 8; thread += 1) connect(`pod-${pod}`)
  t.strictSame(turnedAway, [])
  const caller = '10.244.0.10' as IpAddress
  for (let handshake = 0; handshake < 256; handshake += 1) {
    t.equal(sources.turnAway('busy', caller, true), undefined)
    sources.handshakeDone('busy', caller, true)
  }
  t.match(sources.turnAway('busy', caller, true), { reason: 'floodRefused' })
  t.end()
})

await t.test('what one caller has open is bounded over all pods of the worker', async (t) => {
  const sources = new HboneSources({ ofAddress: 3, ofIdentity: 5 })
  const first = await makeWorld(t, { sources, owner: 'pod-1' })
  const second = await makeWorld(t, { sources, owner: 'pod-2', root: first.root })
  const open = (world: World, localAddress: string): Promise<RawPeer> =>
    rawPeer(t, world.port, first.clientCertificate, true, localAddress)
  const settings = (peer: RawPeer): Promise<unknown> =>
    peer.frame((seen) => seen.type === FRAME.settings)
  const peers = [
    await open(first, '127.0.0.1'),
    await open(second, '127.0.0.1'),
    await open(second, '127.0.0.1'),
  ]
  await Promise.all(peers.map(settings))
  await t.rejects(open(first, '127.0.0.1'), 'the address has as many as it may')
  t.match(first.refused.at(-1), {
    reason: 'tooManyConnections',
    message: /127\.0\.0\.1 has 3 HBONE connections to the pods here/,
  })
  await settings(await open(first, '127.0.0.2'))
  await settings(await open(first, '127.0.0.3'))
  const sixth = await open(first, '127.0.0.4')
  await t.rejects(settings(sixth), 'the identity, too')
  t.match(first.refused.at(-1), { reason: 'tooManyConnections', message: /sa\/client has 5/ })

  for (const { socket } of peers) socket.destroy()
  await until(() => second.server.connectionCount() === 0, 'all connections to go')
  await settings(await open(second, '127.0.0.1'))
})

await t.test('a server that is almost out of file descriptors says whom it refuses', async (t) => {
  const root = await makeRoot()
  const [client, server] = await Promise.all([
    makeCertificate(root, testIdentity('client')),
    makeCertificate(root, testIdentity('server')),
  ])
  const program = fileURLToPath(new URL('few-descriptors-process.ts', import.meta.url))
  const child = spawn(
    'sh',
    ['-c', 'ulimit -n 160 && exec "$@"', 'sh', process.execPath, program, JSON.stringify(server)],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  t.teardown(() => child.kill('SIGKILL'))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const said = async (what: string): Promise<Record<string, unknown>> => {
    for (;;) {
      const { value, done } = await lines.next()
      if (done === true) throw new Error(`ended before it said ${what}`)
      const line = JSON.parse(value) as Record<string, unknown>
      if (what in line) return line
    }
  }
  const port = Number((await said('port'))['port'])
  const settings = (peer: RawPeer): Promise<unknown> =>
    peer.frame((seen) => seen.type === FRAME.settings)
  const before = await rawPeer(t, port, client)
  await settings(before)
  child.stdin.write('fill\n')
  await said('done')
  for (let count = 0; count < 3; count += 1) {
    await t.rejects(rawPeer(t, port, client), 'it is reset')
    t.equal((await said('reason'))['reason'], 'outOfDescriptors')
  }
  before.send(headers(1, CONNECT))
  t.ok(await before.frame((seen) => seen.type === FRAME.headers), 'who is there already goes on')
  child.stdin.write('free\n')
  await said('done')
  await settings(await rawPeer(t, port, client))
})

void t.test('pods of one identity do not keep each other out', (t) => {
  const sources = new HboneSources({ ofIdentity: 40 })
  const enter = (address: string, isKnown: boolean): boolean =>
    !('reason' in sources.enter('pod', address as IpAddress, isKnown, testIdentity('shared')))
  for (let count = 0; count < 40; count += 1) t.ok(enter('10.0.0.1', true))
  t.notOk(enter('10.0.0.1', true), 'the greedy one has used up what its identity may have')
  t.notOk(enter('192.0.2.1', false), 'strangers with it get nothing')
  for (let count = 0; count < 16; count += 1) t.ok(enter('10.0.0.2', true), 'its sibling does')
  t.notOk(enter('10.0.0.2', true), 'a few')
  t.end()
})

void t.test('the memory of who was shut out is bounded', (t) => {
  const sources = new HboneSources()
  const address = '10.0.0.1' as IpAddress
  const shut = (name: string): void => {
    const seat = sources.enter('pod', address, false, testIdentity(name))
    if ('reason' in seat) throw new Error(seat.message)
    seat.flooded()
    seat.leave()
  }
  for (let count = 0; count < 10_050; count += 1) shut(`n${count}`)
  t.notOk(
    'reason' in sources.enter('pod', address, false, testIdentity('n0')),
    'the oldest is forgotten',
  )
  t.ok('reason' in sources.enter('pod', address, false, testIdentity('n10000')))
  t.end()
})
