// SPDX-License-Identifier: Apache-2.0
// What a peer can send for nothing, kind by kind, and that it pays for it; and that who is honest never does.

import { setImmediate as eventLoopTurn } from 'node:timers/promises'
import t from 'tap'
import { Bucket } from '../../mesh/async/bucket.ts'
import { CONNECT_UNITS } from '../../mesh/hbone/limits.ts'
import { Conduct } from '../../mesh/http2/conduct.ts'
import { FLAG, FRAME, H2ConnectionError, H2_CODE } from '../../mesh/http2/protocol.ts'
import { TurnBudget, TurnShare } from '../../mesh/http2/turn-budget.ts'
import { makeWorld } from '../hbone/harness.ts'
import { CONNECT, frame, goAwayCode, headers, rawPeer } from '../hbone/raw-peer.ts'

const MIB = 1024 * 1024
/** More than any budget has. */
const MANY = 2_500

const int = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
const repeat = (count: number, bytes: Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, () => bytes))

const calm: readonly (readonly [string, Buffer])[] = [
  ['WINDOW_UPDATE of 1', frame(FRAME.windowUpdate, 0, 0, int(1))],
  ['WINDOW_UPDATE of 65536 on a stream', frame(FRAME.windowUpdate, 0, 1, int(65_536))],
  ['SETTINGS acknowledgement', frame(FRAME.settings, FLAG.ack, 0)],
  ['PING acknowledgement', frame(FRAME.ping, FLAG.ack, 0, Buffer.alloc(8))],
  ['GOAWAY', frame(FRAME.goAway, 0, 0, Buffer.alloc(8))],
  ['empty DATA', frame(FRAME.data, 0, 1)],
  ['padded DATA without payload', frame(FRAME.data, FLAG.padded, 1, Buffer.from([2, 0, 0]))],
  ['RST_STREAM on a closed stream', frame(FRAME.rstStream, 0, 3, int(8))],
  ['WINDOW_UPDATE on a closed stream', frame(FRAME.windowUpdate, 0, 3, int(1))],
]
for (const [what, bytes] of calm)
  await t.test(`a flood of ${what} ends the connection`, async (t) => {
    const world = await makeWorld(t)
    const peer = await rawPeer(t, world.port, world.clientCertificate)
    peer.send(headers(1, CONNECT), headers(3, CONNECT), frame(FRAME.rstStream, 0, 3, int(8)))
    peer.send(repeat(MANY, bytes))
    const goAway = await peer.frame((seen) => seen.type === FRAME.goAway)
    t.equal(goAwayCode(goAway), H2_CODE.enhanceYourCalm)
  })

await t.test('a SETTINGS frame of ten thousand entries ends the connection', async (t) => {
  const world = await makeWorld(t)
  const peer = await rawPeer(t, world.port, world.clientCertificate)
  peer.send(frame(FRAME.settings, 0, 0, repeat(10_000, Buffer.from([0, 4, 0, 1, 0, 0]))))
  t.equal(
    goAwayCode(await peer.frame((seen) => seen.type === FRAME.goAway)),
    H2_CODE.enhanceYourCalm,
  )
})

await t.test('header lists that are too large are paid for by their size', async (t) => {
  // The clock stands: no account fills up again, however long it takes.
  const world = await makeWorld(t, { limits: { now: () => 0 } })
  const peer = await rawPeer(t, world.port, world.clientCertificate)
  for (let id = 1; id < 200; id += 2)
    peer.send(frame(FRAME.headers, FLAG.endHeaders, id, Buffer.alloc(60_000, 0x82)))
  await peer.frame((seen) => seen.type === FRAME.goAway)
  const answers = peer.seen.filter(({ type }) => type === FRAME.headers).length
  t.ok(answers < 60, `${answers} of a hundred were answered`)
})

await t.test('a download by single bytes of window is paid for by whoever opens it', async (t) => {
  const world = await makeWorld(t, {
    onTunnel: (incoming) => {
      const tunnel = incoming.accept({})
      tunnel.on('error', () => undefined).write(Buffer.alloc(MIB))
    },
  })
  const peer = await rawPeer(t, world.port, world.clientCertificate)
  peer.send(frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0])), headers(1, CONNECT))
  await peer.frame((seen) => seen.type === FRAME.headers)
  const dribble = frame(FRAME.windowUpdate, 0, 1, int(1))
  for (let count = 0; count < MANY && peer.socket.writable; count += 1)
    await new Promise((resolve) => peer.socket.write(dribble, resolve))
  await peer.frame((seen) => seen.type === FRAME.goAway)
  t.ok(peer.seen.filter(({ type }) => type === FRAME.data).length < 1_500)
})

await t.test('a peer that tells of every kilobyte that it took is honest', async (t) => {
  const total = 8 * MIB
  const world = await makeWorld(t, {
    onTunnel: (incoming) => incoming.accept({}).end(Buffer.alloc(total)),
  })
  const peer = await rawPeer(t, world.port, world.clientCertificate)
  let got = 0
  let told = 0
  peer.socket.on('data', () => {
    const data = peer.seen.filter(({ type }) => type === FRAME.data)
    got += data.reduce((sum, { payload }) => sum + payload.length, 0)
    peer.seen.splice(0)
    const updates: Buffer[] = []
    for (; told + 2_048 <= got; told += 2_048)
      updates.push(
        frame(FRAME.windowUpdate, 0, 0, int(2_048)),
        frame(FRAME.windowUpdate, 0, 1, int(2_048)),
      )
    if (updates.length > 0) peer.send(...updates)
  })
  peer.send(headers(1, CONNECT))
  while (got < total && !peer.socket.destroyed) await eventLoopTurn()
  t.equal(got, total)
  t.equal(world.refused.length, 0)
})

await t.test('a peer that measures the way by PINGs for all that it gets is honest', async (t) => {
  const total = 16 * MIB
  const world = await makeWorld(t, {
    limits: { now: () => 0 },
    onTunnel: (incoming) => incoming.accept({}).end(Buffer.alloc(total)),
  })
  const peer = await rawPeer(t, world.port, world.clientCertificate)
  const got = { bytes: 0, pings: 0 }
  const done = new Promise<void>((resolve) => {
    peer.socket.once('close', () => resolve())
    peer.socket.on('data', () => {
      const data = peer.seen.filter(({ type }) => type === FRAME.data)
      peer.seen.splice(0)
      const bytes = data.reduce((sum, { payload }) => sum + payload.length, 0)
      if (bytes === 0) return
      got.bytes += bytes
      // A stack that reads in pieces does so for each piece.
      const pings = 3 * data.length
      got.pings += pings
      peer.send(
        frame(FRAME.windowUpdate, 0, 0, int(bytes)),
        frame(FRAME.windowUpdate, 0, 1, int(bytes)),
        repeat(pings, frame(FRAME.ping, 0, 0, Buffer.alloc(8))),
      )
      if (got.bytes === total) resolve()
    })
  })
  peer.send(headers(1, CONNECT))
  await done
  t.equal(got.bytes, total)
  t.ok(got.pings > 2_500, `${got.pings} PINGs are more than anybody may send for nothing`)
  t.equal(world.refused.length, 0)
})

await t.test('what was under way when a stream was cut is no fault of its sender', async (t) => {
  const world = await makeWorld(t, { onTunnel: (incoming) => incoming.accept({}).reset() })
  const peer = await rawPeer(t, world.port, world.clientCertificate)
  const late = frame(FRAME.data, 0, 1, Buffer.alloc(16_000))
  peer.send(headers(1, CONNECT), repeat(200, late))
  peer.send(frame(FRAME.ping, 0, 0, Buffer.alloc(8)))
  await peer.frame((seen) => seen.type === FRAME.ping)
  t.equal(world.server.connectionCount(), 1)
  // More than the stream's window was never allowed.
  peer.send(repeat(200, late))
  t.equal(goAwayCode(await peer.frame((seen) => seen.type === FRAME.goAway)), H2_CODE.streamClosed)
})

await t.test('one connection gets a part of each turn, and the others get theirs', async (t) => {
  let bytes = 0
  const world = await makeWorld(t, {
    onTunnel: (incoming) => {
      const tunnel = incoming.accept({})
      if (incoming.authority === CONNECT[1]?.[1])
        tunnel.on('data', (chunk: Buffer) => (bytes += chunk.length))
      else tunnel.pipe(tunnel)
    },
  })
  const flooder = await rawPeer(t, world.port, world.clientCertificate)
  flooder.send(headers(1, CONNECT))
  await flooder.frame((seen) => seen.type === FRAME.headers)
  const total = 50_000
  // Legal, each of them, and one TLS record holds 1,600.
  flooder.send(repeat(total, frame(FRAME.data, 0, 1, Buffer.alloc(1))))
  const { tunnel } = await world.open('10.0.0.9:80')
  let echoes = 0
  tunnel.on('data', () => {
    echoes += 1
    tunnel.write('again')
  })
  tunnel.write('first')
  let most = 0
  let turns = 0
  while (bytes < total) {
    const before = bytes
    await eventLoopTurn()
    most = Math.max(most, bytes - before)
    turns += 1
  }
  // A turn of this loop may see the end of one share and the begin of the next.
  t.ok(most <= 2 * 256, `at most ${most} in a turn`)
  t.ok(turns >= total / 512)
  t.ok(echoes > 20, `the other connection had ${echoes} echoes meanwhile`)
})

await t.test('calls that are refused come a few in a turn, however many were sent', async (t) => {
  const total = 1_000
  let refused = 0
  const world = await makeWorld(t, {
    onTunnel: (incoming) => {
      incoming.reject(401)
      refused += 1
    },
  })
  const flooder = await rawPeer(t, world.port, world.clientCertificate)
  flooder.send(
    ...Array.from({ length: total }, (_, at) => headers(2 * at + 1, CONNECT, FLAG.endStream)),
  )
  let most = 0
  while (refused < total && !flooder.socket.destroyed) {
    const before = refused
    await eventLoopTurn()
    most = Math.max(most, refused - before)
  }
  t.equal(refused, total)
  // As above, of two shares.
  t.ok(most <= 2 * Math.ceil(256 / CONNECT_UNITS), `at most ${most} in a turn`)
})

await t.test('a share of the turn that was used up is told once, in the next turn', async (t) => {
  let told = 0
  const budget = new TurnBudget(() => (told += 1))
  let units = 0
  while (budget.spend(1)) units += 1
  t.equal(units, 255)
  budget.spend(1)
  t.ok(budget.isHeld)
  t.equal(told, 0)
  await eventLoopTurn()
  t.equal(told, 1)
  t.notOk(budget.isHeld)
  t.ok(budget.spend(1))
})

await t.test('a caller gets no more of a turn for having more connections', async (t) => {
  const share = new TurnShare()
  const told: number[] = []
  const budgets = Array.from(
    { length: 128 },
    (_, index) => new TurnBudget(() => void told.push(index), share),
  )
  const spendAll = (): number => {
    let units = 0
    for (const budget of budgets) while (!budget.isHeld && budget.spend(1)) units += 1
    return units
  }
  const first = spendAll()
  t.ok(first <= 4 * 256, `${first} units in one turn, of 128 connections`)
  t.ok(budgets.every((budget) => budget.isHeld))
  const alone = new TurnBudget(() => undefined, new TurnShare())
  t.ok(alone.spend(1), 'another caller has its own')
  await eventLoopTurn()
  t.equal(told.length, 128, 'each goes on in the next turn')
  t.ok(spendAll() > 0)
})

await t.test('an account that outlives the connection makes reconnecting useless', (t) => {
  let now = 0
  const waste = new Bucket({ burst: 10, perSecond: 1 }, () => now)
  const first = new Conduct({ waste }, MIB)
  for (let count = 0; count < 10; count += 1) first.waste('refusals')
  t.throws(() => first.waste('refusals'), H2ConnectionError)
  const second = new Conduct({ waste }, MIB)
  t.throws(() => second.waste('refusals'), H2ConnectionError)
  now += 5_000
  t.doesNotThrow(() => new Conduct({ waste }, MIB).waste('refusals'))
  t.end()
})
