// SPDX-License-Identifier: Apache-2.0
// Receivers that do not read: what is held for them stays out of the way of others, and within its bounds.

import { once } from 'node:events'
import { type Socket, connect, createServer } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { HeldMemory, type Holder } from '../../mesh/http2/held-memory.ts'
import { FLAG, FRAME } from '../../mesh/http2/protocol.ts'
import { H2Stream } from '../../mesh/http2/stream.ts'
import { CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES } from '../../mesh/hbone/limits.ts'
import type { HboneTunnel, IncomingTunnel } from '../../mesh/hbone/types.ts'
import { until } from '../support/until.ts'
import { makeWorld } from './harness.ts'
import { CONNECT, frame, headers, rawPeer } from './raw-peer.ts'
import { readAll, relayApp, splice } from './relayed-app.ts'

const MIB = 1024 * 1024
/** A stalled stream holds its window but for what was consumed and not told the peer yet. */
const LEAST_STALLED_BYTES = STREAM_WINDOW_BYTES - STREAM_WINDOW_BYTES / 4

/** An account that knows what streams have of it: live connections hold something, too. */
class WatchedMemory extends HeldMemory {
  readonly #streams = new Set<H2Stream>()

  get waiting(): number {
    return [...this.#streams].reduce((sum, { heldCost }) => sum + heldCost, 0)
  }

  override enter(holder: Holder): void {
    if (holder instanceof H2Stream) this.#streams.add(holder)
    super.enter(holder)
  }
}

/** Writes for as long as the other end takes it; whoever does not read gets all that fits in between. */
function gush(socket: Socket): void {
  socket.on('error', () => undefined)
  const block = Buffer.alloc(MIB, 7)
  const pour = (): void => void (socket.writable && socket.write(block, pour))
  pour()
}

/** An app that does what the first byte of a connection says: gush, stall, or echo. */
function obey(socket: Socket): void {
  socket.on('error', () => undefined)
  socket.once('readable', () => {
    const command = String(socket.read(1))
    if (command === 'g') gush(socket)
    else if (command === 'e') socket.pipe(socket)
  })
}

/** Sends and receives so many bytes through an echoing tunnel. */
async function echoes(socket: Socket, bytes: number): Promise<number> {
  socket.write('e')
  const block = Buffer.alloc(MIB, 1)
  let left = bytes
  const pour = (): void => {
    left -= MIB
    if (left >= 0) socket.write(block, pour)
    else socket.end()
  }
  pour()
  return (await readAll(socket)).length
}

await t.test('six clients that do not read hold up no seventh on their connection', async (t) => {
  const memory = new HeldMemory(256 * MIB)
  const app = await relayApp(t, obey, { memory })
  for (let count = 0; count < 6; count += 1) (await app.connect()).pause().write('g')
  await until(() => memory.total > 6 * LEAST_STALLED_BYTES, 'six stalled tunnels')
  t.ok(memory.total > CONNECTION_WINDOW_BYTES, 'more waits than a connection window')
  t.equal(await echoes(await app.connect(), 32 * MIB), 32 * MIB)
  t.equal(app.world.dials(), 1)
  await app.world.pool.drain(0)
  await Promise.all([...app.outbound, ...app.inbound])
  t.equal(memory.total, 0, 'nothing is left on the account')
})

await t.test('six apps that do not read hold up no seventh caller', async (t) => {
  const memory = new HeldMemory(256 * MIB)
  const app = await relayApp(t, obey, { memory })
  for (let count = 0; count < 6; count += 1) {
    const socket = await app.connect()
    socket.write('s')
    gush(socket)
  }
  await until(() => memory.total > 6 * LEAST_STALLED_BYTES, 'six stalled tunnels')
  t.equal(await echoes(await app.connect(), 32 * MIB), 32 * MIB)
  t.equal(app.world.dials(), 1)
  await app.world.server.drain(0)
  await Promise.all([...app.outbound, ...app.inbound])
  t.equal(memory.total, 0)
})

await t.test(
  'however many stalled tunnels on however many connections, memory is bounded and one that reads goes on',
  async (t) => {
    const limit = 32 * MIB
    const memory = new HeldMemory(limit)
    const app = await relayApp(t, obey, { memory, maxStreams: 4 })
    const good = await app.connect()
    const goodEcho = once(good, 'data')
    good.write('e')
    good.write('early')
    await goodEcho
    let highest = 0
    let isWatching = true
    const watching = (async () => {
      for (; isWatching; await setImmediate()) highest = Math.max(highest, memory.total)
    })()
    for (let count = 0; count < 23; count += 1) {
      const socket = await app.connect()
      socket.on('error', () => undefined).pause()
      socket.write('g')
    }
    // 23 of them would hold 69 MiB or more: at least half must go.
    await until(() => app.outbound.length === 24, 'all 24 connections')
    let cut = 0
    for (const outcome of app.outbound)
      void outcome.then(({ end }) => {
        if (end === 'tooManyUnreadBytes') cut += 1
      })
    await until(() => cut >= 12, 'half of them to be cut')
    isWatching = false
    await watching
    t.ok(highest <= limit, `at most ${highest} of ${limit} bytes were held`)
    t.ok(highest > limit / 2)
    t.ok(app.world.dials() >= 6)
    let echoed = 0
    good.on('data', (chunk: Buffer) => (echoed += chunk.length))
    for (let sent = 0; sent < 16; sent += 1)
      await new Promise((resolve) => good.write(Buffer.alloc(MIB), resolve))
    good.end()
    await once(good, 'end')
    t.equal(echoed, 16 * MIB)
    t.match(await app.outbound[0], { end: 'ok' })
    await app.world.pool.drain(0)
    const ends = await Promise.all(app.outbound)
    await Promise.all(app.inbound)
    t.equal(ends.filter(({ end }) => end === 'ok').length, 1)
    t.equal(memory.total, 0)
  },
)

await t.test('both agents say why a tunnel was cut for memory', async (t) => {
  const memory = new HeldMemory(2 * MIB)
  const app = await relayApp(t, obey, { memory })
  const socket = await app.connect()
  socket.pause().write('g')
  await until(
    () => app.outbound.length + app.inbound.length === 2,
    'both agents to have the connection',
  )
  t.match(await app.outbound[0], { end: 'tooManyUnreadBytes' })
  t.match(await app.inbound[0], { end: 'tooManyUnreadBytes' })
  const failure = once(socket, 'error')
  socket.resume()
  t.match(await failure, [{ code: 'ECONNRESET' }])
})

await t.test(
  'a peer that sends single bytes does not make us keep a read buffer each',
  async (t) => {
    const waiting: IncomingTunnel[] = []
    const memory = new HeldMemory(256 * MIB)
    const world = await makeWorld(t, {
      memory,
      onTunnel: (incoming) => void waiting.push(incoming),
    })
    const peer = await rawPeer(t, world.port, world.clientCertificate)
    peer.send(headers(1, CONNECT))
    const before = process.memoryUsage().arrayBuffers
    const total = 10_000
    for (let count = 0; count < total; count += 1)
      await new Promise((resolve) =>
        peer.socket.write(frame(FRAME.data, 0, 1, Buffer.alloc(1)), resolve),
      )
    await until(() => memory.total > total, 'every byte on the account')
    await setImmediate()
    const grown = process.memoryUsage().arrayBuffers - before
    t.ok(grown < 32 * MIB, `${total} bytes took ${Math.round(grown / MIB)} MiB`)
    t.ok(memory.total < 4 * total, `${memory.total} on the account`)
    peer.socket.destroy()
    await until(() => memory.total === 0, 'all memory given back')
  },
)

await t.test('what came before anybody listened is given back, too', async (t) => {
  const memory = new WatchedMemory(256 * MIB)
  const world = await makeWorld(t, {
    memory,
    onTunnel: (incoming) => incoming.accept({}).end(Buffer.alloc(100_000, 1)),
  })
  const { bare } = await world.open()
  await until(() => memory.total > 100_000, 'what came before anybody listened')
  const reader = Promise.withResolvers<Buffer>()
  const ends = await socketPair(t)
  void readAll(ends.far).then((all) => reader.resolve(all))
  ends.far.end()
  const outcome = splice(ends.near, bare, 'client')
  t.equal((await reader.promise).length, 100_000)
  t.match(await outcome, { received: 100_000, end: 'ok' })
  t.equal(memory.waiting, 0)
})

await t.test(
  'a client that is done before its CONNECT is refused leaves nothing behind',
  async (t) => {
    const memory = new WatchedMemory(256 * MIB)
    const refusals: (() => void)[] = []
    const world = await makeWorld(t, {
      memory,
      onTunnel: (incoming) => void refusals.push(() => incoming.reject(503)),
    })
    const peer = await rawPeer(t, world.port, world.clientCertificate)
    peer.send(headers(1, CONNECT), frame(FRAME.data, FLAG.endStream, 1, Buffer.alloc(1000)))
    peer.send(frame(FRAME.ping, 0, 0, Buffer.alloc(8)))
    await peer.frame(({ type, flags }) => type === FRAME.ping && flags === FLAG.ack)
    t.ok(memory.waiting >= 1000)
    for (const refuse of refusals) refuse()
    t.equal(memory.waiting, 0)
  },
)

await t.test(
  'where many small holders have to go, each is looked at a few times, not for each that goes',
  (t) => {
    const count = 2_000
    const heldCost = 1_000
    const memory = new HeldMemory(count * heldCost)
    let looks = 0
    let sheds = 0
    const hold = (heldBy: object): void => {
      const holder: Holder = {
        owner: 'pod',
        caller: '',
        heldBy,
        get heldCost() {
          looks += 1
          return heldCost
        },
        shed: () => {
          sheds += 1
          memory.leave(holder)
          memory.giveBack(heldCost)
        },
      }
      memory.enter(holder)
      memory.take(heldCost)
    }
    for (let made = 0; made <= count; made += 1) hold({})
    t.ok(sheds >= count / 64, `${sheds} had to go`)
    t.ok(looks <= 4 * count, `${looks} looks at ${count}`)
    t.end()
  },
)

for (const cause of ['the peer resets', 'memory is short'] as const)
  await t.test(
    `an answer cut because ${cause} ends by RST, also when its end was there already`,
    async (t) => {
      const memory = new WatchedMemory(256 * MIB)
      // More than the kernel takes for a reader that does not read, and less than that and a window.
      const length = 6 * MIB
      const accepted = Promise.withResolvers<HboneTunnel>()
      const world = await makeWorld(t, {
        memory,
        onTunnel: (incoming) => {
          const tunnel = incoming.accept({})
          tunnel.on('error', () => undefined).end(Buffer.alloc(length, 1))
          accepted.resolve(tunnel)
        },
      })
      const { bare } = await world.open()
      const { near, far } = await socketPair(t)
      far.pause()
      const outcome = splice(near, bare, 'client')
      await until(() => near.writableEnded, 'the end of what the tunnel brought')
      t.ok(near.writableLength > 0, 'some of it waits in the agent')
      if (cause === 'memory is short') memory.setLimit(1)
      else (await accepted.promise).reset()
      t.match(await outcome, {
        end: cause === 'memory is short' ? 'tooManyUnreadBytes' : 'serverReset',
      })
      t.equal(memory.waiting, 0)
      const failure = once(far, 'error')
      far.resume()
      t.match(await failure, [{ code: 'ECONNRESET' }])
    },
  )

await t.test('under pressure the greediest pod pays, by its greediest connection', (t) => {
  const memory = new HeldMemory(1000)
  const shed: string[] = []
  const hold = (owner: string, heldBy: object, heldCost: number, caller = ''): void => {
    const holder: Holder = {
      owner,
      caller,
      heldBy,
      heldCost,
      shed: () => {
        shed.push(`${owner} ${heldCost}`)
        memory.leave(holder)
        memory.giveBack(heldCost)
      },
    }
    memory.enter(holder)
    memory.take(heldCost)
  }
  const [honest, first, second] = [{}, {}, {}]
  hold('honest', honest, 300)
  hold('greedy', first, 100)
  hold('greedy', first, 90)
  hold('greedy', second, 150)
  hold('greedy', second, 200)
  t.same(shed, [])
  hold('honest', honest, 161)
  t.same(shed, ['greedy 200'], 'the honest pod holds the largest, but less in all')
  t.equal(memory.total, 801)
  hold('greedy', {}, 100, 'attacker')
  hold('greedy', {}, 99, 'attacker')
  t.same(shed, ['greedy 200'])
  hold('greedy', {}, 98, 'attacker')
  t.same(shed[1], 'greedy 100', 'many small ones of a caller weigh more than its largest other')
  t.end()
})

/** Both ends of a TCP connection on loopback. */
async function socketPair(t: Test): Promise<{ readonly near: Socket; readonly far: Socket }> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('not listening')
  const accepted = once(server, 'connection')
  const far = connect({ port: address.port, host: '127.0.0.1', allowHalfOpen: true })
  const [near] = (await accepted) as [Socket]
  server.close()
  t.teardown(() => {
    near.destroy()
    far.destroy()
  })
  return { near, far }
}
