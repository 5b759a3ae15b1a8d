// SPDX-License-Identifier: Apache-2.0
// What connections hold by themselves: nothing while they are idle, and on their owner's account what a peer makes them keep.

import { type Hash, createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, type Socket, connect, createServer } from 'node:net'
import { setImmediate as eventLoopTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { SERVER_SETTINGS } from '../../mesh/hbone/limits.ts'
import { type ConnectionClosed, H2Connection } from '../../mesh/http2/connection.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { FLAG, FRAME, H2_CODE, PREFACE } from '../../mesh/http2/protocol.ts'
import { IGNORING_SINK } from '../../mesh/http2/stream.ts'
import { SocketWire } from '../../mesh/http2/wire.ts'
import { CONNECT, frame, headers } from '../hbone/raw-peer.ts'
import { until } from '../support/until.ts'
import { literal } from './naive-hpack.ts'

const KIB = 1024
const MIB = 1024 * KIB

interface Served {
  readonly peer: Socket
  readonly connection: H2Connection
  /** Of all DATA that came. */
  readonly received: Hash
  /** Set once it is closed. */
  closed: ConnectionClosed | undefined
}

/** Connections to an engine that accepts every request and reads what comes. */
async function makeServer(
  t: Test,
  memory: HeldMemory,
  pingIntervalMs = 60_000,
): Promise<(owner: string) => Promise<Served>> {
  const accepted = new Map<number, (socket: Socket) => void>()
  const waiting = new Map<number, Socket>()
  const server = createServer((socket) => {
    const port = socket.remotePort ?? 0
    const take = accepted.get(port)
    if (take === undefined) waiting.set(port, socket)
    else take(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  return async (owner) => {
    const peer = connect(port, '127.0.0.1')
    t.teardown(() => peer.destroy())
    await once(peer, 'connect')
    peer.on('error', () => undefined).resume()
    const own = peer.localPort ?? 0
    const socket =
      waiting.get(own) ?? (await new Promise<Socket>((resolve) => accepted.set(own, resolve)))
    const ready = Promise.withResolvers<undefined>()
    const received = createHash('sha256')
    const connection = new H2Connection({
      role: 'server',
      wire: new SocketWire(socket),
      settings: SERVER_SETTINGS,
      memory,
      owner,
      settingsDeadlineMs: 10_000,
      pingIntervalMs,
      pingTimeoutMs: 60_000,
      onReady: () => ready.resolve(undefined),
      onRequest: (stream) => {
        stream.sink = {
          ...IGNORING_SINK,
          onData: (chunk) => {
            received.update(chunk)
            stream.consume(chunk.length)
            return false
          },
        }
        stream.sendHeaders([[':status', '200']], false)
      },
      onStreamClosed: () => undefined,
      onClosed: (closed) => (served.closed = closed),
    })
    const served: Served = { peer, connection, received, closed: undefined }
    peer.write(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0)]))
    await ready.promise
    return served
  }
}

const halfBlock = frame(FRAME.headers, 0, 1, Buffer.alloc(16 * KIB, 0x82))
const moreOfBlock = frame(FRAME.continuation, 0, 1, Buffer.alloc(16 * KIB, 0x82))

await t.test('idle connections hold no read buffer of their own', async (t) => {
  const memory = new HeldMemory(64 * MIB)
  const open = await makeServer(t, memory)
  await open('pod')
  const count = 200
  const before = process.memoryUsage().arrayBuffers
  for (let made = 0; made < count; made += 1) await open('pod')
  const each = (process.memoryUsage().arrayBuffers - before) / count
  t.ok(each < 16 * KIB, `${Math.round(each / KIB)} KiB of buffers each, on both ends`)
  t.equal(memory.total, 0)
})

await t.test('a busy connection gets a buffer, and gives it back when it is quiet', async (t) => {
  const memory = new HeldMemory(64 * MIB)
  const { peer, connection } = await (await makeServer(t, memory, 20))('pod')
  peer.write(headers(1, CONNECT))
  peer.write(frame(FRAME.data, 0, 1, Buffer.alloc(4 * KIB)))
  await until(() => memory.total >= 16 * KIB, 'a read buffer')
  // Any word of the peer's after a quiet time between two PINGs.
  const ack = frame(FRAME.ping, FLAG.ack, 0, Buffer.alloc(8))
  peer.on('data', () => peer.write(ack))
  await until(() => memory.total === 0, 'all memory given back')
  peer.write(frame(FRAME.data, 0, 1, Buffer.alloc(40 * KIB)))
  await until(() => memory.total > 0, 'a buffer again')
  t.equal(connection.streamCount, 1, 'and serves on')
})

await t.test('what a peer sends in one piece arrives whole, whatever buffer it met', async (t) => {
  const memory = new HeldMemory(64 * MIB)
  const { peer, connection, received } = await (await makeServer(t, memory))('pod')
  const sent = createHash('sha256')
  peer.write(headers(1, CONNECT))
  for (const size of [10, 900, 1_100, 20_000, 3, 60_000])
    for (let count = 0; count < 12; count += 1) {
      const payload = Buffer.alloc(size, size + count)
      sent.update(payload)
      peer.write(frame(FRAME.data, 0, 1, payload))
      await eventLoopTurn()
    }
  peer.write(frame(FRAME.data, FLAG.endStream, 1))
  peer.write(frame(FRAME.rstStream, 0, 1, Buffer.from([0, 0, 0, 8])))
  await until(() => connection.streamCount === 0, 'the end of the stream')
  t.equal(received.digest('hex'), sent.digest('hex'))
})

await t.test(
  'what came before the engine was there does not lend its buffer to others',
  async (t) => {
    const memory = new HeldMemory(64 * MIB)
    const sockets: Socket[] = []
    const server = createServer((socket) => void sockets.push(socket)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => {
      server.close()
      for (const socket of sockets) socket.destroy()
    })
    const { port } = server.address() as AddressInfo
    /** A connection whose first request is there before its engine, and a sink that keeps every chunk. */
    const open = async (): Promise<{ readonly peer: Socket; readonly kept: Buffer[] }> => {
      const peer = connect(port, '127.0.0.1')
      t.teardown(() => peer.destroy())
      const first = Buffer.concat([
        PREFACE,
        frame(FRAME.settings, 0, 0),
        headers(1, CONNECT),
        frame(FRAME.data, 0, 1, Buffer.alloc(2 * KIB, 1)),
      ])
      const count = sockets.length
      peer.write(first)
      peer.on('error', () => undefined).resume()
      await until(
        () => sockets[count] !== undefined && sockets[count].readableLength === first.length,
        'the first request',
      )
      const kept: Buffer[] = []
      const [socket] = sockets.slice(-1)
      if (socket === undefined) throw new Error('no socket')
      new H2Connection({
        role: 'server',
        wire: new SocketWire(socket),
        settings: SERVER_SETTINGS,
        memory,
        settingsDeadlineMs: 10_000,
        pingIntervalMs: 60_000,
        pingTimeoutMs: 60_000,
        onReady: () => undefined,
        onRequest: (stream) => {
          stream.sink = { ...IGNORING_SINK, onData: (chunk) => kept.push(chunk) > 0 }
        },
        onStreamClosed: () => undefined,
        onClosed: () => undefined,
      })
      return { peer, kept }
    }
    const [one, other] = [await open(), await open()]
    for (let round = 2; round < 6; round += 1)
      for (const { peer, kept } of [one, other]) {
        const before = kept.length
        peer.write(frame(FRAME.data, 0, 1, Buffer.alloc(2 * KIB, peer === one.peer ? round : 99)))
        await until(() => kept.length > before, 'the next chunk')
      }
    const bytes = [1, 2, 3, 4, 5].map((value) => Buffer.alloc(2 * KIB, value))
    t.ok(
      Buffer.concat(one.kept).equals(Buffer.concat(bytes)),
      'the first one still has what it kept',
    )
  },
)

await t.test('half a header block and the table are counted while they are held', async (t) => {
  const memory = new HeldMemory(64 * MIB)
  const { peer } = await (await makeServer(t, memory))('pod')
  peer.write(halfBlock)
  await until(() => memory.total >= 32 * KIB, 'half a block, and the buffer it was read into')
  peer.write(frame(FRAME.continuation, FLAG.endHeaders, 1))
  await until(() => memory.total < 32 * KIB, 'the block given back')
  const entry = literal('indexed', 'x', 'y'.repeat(3 * KIB), false)
  const before = memory.total
  peer.write(frame(FRAME.headers, FLAG.endHeaders, 3, entry))
  await until(() => memory.total >= before + 3 * KIB, 'the entry of the table')
  peer.destroy()
  await until(() => memory.total === 0, 'all memory given back')
  t.pass('and given back')
})

await t.test('half a frame is counted while its rest does not come', async (t) => {
  const memory = new HeldMemory(64 * MIB)
  const { peer } = await (await makeServer(t, memory))('pod')
  const whole = frame(FRAME.headers, 0, 1, Buffer.alloc(60 * KIB, 0x82))
  peer.write(whole.subarray(0, 100))
  await until(() => memory.total >= 60 * KIB, 'the half frame to be counted')
  peer.destroy()
  await until(() => memory.total === 0, 'it to be given back')
  t.pass('and given back')
})

await t.test('the owner of many half-open connections pays, and nobody else', async (t) => {
  const memory = new HeldMemory(2 * MIB)
  const open = await makeServer(t, memory)
  const honest = await open('honest')
  honest.peer.write(headers(1, CONNECT))
  honest.peer.write(frame(FRAME.data, 0, 1, Buffer.alloc(20 * KIB)))
  await until(() => memory.total >= 16 * KIB, 'a read buffer')
  const greedy: Served[] = []
  // 48 KiB each, and 16 KiB to read into: 32 of them fit.
  for (let made = 0; made < 60; made += 1) {
    const served = await open('greedy')
    served.peer.write(Buffer.concat([halfBlock, moreOfBlock, moreOfBlock]))
    greedy.push(served)
    const before = memory.total
    await until(
      () => memory.total > before + 16 * KIB || served.closed !== undefined || cut() > 0,
      'its block to be held, or the owner to pay',
    )
  }
  await until(() => cut() >= 20, '20 connections to be cut')
  t.ok(memory.total <= 2 * MIB)
  t.equal(honest.closed, undefined)
  t.equal(honest.connection.streamCount, 1)
  const [first] = greedy.filter(({ closed }) => closed !== undefined)
  t.match(first?.closed, { code: H2_CODE.enhanceYourCalm, isPeerFault: false })
  for (const { peer } of [...greedy, honest]) peer.destroy()
  await until(() => memory.total === 0, 'all memory given back')

  function cut(): number {
    return greedy.filter(({ closed }) => closed !== undefined).length
  }
})
