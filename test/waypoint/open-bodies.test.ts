// SPDX-License-Identifier: Apache-2.0
// Bodies of HTTP/2 that stop half-way, by a clock in the test's hands: their requests are ended, and nobody else's.

import { setImmediate as eventLoopTurn } from 'node:timers/promises'
import t from 'tap'
import type { HeaderList } from '../../mesh/http2/hpack.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { FLAG, FRAME, H2_CODE, PREFACE } from '../../mesh/http2/protocol.ts'
import { serveHttp2 } from '../../waypoint/exchange/serve-http2.ts'
import { frame, headers } from '../hbone/raw-peer.ts'
import { makeWorld, message, OK, type World } from './harness.ts'

const MINUTE = 60_000

interface Http2World extends World {
  /** The client sends this, and the waypoint acts on it. */
  say(...frames: readonly Buffer[]): Promise<void>
  /** Streams that the client saw reset, by their codes. */
  resets(): Promise<Readonly<Record<number, number>>>
}

async function http2World(): Promise<Http2World> {
  const memory = new HeldMemory(1024 * 1024)
  const world = makeWorld({
    serve: (pipe, context) => serveHttp2(pipe, context, { memory, accounts: {} }),
  })
  const say = async (...frames: readonly Buffer[]): Promise<void> => {
    world.client.send(Buffer.concat(frames))
    await eventLoopTurn()
  }
  await say(PREFACE, frame(FRAME.settings, 0, 0))
  const resets = async (): Promise<Readonly<Record<number, number>>> => {
    await eventLoopTurn()
    const bytes = Buffer.from(world.client.take(), 'latin1')
    const seen: Record<number, number> = {}
    for (let at = 0; at < bytes.length; at += 9 + bytes.readUIntBE(at, 3))
      if (bytes[at + 3] === FRAME.rstStream)
        seen[bytes.readUInt32BE(at + 5)] = bytes.readUInt32BE(at + 9)
    return seen
  }
  return Object.assign(world, { say, resets })
}

const post = (id: number, ...more: HeaderList): Buffer =>
  headers(id, [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':authority', 'catalog'],
    [':path', `/${id}`],
    ...more,
  ])
const data = (id: number, text: string, flags = 0): Buffer =>
  frame(FRAME.data, flags, id, Buffer.from(text))

void t.test(
  'a request whose body has stopped is ended, and one whose body comes is not',
  async (t) => {
    const world = await http2World()
    await world.say(post(1), data(1, 'half'), post(3), data(3, 'slow'))
    t.equal(world.apps.length, 2)
    const [stopped, slow] = world.apps
    for (let minute = 0; minute < 12; minute += 4) {
      world.pass(4 * MINUTE)
      await world.say(data(3, 'ly'))
    }
    t.match(world.records, [
      { target: '/1', status: 408, flag: 'DPE', requestBytes: 4, message: /did not come/ },
    ])
    t.equal(stopped?.resetBy, 'clientReset', 'the app takes nothing for whole')
    t.strictSame(
      await world.resets(),
      { 1: H2_CODE.noError },
      'the client hears that it need not go on',
    )
    await world.say(data(3, '.', FLAG.endStream))
    slow?.send(OK)
    t.match(world.records, [{}, { target: '/3', status: 200, requestBytes: 11 }])
    t.equal(world.deadlines.size, 1, 'that of the connection without requests')
  },
)

void t.test('it is not the client that has stopped', async (t) => {
  const app = await http2World()
  await app.say(post(1))
  app.app().hasRoom = false
  await app.say(data(1, 'he'))
  app.pass(30 * MINUTE)
  t.equal(app.records.length, 0, 'the app takes nothing')
  app.app().drain()
  app.pass(11 * MINUTE)
  t.match(app.records, [{ status: 408 }])

  const answered = await http2World()
  await answered.say(post(1), data(1, 'he'))
  answered.app().send(message(['HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'], '2\r\nhi\r\n'))
  answered.pass(30 * MINUTE)
  t.equal(answered.records.length, 0, 'who talks meanwhile is not cut off')

  const whole = await http2World()
  await whole.say(post(1), data(1, 'all', FLAG.endStream))
  whole.pass(30 * MINUTE)
  t.equal(whole.records.length, 0, 'of the app a route says how long it may take')
  t.equal(whole.deadlines.size, 0)

  const call = await http2World()
  await call.say(post(1, ['content-type', 'application/grpc'], ['te', 'trailers']))
  call.pass(30 * MINUTE)
  t.equal(call.records.length, 0, 'a call of gRPC is silent between its messages')
})

void t.test('whoever still sends when it is answered hears first of the answer', async (t) => {
  const world = await http2World()
  await world.say(post(1), data(1, 'half'))
  world.app().send(message(['HTTP/1.1 403 Forbidden', 'Content-Length: 0']))
  t.strictSame(await world.resets(), {}, 'clients take both at once for a failure')
  await world.say(data(1, 'more'))
  t.strictSame(await world.resets(), {})
  world.pass(1_050)
  t.strictSame(await world.resets(), { 1: H2_CODE.noError }, 'then it is to stop')

  const quick = await http2World()
  await quick.say(post(1), data(1, 'half'))
  quick.app().send(message(['HTTP/1.1 403 Forbidden', 'Content-Length: 0']))
  for (let sent = 0; sent < 5; sent += 1) await quick.say(data(1, 'x'.repeat(16_000)))
  t.strictSame(await quick.resets(), { 1: H2_CODE.noError }, 'as soon as it has sent much')

  const done = await http2World()
  await done.say(post(1), data(1, 'half'))
  done.app().send(message(['HTTP/1.1 403 Forbidden', 'Content-Length: 0']))
  await done.say(data(1, 'all', FLAG.endStream))
  done.pass(2_000)
  t.strictSame(await done.resets(), {}, 'who is done is not told')
  t.equal(done.deadlines.size, 1, 'that of the connection without requests')
})

void t.test('of requests that are over, none is looked at', async (t) => {
  const world = await http2World()
  await world.say(post(1), data(1, 'half'), post(3), data(3, 'half'))
  await world.say(frame(FRAME.rstStream, 0, 1, Buffer.from([0, 0, 0, 8])))
  world.apps[1]?.send(OK)
  await eventLoopTurn()
  t.match(world.records, [{ flag: 'DC' }, { status: 200 }])
  world.pass(30 * MINUTE)
  t.equal(world.records.length, 2)
  t.equal(world.deadlines.size, 1, 'that of the connection without requests')
})
