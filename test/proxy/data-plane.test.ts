// SPDX-License-Identifier: Apache-2.0
// Two agents' data planes with real sockets, TLS and HTTP/2 between them: who is told what, and that every
// connection leaves exactly one access line, however it ends.

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { IpAddress, MeshChange, SocketAddress } from '../../mesh/model/types.ts'
import { makeRoot } from '../hbone/certs.ts'
import { until } from '../support/until.ts'
import { resetOf, talk, tellCaller } from './conversation.ts'
import {
  type AccessLine,
  type AgentChoices,
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

interface Story {
  readonly near: TestAgent
  readonly far: TestAgent
  readonly frontend: ServedPod
  readonly catalog: ServedPod
  readonly vip: SocketAddress
  readonly appPort: number
}

/** frontend on one agent, catalog with an app on another, both in the mesh, catalog behind a service. */
async function twoNodes(
  t: Test,
  app: (socket: Socket) => void,
  choices: AgentChoices = {},
): Promise<Story> {
  const root = await makeRoot()
  const [near, far] = await Promise.all([
    startAgent(t, { ...choices, root }),
    startAgent(t, { root }),
  ])
  const frontend = await near.servePod(testPod('frontend'))
  const catalog = await far.servePod(testPod('catalog'))
  const [serverAddress] = catalog.pod.addresses as [IpAddress]
  const appPort = await startApp(t, serverAddress, app)
  const vip = { address: '10.96.0.20' as IpAddress, port: 80 }
  const service = testService('catalog', vip.address)
  const changes: MeshChange[] = [
    { kind: 'service', service },
    { kind: 'workload', workload: workloadOf(frontend.pod) },
    { kind: 'workload', workload: workloadOf(catalog.pod, inService(service, appPort)) },
  ]
  for (const agent of [near, far]) {
    agent.send({ kind: 'mesh', changes })
    agent.send({ kind: 'meshSynced' })
  }
  return { near, far, frontend, catalog, vip, appPort }
}

const linesOf = (agent: TestAgent, direction: string): AccessLine[] =>
  agent.lines.filter((line) => line['direction'] === direction)

await t.test(
  'a call to a service of another node travels by HBONE and both sides tell it',
  async (t) => {
    const { near, far, frontend, catalog, vip, appPort } = await twoNodes(t, tellCaller)
    const clientIp = frontend.pod.addresses[0]
    const serverIp = catalog.pod.addresses[0]
    const socket = await frontend.call(vip)
    t.equal(await talk(socket, 'hello'), `you are ${clientIp}`, 'the app saw the client itself')
    const out = await near.line((line) => line['direction'] === 'outbound')
    t.match(out, {
      level: 'info',
      msg: 'connection complete',
      'src.workload': 'frontend',
      'src.namespace': 'shop',
      'src.identity': frontend.pod.identity,
      'dst.addr': `${serverIp}:15008`,
      'dst.hbone_addr': `${serverIp}:${appPort}`,
      'dst.service': 'catalog.shop.svc.cluster.local',
      'dst.workload': 'catalog',
      'dst.namespace': 'shop',
      'dst.identity': catalog.pod.identity,
      bytes_sent: 5,
      bytes_recv: `you are ${clientIp}`.length,
      duration: /^\d+ms$/,
    })
    t.notOk('error' in out)
    const inbound = await far.line((line) => line['direction'] === 'inbound')
    t.match(inbound, {
      level: 'info',
      'src.addr': new RegExp(`^${clientIp}:`),
      'src.workload': 'frontend',
      'src.identity': frontend.pod.identity,
      'dst.addr': `${serverIp}:15008`,
      'dst.hbone_addr': `${serverIp}:${appPort}`,
      'dst.service': 'catalog.shop.svc.cluster.local',
      'dst.identity': catalog.pod.identity,
      bytes_sent: `you are ${clientIp}`.length,
      bytes_recv: 5,
    })
    t.equal(near.lines.length, 1)
    t.equal(far.lines.length, 1)
  },
)

await t.test('the metrics of a call carry both identities and its bytes', async (t) => {
  const { near, far, frontend, vip } = await twoNodes(t, tellCaller)
  await talk(await frontend.call(vip), 'hello')
  await near.line((line) => line['direction'] === 'outbound')
  await far.line((line) => line['direction'] === 'inbound')
  for (const [agent, reporter] of [
    [near, 'source'],
    [far, 'destination'],
  ] as const) {
    await agent.ask({ kind: 'drainAll', deadlineMs: 0 })
    const deltas = agent.messages.flatMap((message) =>
      message.kind === 'traffic' ? message.deltas : [],
    )
    t.match(
      deltas.filter(({ closed }) => closed > 0),
      [
        {
          closed: 1,
          receivedBytes: 5,
          labels: {
            reporter,
            source_principal: 'spiffe://cluster.local/ns/shop/sa/frontend',
            destination_principal: 'spiffe://cluster.local/ns/shop/sa/catalog',
            destination_service: 'catalog.shop.svc.cluster.local',
            connection_security_policy: 'mutual_tls',
            response_flags: '-',
          },
        },
      ],
      reporter,
    )
    t.equal(
      deltas.reduce((sum, { opened }) => sum + opened, 0),
      1,
    )
  }
})

await t.test('a long connection is counted while it lasts, and each byte once', async (t) => {
  const agent = await startAgent(t, { reportTrafficMs: 20 })
  const pod = await agent.servePod(testPod('downloader'))
  agent.send({ kind: 'meshSynced' })
  const outside = newAddress()
  const port = await startApp(t, outside, (socket) => socket.pipe(socket))
  const bytes = (): readonly number[] => {
    const deltas = agent.messages.flatMap((message) =>
      message.kind === 'traffic' ? message.deltas : [],
    )
    const sum = (pick: (delta: (typeof deltas)[number]) => number): number =>
      deltas.reduce((total, delta) => total + pick(delta), 0)
    return [
      sum(({ receivedBytes }) => receivedBytes),
      sum(({ sentBytes }) => sentBytes),
      sum(({ closed }) => closed),
    ]
  }
  const socket = await pod.call({ address: outside, port })
  socket.write('hello')
  await once(socket, 'data')
  await until(() => bytes()[0] === 5, 'the bytes of an open connection')
  t.same(bytes(), [5, 5, 0], 'told before it ended')
  t.equal(await talk(socket, 'bye'), 'bye')
  await agent.line(() => true)
  await agent.ask({ kind: 'drainAll', deadlineMs: 0 })
  t.same(bytes(), [8, 8, 1])
})

await t.test('an app that refuses is a reset for the caller, never a clean end', async (t) => {
  const { near, far, frontend, catalog } = await twoNodes(t, tellCaller)
  const [address] = catalog.pod.addresses as [IpAddress]
  // No app listens here.
  const socket = await frontend.call({ address, port: 1 })
  t.equal(await resetOf(socket), 'ECONNRESET')
  t.match(await near.line((line) => line['direction'] === 'outbound'), {
    level: 'error',
    error: /refused the tunnel: http status: 503/,
    bytes_sent: 0,
  })
  t.match(await far.line((line) => line['direction'] === 'inbound'), {
    level: 'error',
    error: /ECONNREFUSED/,
  })
  t.equal(near.lines.length + far.lines.length, 2)
})

await t.test('a service without endpoints is a reset and one line', async (t) => {
  const { near, frontend, vip } = await twoNodes(t, tellCaller)
  const socket = await frontend.call({ ...vip, port: 81 })
  t.equal(await resetOf(socket), 'ECONNRESET')
  t.match(await near.line(() => true), { level: 'error', error: /no healthy upstream/ })
  t.equal(near.lines.length, 1)
})

await t.test('a direct call to the outbound port is refused', async (t) => {
  const { near, frontend } = await twoNodes(t, tellCaller)
  const [address] = frontend.pod.addresses as [IpAddress]
  const socket = connect(15001, address)
  t.teardown(() => socket.destroy())
  t.equal(await resetOf(socket), 'ECONNRESET')
  t.match(await near.line(() => true), { error: /no original destination was recorded/ })
})

await t.test('a peer with another identity than expected is not talked to', async (t) => {
  const { near, frontend, catalog, vip } = await twoNodes(t, tellCaller)
  const service = testService('catalog', vip.address)
  const impostor = workloadOf(catalog.pod, { ...inService(service, 80), serviceAccount: 'other' })
  near.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: impostor }] })
  const socket = await frontend.call(vip)
  t.equal(await resetOf(socket), 'ECONNRESET')
  t.match(await near.line(() => true), { level: 'error', error: /peer identity is not/ })
})

await t.test('an endpoint that is gone is replaced by one that answers', async (t) => {
  const { near, far, frontend, vip, appPort } = await twoNodes(t, tellCaller)
  const service = testService('catalog', vip.address)
  // Many times the capacity: it is chosen first, and nothing listens there.
  const gone = testPod('catalog-gone', newAddress())
  const changes: MeshChange[] = [
    {
      kind: 'workload',
      workload: workloadOf(gone, { ...inService(service, appPort), capacity: 1_000_000 }),
    },
  ]
  near.send({ kind: 'mesh', changes })
  t.match(await talk(await frontend.call(vip), 'x'), /you are/)
  t.match(await near.line(() => true), { level: 'info', 'dst.workload': 'catalog' })
  t.equal((await far.line(() => true))['direction'], 'inbound')
  t.equal(near.lines.length, 1)
})

await t.test('an unknown address is passed through unchanged', async (t) => {
  const { near, frontend } = await twoNodes(t, tellCaller)
  const outside = newAddress()
  const port = await startApp(t, outside, tellCaller)
  const socket = await frontend.call({ address: outside, port })
  t.equal(await talk(socket, 'x'), `you are ${frontend.pod.addresses[0]}`)
  const line = await near.line(() => true)
  t.match(line, { 'dst.addr': `${outside}:${port}`, level: 'info' })
  t.notOk('src.identity' in line, 'nothing was proven to anybody')
})

await t.test('two pods of one agent are joined directly, with both identities told', async (t) => {
  const agent = await startAgent(t)
  const one = await agent.servePod(testPod('one'))
  const two = await agent.servePod(testPod('two'))
  const [address] = two.pod.addresses as [IpAddress]
  const port = await startApp(t, address, tellCaller)
  agent.send({
    kind: 'mesh',
    changes: [one, two].map(({ pod }) => ({ kind: 'workload', workload: workloadOf(pod) })),
  })
  agent.send({ kind: 'meshSynced' })
  const socket = await one.call({ address, port })
  t.equal(await talk(socket, 'x'), `you are ${one.pod.addresses[0]}`)
  const line = await agent.line(() => true)
  t.match(line, {
    'dst.addr': `${address}:${port}`,
    'src.identity': one.pod.identity,
    'dst.identity': two.pod.identity,
  })
  t.notOk('dst.hbone_addr' in line)
})

await t.test('plaintext from outside reaches the app with its own address', async (t) => {
  const { far, catalog } = await twoNodes(t, tellCaller)
  const [address] = catalog.pod.addresses as [IpAddress]
  // Without sk_lookup the local port is 15006 itself, which is one of the mesh's own.
  const socket = connect({ host: address, port: 15006, localAddress: newAddress() })
  t.teardown(() => socket.destroy())
  t.equal(await resetOf(socket), 'ECONNRESET')
  t.match(await far.line(() => true), { direction: 'inbound', error: /recursive call/ })
})

await t.test('before the first sync a call waits, and then goes through', async (t) => {
  const agent = await startAgent(t)
  const pod = await agent.servePod(testPod('early'))
  const outside = newAddress()
  const port = await startApp(t, outside, tellCaller)
  const socket = await pod.call({ address: outside, port })
  t.equal(agent.lines.length, 0)
  agent.send({ kind: 'meshSynced' })
  t.match(await talk(socket, 'x'), /you are/)
})

await t.test('without any sync a call fails closed after five seconds', async (t) => {
  const agent = await startAgent(t)
  const pod = await agent.servePod(testPod('early'))
  const outside = newAddress()
  const port = await startApp(t, outside, tellCaller)
  const socket = await pod.call({ address: outside, port })
  t.equal(await resetOf(socket), 'ECONNRESET')
  t.match(await agent.line(() => true), {
    level: 'error',
    error: /failed to fetch information about local workload/,
  })
})

await t.test('a removed pod leaves no open connection and one line for each', async (t) => {
  let arrived = 0
  const { promise: greeted, resolve } = Promise.withResolvers<undefined>()
  const { near, far, frontend, vip } = await twoNodes(t, (socket) => {
    socket.once('data', () => {
      arrived += 1
      if (arrived === 2) resolve(undefined)
    })
  })
  const sockets = [await frontend.call(vip), await frontend.call(vip)]
  for (const socket of sockets) socket.write('x')
  await greeted
  const resets = Promise.all(sockets.map(resetOf))
  t.match(await near.ask({ kind: 'stopPod', uid: frontend.pod.uid, deadlineMs: 0 }), { cut: 2 })
  t.same(await resets, ['ECONNRESET', 'ECONNRESET'])
  await near.line(() => linesOf(near, 'outbound').length === 2)
  t.match(near.lines[0], { level: 'info', error: /the pod left the mesh/ })
  await far.line(() => linesOf(far, 'inbound').length === 2)
  t.match(far.lines, [{ error: /reset by the client/ }, { error: /reset by the client/ }])
})

await t.test('a drained pod lets its connections end', async (t) => {
  const { near, frontend, vip } = await twoNodes(t, tellCaller)
  const socket = await frontend.call(vip)
  socket.write('x')
  await once(socket, 'data')
  const stopped = near.ask({ kind: 'stopPod', uid: frontend.pod.uid, deadlineMs: 10_000 })
  socket.end()
  socket.resume()
  await once(socket, 'close')
  t.match(await stopped, { cut: 0 })
  t.match(near.lines, [{ level: 'info' }])
})

await t.test('an agent that stops counts each connection that it cuts once', async (t) => {
  const { near, frontend, vip } = await twoNodes(t, (server) => server.pipe(server))
  const socket = await frontend.call(vip)
  socket.write('x')
  await once(socket, 'data')
  const reset = resetOf(socket)
  t.match(await near.ask({ kind: 'drainAll', deadlineMs: 1 }), { cut: 1 })
  t.equal(await reset, 'ECONNRESET')
})

await t.test('a pod has so many connections and no more, until it ends one', async (t) => {
  const { near, frontend, vip } = await twoNodes(t, tellCaller, { maxConnectionsPerPod: 2 })
  const held = [await frontend.call(vip), await frontend.call(vip)]
  for (const socket of held) socket.write('x')
  for (const socket of held) await once(socket, 'data')
  t.equal(await resetOf(await frontend.call(vip)), 'ECONNRESET')
  t.match(await near.line(() => true), { level: 'error', error: /too many open connections/ })
  for (const socket of held) {
    socket.end()
    socket.resume()
    await once(socket, 'close')
  }
  await near.line(() => linesOf(near, 'outbound').length === 3)
  t.match(await talk(await frontend.call(vip), 'hello'), /^you are/)
})

await t.test('a peer is not named after whoever else has its address', async (t) => {
  const { far, frontend, vip } = await twoNodes(t, tellCaller)
  const stranger = testPod('stranger', frontend.pod.addresses[0])
  // The far agent believes that the address has passed on already.
  far.send({
    kind: 'mesh',
    changes: [
      { kind: 'workloadRemoved', uid: frontend.pod.workloadUid },
      { kind: 'workload', workload: workloadOf(stranger) },
    ],
  })
  await talk(await frontend.call(vip), 'hello')
  const line = await far.line((each) => each['direction'] === 'inbound')
  t.equal(line['src.identity'], frontend.pod.identity)
  t.notOk('src.workload' in line)
})

await t.test('pods of one node meet by HBONE where the node is told to encrypt', async (t) => {
  const agent = await startAgent(t, { sameNode: 'encrypt' })
  const frontend = await agent.servePod(testPod('frontend'))
  const catalog = await agent.servePod(testPod('catalog'))
  const [serverAddress] = catalog.pod.addresses as [IpAddress]
  const port = await startApp(t, serverAddress, tellCaller)
  agent.send({
    kind: 'mesh',
    changes: [frontend, catalog].map(({ pod }) => ({
      kind: 'workload',
      workload: workloadOf(pod),
    })),
  })
  agent.send({ kind: 'meshSynced' })
  const socket = await frontend.call({ address: serverAddress, port })
  t.equal(await talk(socket, 'hello'), `you are ${frontend.pod.addresses[0]}`)
  const inbound = await agent.line((line) => line['direction'] === 'inbound')
  t.match(inbound, {
    'src.identity': frontend.pod.identity,
    'dst.addr': `${serverAddress}:15008`,
    'dst.hbone_addr': `${serverAddress}:${port}`,
  })
})
