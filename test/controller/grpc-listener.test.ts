// SPDX-License-Identifier: Apache-2.0
// The front door of the gRPC port with real sockets: who may stay, who has to go, and what strangers cost.

import t from 'tap'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import {
  Client,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  status,
  type ServiceError,
} from '@grpc/grpc-js'
import { callGate } from '../../controller/auth/call-gate.ts'
import { TokenAuthenticator } from '../../controller/auth/token-authenticator.ts'
import { CallerConnections } from '../../controller/serve/caller-connections.ts'
import { connectionBudget } from '../../controller/serve/connection-budget.ts'
import { type ConnectionCut, GrpcListener } from '../../controller/serve/grpc-listener.ts'
import { descriptorLimit } from '../../mesh/program/descriptor-limit.ts'
import { Newcomers } from '../../mesh/program/newcomers.ts'
import { createLogger } from '../../mesh/telemetry/log.ts'
import { acceptedToken, ScriptedKube } from '../support/scripted-kube.ts'
import { unaryMethod } from '../support/raw-grpc.ts'
import { stopTime } from '../support/stop-time.ts'
import { until } from '../support/until.ts'

const log = createLogger('test', 'silent')
const SHORT_MS = 300
const LONG_MS = 60_000
/** A call of so many bytes is answered only when the test says so. */
const HELD = 77
const ECHO = unaryMethod('/test.Echo/Say')

interface Door {
  readonly port: number
  readonly listener: GrpcListener
  readonly cuts: ConnectionCut[]
  readonly heard: number[]
  /** Answers to calls of HELD bytes, which come when they are called. */
  readonly held: (() => void)[]
  silent(localAddress: string): Promise<Socket>
  /** Makes a connection of its own and calls over it. */
  client(): { say(token: string, bytes?: number): Promise<status>; close(): void }
}

async function door(
  t: { teardown(fn: () => void): void },
  options: {
    readonly newcomers?: number
    readonly firstCallDeadlineMs?: number
    readonly ordinaryCallDeadlineMs?: number
  } = {},
): Promise<Door> {
  const kube = new ScriptedKube()
  for (const name of ['a', 'b'])
    kube.tokens.set(name, acceptedToken('shop', name, { name, uid: `uid-${name}` }))
  const cuts: ConnectionCut[] = []
  const heard: number[] = []
  const held: (() => void)[] = []
  kube.tokens.set('agent', acceptedToken('ambit-system', 'ambit-agent', { name: 'g', uid: 'g' }))
  const gate = callGate({
    authenticator: new TokenAuthenticator(kube.api, { audience: 'istio-ca' }),
    log,
    standingOf: ({ serviceAccount }) => (serviceAccount === 'ambit-agent' ? 'agent' : 'ordinary'),
    ...(options.ordinaryCallDeadlineMs !== undefined && {
      ordinaryCallDeadlineMs: options.ordinaryCallDeadlineMs,
    }),
    onCall: (peer) => listener.called(peer),
    onAuthenticated: (peer, account) => listener.authenticated(peer, account),
    onRefused: () => undefined,
  })
  const server = new Server({ interceptors: [gate], 'grpc.max_receive_message_length': 16_777_216 })
  server.addService(
    { say: ECHO },
    {
      say: (call: { request: Buffer }, callback: (error: null, reply: Buffer) => void) => {
        heard.push(call.request.length)
        const answer = (): void => callback(null, Buffer.from('heard'))
        if (call.request.length === HELD) held.push(answer)
        else answer()
      },
    },
  )
  const listener = new GrpcListener({
    server,
    credentials: ServerCredentials.createInsecure(),
    budget: { health: 1, newcomers: options.newcomers ?? 100, callers: 100 },
    log,
    onCut: (cut) => cuts.push(cut),
    firstCallDeadlineMs: options.firstCallDeadlineMs ?? LONG_MS,
  })
  const port = await listener.listen({ host: '127.0.0.1', port: 0 })
  const sockets: Socket[] = []
  t.teardown(() => {
    listener.close()
    server.forceShutdown()
    for (const socket of sockets) socket.destroy()
  })
  return {
    port,
    listener,
    cuts,
    heard,
    held,
    silent: async (localAddress) => {
      const socket = connect({ host: '127.0.0.1', port, localAddress })
      sockets.push(socket)
      socket.on('error', () => undefined)
      await once(socket, 'connect')
      return socket.resume()
    },
    client: () => {
      const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
        'grpc.use_local_subchannel_pool': 1,
      })
      t.teardown(() => client.close())
      return {
        close: () => client.close(),
        say: (token, bytes = 1) =>
          new Promise((resolve) => {
            const metadata = new Metadata()
            metadata.set('authorization', `Bearer ${token}`)
            const { path, requestSerialize, responseDeserialize } = ECHO
            client.makeUnaryRequest(
              path,
              requestSerialize,
              responseDeserialize,
              Buffer.alloc(bytes),
              metadata,
              (error: ServiceError | null) => resolve(error?.code ?? status.OK),
            )
          }),
      }
    },
  }
}

void t.test(
  'who stays silent is cut in time; who made a call with a good token stays',
  async (t) => {
    const tick = stopTime(t)
    const { silent, client, cuts, listener } = await door(t, { firstCallDeadlineMs: SHORT_MS })
    const known = client()
    t.equal(await known.say('a'), status.OK)
    const mute = await silent('127.0.0.2')
    while (listener.connections.newcomers === 0) await new Promise(setImmediate)
    tick(SHORT_MS)
    if (!mute.closed) await once(mute, 'close')
    t.same(cuts, ['silent'])
    t.same(listener.connections, { newcomers: 0, callers: 1 })
    t.equal(await known.say('a'), status.OK)
    t.same(listener.connections, { newcomers: 0, callers: 1 }, 'over the same connection')
    known.close()
    while (listener.connections.callers > 0) await new Promise(setImmediate)
    t.pass('and is forgotten when it leaves')
  },
)

void t.test('bad tokens, however many, do not make a connection somebody', async (t) => {
  const { client, cuts, listener } = await door(t)
  const stranger = client()
  let accepted = 0
  while (cuts.length === 0) if ((await stranger.say('made-up')) === status.OK) accepted += 1
  t.equal(accepted, 0)
  t.equal(cuts[0], 'calls')
  t.equal(listener.connections.callers, 0)
})

void t.test('few bad tokens give a connection no more time', async (t) => {
  const { client, cuts, listener } = await door(t, { firstCallDeadlineMs: SHORT_MS })
  t.not(await client().say('made-up'), status.OK)
  await until(() => cuts.length > 0, 'the cut')
  t.equal(cuts[0], 'silent')
  t.equal(listener.connections.callers, 0)
})

void t.test('what a stranger sends is not read', async (t) => {
  const { client, heard } = await door(t)
  t.equal(await client().say('made-up', 8_000_000), status.UNAUTHENTICATED)
  t.equal(await client().say('', 8_000_000), status.UNAUTHENTICATED)
  t.same(heard, [])
  t.equal(await client().say('a', 8_000_000), status.OK)
  t.same(heard, [8_000_000])
})

void t.test('who calls and calls without a token is cut, and then not let in', async (t) => {
  const { port, client, cuts, listener } = await door(t)
  const known = client()
  t.equal(await known.say('a'), status.OK)
  const liar = client()
  const codes = await Promise.all(Array.from({ length: 65 }, () => liar.say('nobody')))
  t.ok(codes.includes(status.UNAVAILABLE), 'of those under way when it was cut')
  t.same(cuts, ['calls'])
  t.same(listener.connections, { newcomers: 0, callers: 1 })
  t.equal(await known.say('a'), status.OK)
  const knock = async (): Promise<void> => {
    const socket = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' })
    socket.on('error', () => undefined).once('connect', () => socket.destroy())
    await new Promise((resolve) => socket.once('close', resolve))
    while (listener.connections.newcomers > 0) await new Promise(setImmediate)
  }
  // Each comes to nothing.
  while (!cuts.includes('flood')) await knock()
  t.equal(cuts.at(-1), 'flood')
  t.equal(await client().say('b'), status.OK, 'other addresses are served')
})

void t.test('one caller cannot make calls without an end, however it connects', async (t) => {
  const { client, cuts } = await door(t)
  const liar = client()
  const atOnce = 52
  const startMs = performance.now()
  let calls = 0
  for (; cuts.length === 0; calls += atOnce)
    await Promise.all(Array.from({ length: atOnce }, () => liar.say('a')))
  // A thousand, what the time it took has added, and those under way when it was cut.
  const allowed = 1_000 + ((performance.now() - startMs) / 1_000) * 50
  t.ok(calls <= allowed + atOnce, `${calls} calls until the cut`)
  t.ok(cuts.every((cut) => cut === 'calls'))
  t.equal(await client().say('b'), status.OK, 'others are served')
})

void t.test('a crowd from one address makes room for one another, and for callers', async (t) => {
  const { silent, client, cuts, listener } = await door(t)
  const first = await silent('127.0.0.2')
  const closed = once(first, 'close')
  for (let count = 0; count < 16; count += 1) await silent('127.0.0.2')
  await closed
  t.same(cuts, ['address'], 'the oldest goes')
  t.equal(await client().say('a'), status.OK, 'another address')
  t.same(listener.connections, { newcomers: 16, callers: 1 })
})

void t.test('a crowd from everywhere keeps out nobody who has a token', async (t) => {
  const { silent, client, cuts, listener } = await door(t, { newcomers: 20 })
  for (let count = 0; count < 60; count += 1) await silent(`127.0.1.${count + 1}`)
  for (const token of ['a', 'b', 'a']) t.equal(await client().say(token), status.OK)
  t.equal(listener.connections.callers, 3)
  t.ok(listener.connections.newcomers <= 20)
  t.ok(cuts.length >= 40 && cuts.every((cut) => cut === 'total'))
})

void t.test('one caller cannot take all connections; those of others stay', async (t) => {
  const { client, cuts, listener } = await door(t)
  const other = client()
  t.equal(await other.say('b'), status.OK)
  for (let count = 0; count < 20; count += 1) t.equal(await client().say('a'), status.OK)
  t.same(cuts, ['caller', 'caller', 'caller', 'caller'])
  t.equal(listener.connections.callers, 17)
  t.equal(await other.say('b'), status.OK)
})

void t.test('who is no component has two calls under way, and holds up no other', async (t) => {
  const { client, held } = await door(t)
  const [one, two, three, other, agent] = [client(), client(), client(), client(), client()]
  const waiting = [one.say('a', HELD), two.say('a', HELD)]
  while (held.length < 2) await new Promise(setImmediate)
  t.equal(await three.say('a'), status.RESOURCE_EXHAUSTED)
  t.equal(await other.say('b'), status.OK)
  const many = Array.from({ length: 8 }, () => agent.say('agent', HELD))
  while (held.length < 10) await new Promise(setImmediate)
  for (const answer of held) answer()
  t.strictSame(new Set(await Promise.all([...waiting, ...many])), new Set([status.OK]))
  t.equal(await three.say('a'), status.OK, 'and then two again')
})

void t.test(
  'a call of one who is no component ends in time, and gives its place back',
  async (t) => {
    const tick = stopTime(t)
    const { client, held } = await door(t, { ordinaryCallDeadlineMs: SHORT_MS })
    const [one, agent] = [client(), client()]
    const patient = agent.say('agent', HELD)
    const ordinary = [one.say('a', HELD), one.say('a', HELD)]
    while (held.length < 3) await new Promise(setImmediate)
    tick(SHORT_MS)
    t.same(await Promise.all(ordinary), [status.DEADLINE_EXCEEDED, status.DEADLINE_EXCEEDED])
    t.equal(await one.say('a'), status.OK)
    for (const answer of held) answer()
    t.equal(await patient, status.OK, 'those of components last')
  },
)

void t.test('when it closes, newcomers are let go of at once, and calls may end', async (t) => {
  const { silent, client, listener } = await door(t)
  const known = client()
  t.equal(await known.say('a'), status.OK)
  const mute = await silent('127.0.0.2')
  const gone = once(mute, 'close')
  listener.close()
  await gone
  t.equal(await known.say('a'), status.OK)
})

void t.test('descriptors are shared out so that all together leave a reserve', (t) => {
  for (const descriptors of [256, 1024, 20_000, 1_048_576]) {
    const { health, newcomers, callers } = connectionBudget(descriptors)
    t.ok(health > 0 && newcomers > 0 && callers > newcomers)
    t.ok(health + newcomers + callers <= descriptors - 64, `${descriptors}`)
  }
  t.equal(descriptorLimit('Max open files            1024  2048  files\n'), 1024)
  t.equal(descriptorLimit('Max open files            unlimited unlimited files\n'), 1_048_576)
  t.end()
})

void t.test('over its bounds the oldest newcomer goes, IPv6 by network', (t) => {
  const gone: string[] = []
  const limits = { perAddress: 2, perNetwork: 3, total: 4 }
  const newcomers = new Newcomers<string>(limits, (who, bound) => gone.push(`${who} ${bound}`))
  newcomers.add('2001:db8::1', 'a')
  newcomers.add('2001:db8::1', 'b')
  newcomers.add('2001:db8::1', 'c')
  newcomers.add('2001:db8:0:0:ffff::1', 'd')
  newcomers.add('2001:db8::2', 'e')
  newcomers.add('::ffff:10.0.0.1', 'f')
  newcomers.add('10.0.0.1', 'g')
  t.same(gone, ['a address', 'b network', 'c total'])
  t.equal(newcomers.delete('a'), false)
  t.equal(newcomers.delete('g'), true)
  t.equal(newcomers.size, 3)
  t.equal(newcomers.of('2001:db8::1'), 0)
  t.end()
})

void t.test('when all is full, the caller with the most connections pays', (t) => {
  const gone: string[] = []
  const limits = { perCaller: 3, total: 4 }
  const callers = new CallerConnections<string>(limits, (who, bound) =>
    gone.push(`${who} ${bound}`),
  )
  for (const [caller, connection] of ['aA', 'aB', 'aC', 'bD', 'cE', 'cE'].map((pair) => [...pair]))
    callers.add(caller ?? '', connection ?? '')
  t.same(gone, ['A total'])
  callers.delete('D')
  callers.add('a', 'F')
  callers.add('a', 'G')
  t.same(gone, ['A total', 'B caller'])
  t.equal(callers.size, 4)
  t.end()
})
