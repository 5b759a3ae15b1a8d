// SPDX-License-Identifier: Apache-2.0
// How a pod's connections are spread over the endpoints of a Service, between two data planes with real sockets: what an
// endpoint does decides over who gets the next one.

import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { Judge } from '../../agent/proxy/admission.ts'
import type { IpAddress, MeshChange, Service, SocketAddress } from '../../mesh/model/types.ts'
import { makeRoot } from '../hbone/certs.ts'
import { until } from '../support/until.ts'
import {
  inService,
  newAddress,
  type ServedPod,
  startAgent,
  startApp,
  type TestAgent,
  testPod,
  testService,
  workloadOf,
} from './loopback-world.ts'

type App = (socket: Socket) => void

interface Story {
  readonly near: TestAgent
  readonly far: TestAgent
  readonly frontend: ServedPod
  readonly vip: SocketAddress
  readonly endpoints: readonly ServedPod[]
  readonly ports: readonly number[]
  /** Calls the service from the pod, and gives what the app answered, or the error. */
  call(from?: ServedPod): Promise<string>
  /** Tries of the endpoint that its agent has told. */
  triesOf(endpoint: number, from?: string): number
}

/** An app that answers with its name. */
const named =
  (name: string): App =>
  (socket) => {
    socket.resume()
    socket.end(name)
  }

/** A port of the address where nobody listens. */
async function closedPort(address: IpAddress): Promise<number> {
  const server = createServer()
  server.listen(0, address)
  await once(server, 'listening')
  const bound = server.address()
  server.close()
  await once(server, 'close')
  if (bound === null || typeof bound === 'string') throw new Error('not a TCP server')
  return bound.port
}

/** frontend on one agent; on another a pod for each app, all behind one service. `undefined` is an app that is down. */
async function story(
  t: Test,
  apps: readonly (App | undefined)[],
  { judge, service: overrides }: { judge?: Judge; service?: Partial<Service> } = {},
): Promise<Story> {
  const root = await makeRoot()
  const [near, far] = await Promise.all([
    startAgent(t, { root }),
    startAgent(t, { root, ...(judge === undefined ? {} : { judge }) }),
  ])
  const frontend = await near.servePod(testPod('frontend'))
  const vip = { address: '10.96.0.20' as IpAddress, port: 80 }
  const service = testService('catalog', vip.address, overrides)
  const changes: MeshChange[] = [
    { kind: 'service', service },
    { kind: 'workload', workload: workloadOf(frontend.pod) },
  ]
  const endpoints: ServedPod[] = []
  const ports: number[] = []
  for (const [at, app] of apps.entries()) {
    const address = newAddress()
    const pod = await far.servePod(testPod(`e${at}`, address))
    const port = app === undefined ? await closedPort(address) : await startApp(t, address, app)
    endpoints.push(pod)
    ports.push(port)
    changes.push({ kind: 'workload', workload: workloadOf(pod.pod, inService(service, port)) })
  }
  for (const agent of [near, far]) {
    agent.send({ kind: 'mesh', changes })
    agent.send({ kind: 'meshSynced' })
  }
  return {
    near,
    far,
    frontend,
    vip,
    endpoints,
    ports,
    call: async (from = frontend) => {
      const socket = await from.call(vip)
      return await answerOf(socket)
    },
    triesOf: (endpoint, from = 'frontend') =>
      far.lines.filter(
        (line) =>
          line['direction'] === 'inbound' &&
          line['dst.workload'] === `e${endpoint}` &&
          line['src.workload'] === from,
      ).length,
  }
}

/** What is answered, or the error that the connection ends with. */
async function answerOf(socket: Socket): Promise<string> {
  let answer = ''
  const early: NodeJS.ErrnoException | null = socket.errored
  let failure = early?.code
  socket.on('data', (chunk: Buffer) => {
    answer += chunk.toString()
  })
  socket.on('error', (error: NodeJS.ErrnoException) => {
    failure = error.code
  })
  socket.end('hello')
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve))
  return failure ?? answer
}

const changesOf = (agent: TestAgent): readonly string[] =>
  agent.messages.flatMap((message) => (message.kind === 'ejection' ? [message.change] : []))

/** Tries that an ejection allows within a time: the first, and one each time its doubled term is over. */
const allowedTries = (milliseconds: number): number =>
  1 + Math.ceil(Math.log2(1 + milliseconds / 1_000))

await t.test(
  'an endpoint whose app is down gets no more, and its caller never notices',
  async (t) => {
    const { near, call, triesOf } = await story(t, [undefined, named('e1'), named('e2')])
    const began = performance.now()
    for (let made = 0; made < 60; made += 1) t.match(await call(), /^e[12]$/)
    await until(() => triesOf(0) > 0, 'a try of the one that is down')
    const tries = triesOf(0)
    t.ok(tries <= allowedTries(performance.now() - began), `${tries} of 60 connections tried it`)
    t.strictSame(changesOf(near), ['ejected'], 'told once')
  },
)

await t.test(
  'an endpoint that goes in the middle of the handshake costs its caller nothing',
  async (t) => {
    const { near, call } = await story(t, [named('well')])
    // As of a pod whose namespace goes: the connection is there, and then nobody who shakes hands.
    let begun = 0
    const leaving = createServer((socket) => {
      begun += 1
      socket.on('error', () => undefined)
      socket.once('data', () => socket.resetAndDestroy())
    })
    const address = newAddress()
    leaving.listen(15_008, address)
    await once(leaving, 'listening')
    t.teardown(() => leaving.close())
    const service = testService('catalog', '10.96.0.20' as IpAddress)
    const workload = workloadOf(testPod('leaving', address), inService(service, 8080))
    near.send({ kind: 'mesh', changes: [{ kind: 'workload', workload }] })
    await until(async () => {
      t.equal(await call(), 'well')
      return begun > 0
    }, 'a try of it')
    await until(() => changesOf(near).includes('ejected'), 'it to be left alone')
  },
)

await t.test('when its app comes back, so do its connections', async (t) => {
  const { near, endpoints, ports, call } = await story(t, [undefined, named('e1')])
  await until(async () => {
    await call()
    return changesOf(near).length > 0
  }, 'its ejection')
  const [address] = endpoints[0]?.pod.addresses ?? []
  const server = createServer(named('e0'))
  t.teardown(() => server.close())
  server.listen(ports[0], address)
  await once(server, 'listening')
  await until(async () => (await call()) === 'e0', 'an answer of the one that came back')
  t.strictSame(changesOf(near), ['ejected', 'recovered'])
  const answers = new Set<string>()
  await until(async () => answers.add(await call()).size === 2, 'answers of both')
})

await t.test('one whose app resets what it has accepted is not to blame', async (t) => {
  const reset: App = (socket) => {
    socket.once('data', () => socket.resetAndDestroy())
  }
  const { near, call, triesOf } = await story(t, [reset, reset])
  for (let made = 0; made < 20; made += 1) t.equal(await call(), 'ECONNRESET')
  await until(() => triesOf(0) + triesOf(1) === 20, 'all to be told')
  t.strictSame(changesOf(near), [])
})

await t.test('a policy that refuses the caller says nothing of the endpoint', async (t) => {
  const refusal = { kind: 'refuse', reason: 'policyDenied', message: 'no', by: undefined } as const
  const { near, call } = await story(t, [named('e0'), named('e1')], { judge: () => refusal })
  for (let made = 0; made < 20; made += 1) t.equal(await call(), 'ECONNRESET')
  t.strictSame(changesOf(near), [])
})

await t.test('if all are down all are tried, and each connection fails at once', async (t) => {
  const { call, triesOf } = await story(t, [undefined, undefined, undefined])
  for (let made = 0; made < 10; made += 1) t.equal(await call(), 'ECONNRESET')
  await until(() => triesOf(0) + triesOf(1) + triesOf(2) >= 30, 'all to be told')
  for (const endpoint of [0, 1, 2]) t.equal(triesOf(endpoint), 10, `e${endpoint}`)
})

await t.test('what one pod has met turns no other pod away', async (t) => {
  const { near, call, triesOf } = await story(t, [undefined, named('e1')])
  const cart = await near.servePod(testPod('cart'))
  near.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: workloadOf(cart.pod) }] })
  await until(async () => {
    await call()
    return changesOf(near).length > 0
  }, 'its ejection for frontend')
  await until(async () => {
    t.equal(await call(cart), 'e1')
    return changesOf(near).length > 1
  }, 'its ejection for cart, which has to find out by itself')
  t.ok(triesOf(0) >= 1)
  t.strictSame(changesOf(near), ['ejected', 'ejected'])
})

await t.test('connections that stay open are shared out evenly', async (t) => {
  const open = [0, 0, 0]
  const count =
    (at: number): App =>
    (socket) => {
      open[at] = (open[at] ?? 0) + 1
      socket.resume()
    }
  const { frontend, vip } = await story(t, [count(0), count(1), count(2)])
  for (let made = 0; made < 45; made += 1) {
    await frontend.call(vip)
    await until(() => open.reduce((sum, each) => sum + each, 0) === made + 1, 'its arrival')
  }
  t.ok(Math.max(...open) - Math.min(...open) <= 4, open.join())
})

await t.test(
  'with sessionAffinity a pod stays with one endpoint, and leaves it when it fails',
  async (t) => {
    const sticky = {
      routingPreference: [],
      mode: 'standard',
      healthPolicy: 'onlyHealthy',
      sessionAffinity: 'clientIp',
    } as const
    const apps = [named('e0'), named('e1'), named('e2')]
    const { near, call, endpoints, vip } = await story(t, apps, {
      service: { loadBalancing: sticky },
    })
    const own = await call()
    for (let made = 0; made < 20; made += 1) t.equal(await call(), own)
    const at = Number(own.slice(1))
    const gone = endpoints[at]?.pod
    if (gone === undefined) throw new Error('nobody answered')
    const service = testService('catalog', vip.address, { loadBalancing: sticky })
    const moved = workloadOf(gone, inService(service, await closedPort(newAddress())))
    near.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: moved }] })
    const other = await call()
    t.not(other, own)
    for (let made = 0; made < 5; made += 1) t.equal(await call(), other)
  },
)
