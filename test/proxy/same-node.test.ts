// SPDX-License-Identifier: Apache-2.0
// Calls between pods of one node: no TLS and one relay, and yet limited, counted and told at both ends as if they came by HBONE.

import { once } from 'node:events'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { countTable } from '../../agent/proxy/connection-counts.ts'
import type { Refusal } from '../../agent/proxy/admission.ts'
import type { IpAddress, SocketAddress } from '../../mesh/model/types.ts'
import type { TrafficDelta } from '../../mesh/telemetry/traffic.ts'
import { makeRoot } from '../hbone/certs.ts'
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

interface Node {
  readonly agent: TestAgent
  readonly frontend: ServedPod
  readonly catalog: ServedPod
  /** Where catalog's app serves. */
  readonly app: SocketAddress
}

/** frontend and catalog on one agent, both in the mesh. */
async function oneNode(
  t: Test,
  app: (socket: Socket) => void,
  choices: AgentChoices = {},
): Promise<Node> {
  const agent = await startAgent(t, choices)
  const frontend = await agent.servePod(testPod('frontend'))
  const catalog = await agent.servePod(testPod('catalog'))
  const [address] = catalog.pod.addresses as [IpAddress]
  const port = await startApp(t, address, app)
  for (const { pod } of [frontend, catalog])
    agent.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: workloadOf(pod) }] })
  agent.send({ kind: 'meshSynced' })
  return { agent, frontend, catalog, app: { address, port } }
}

/** An app that keeps its connections and echoes. */
const echo = (socket: Socket): void => {
  socket.pipe(socket)
}

/** A call that stands: the app has answered. */
async function standing(pod: ServedPod, to: SocketAddress): Promise<Socket> {
  const socket = await pod.call(to)
  socket.write('x')
  await once(socket, 'data')
  return socket
}

/** Stops the agent's pods and gives all that the metrics were told. */
async function traffic(agent: TestAgent): Promise<readonly TrafficDelta[]> {
  await agent.ask({ kind: 'drainAll', deadlineMs: 0 })
  return agent.messages.flatMap((message) => (message.kind === 'traffic' ? message.deltas : []))
}

const DENIED: Refusal = {
  kind: 'refuse',
  reason: 'policyDenied',
  message: 'shop/no-frontend says so',
  by: {
    policy: 'shop/no-frontend',
    rule: undefined,
    madeOf: 'AuthorizationPolicy shop/no-frontend',
  },
}

const by = (direction: string) => (line: AccessLine) => line['direction'] === direction

for (const sameNode of ['direct', 'encrypt'] as const)
  await t.test(
    `of four calls to a pod that may have two connections, two come in: ${sameNode}`,
    async (t) => {
      const agent = await startAgent(t, { sameNode, maxConnectionsPerPod: 2 })
      const catalog = await agent.servePod(testPod('catalog'))
      const [address] = catalog.pod.addresses as [IpAddress]
      let arrived = 0
      const app = {
        address,
        port: await startApp(t, address, (socket) => {
          arrived += 1
          echo(socket)
        }),
      }
      const callers: ServedPod[] = []
      for (let index = 0; index < 4; index += 1)
        callers.push(await agent.servePod(testPod(`caller-${index}`)))
      for (const { pod } of [catalog, ...callers])
        agent.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: workloadOf(pod) }] })
      agent.send({ kind: 'meshSynced' })
      const [first, second, third, fourth] = callers as [ServedPod, ServedPod, ServedPod, ServedPod]
      const held = [await standing(first, app), await standing(second, app)]
      for (const caller of [third, fourth])
        t.equal(await resetOf(await caller.call(app)), 'ECONNRESET')
      t.equal(arrived, 2, 'the app saw two')
      const refused = agent.lines.filter(by('inbound'))
      t.match(refused, [
        { level: 'error', 'src.workload': 'caller-2', error: 'too many open connections' },
        { level: 'error', 'src.workload': 'caller-3', error: 'too many open connections' },
      ])
      t.equal(agent.lines.filter(by('outbound')).length, 2, 'and their callers are told')

      for (const socket of held) {
        socket.end()
        socket.resume()
        await once(socket, 'close')
      }
      await agent.line(() => agent.lines.length === 8)
      await standing(third, app)
      t.equal(arrived, 3, 'a place that is free is given again')

      const deltas = await traffic(agent)
      const opened = (reporter: string): number =>
        deltas
          .filter(({ labels }) => labels.reporter === reporter)
          .reduce((sum, delta) => sum + delta.opened, 0)
      t.equal(opened('source'), 3)
      t.equal(opened('destination'), 3)
    },
  )

await t.test('both ends tell a call, with both identities, and claim no TLS', async (t) => {
  const { agent, frontend, catalog, app } = await oneNode(t, tellCaller)
  const [clientIp] = frontend.pod.addresses
  t.equal(await talk(await frontend.call(app), 'hello'), `you are ${clientIp}`)
  const both = {
    level: 'info',
    'src.addr': new RegExp(`^${clientIp}:`),
    'src.workload': 'frontend',
    'src.namespace': 'shop',
    'src.identity': frontend.pod.identity,
    'dst.addr': `${app.address}:${app.port}`,
    'dst.workload': 'catalog',
    'dst.identity': catalog.pod.identity,
  }
  const answered = `you are ${clientIp}`.length
  t.match(await agent.line(by('outbound')), { ...both, bytes_sent: 5, bytes_recv: answered })
  const inbound = await agent.line(by('inbound'))
  t.match(inbound, { ...both, bytes_sent: answered, bytes_recv: 5 })
  t.notOk('dst.hbone_addr' in inbound)
  t.equal(agent.lines.length, 2)

  const closed = (await traffic(agent)).filter((delta) => delta.closed > 0)
  for (const reporter of ['source', 'destination'])
    t.match(
      closed.filter(({ labels }) => labels.reporter === reporter),
      [
        {
          closed: 1,
          receivedBytes: 5,
          sentBytes: answered,
          labels: {
            source_principal: frontend.pod.identity,
            destination_principal: catalog.pod.identity,
            source_workload: 'frontend',
            destination_workload: 'catalog',
            connection_security_policy: 'node_local',
          },
        },
      ],
      reporter,
    )
  t.equal(closed.length, 2)
})

await t.test('whose dashboards need another word for it may choose one', async (t) => {
  const { agent, frontend, app } = await oneNode(t, tellCaller, {
    sameNodeSecurityLabel: 'mutual_tls',
  })
  await talk(await frontend.call(app), 'hello')
  const deltas = await traffic(agent)
  t.same(
    new Set(deltas.map(({ labels }) => labels.connection_security_policy)),
    new Set(['mutual_tls']),
  )
})

await t.test('an app that refuses is told at both ends', async (t) => {
  const { agent, frontend, app } = await oneNode(t, tellCaller)
  t.equal(await resetOf(await frontend.call({ ...app, port: 1 })), 'ECONNRESET')
  for (const direction of ['outbound', 'inbound'])
    t.match(await agent.line(by(direction)), { level: 'error', error: /ECONNREFUSED/ }, direction)
  const failed = (await traffic(agent)).filter((delta) => delta.failed > 0)
  t.same(failed.map(({ labels }) => labels.reporter).sort(), ['destination', 'source'])
})

await t.test('a neighbour that has enough is passed over for another endpoint', async (t) => {
  const agent = await startAgent(t, { maxConnectionsPerPod: 2 })
  const frontend = await agent.servePod(testPod('frontend'))
  const other = await agent.servePod(testPod('other'))
  const full = await agent.servePod(testPod('full'))
  const free = await agent.servePod(testPod('free'))
  const [fullAt] = full.pod.addresses as [IpAddress]
  const [freeAt] = free.pod.addresses as [IpAddress]
  const fullPort = await startApp(t, fullAt, echo)
  const freePort = await startApp(t, freeAt, tellCaller)
  const service = testService('catalog', '10.96.0.20' as IpAddress)
  const workload = [
    workloadOf(frontend.pod),
    workloadOf(other.pod),
    // Many times the capacity: it is chosen first.
    workloadOf(full.pod, { ...inService(service, fullPort), capacity: 1_000_000 }),
    workloadOf(free.pod, inService(service, freePort)),
  ]
  agent.send({ kind: 'mesh', changes: [{ kind: 'service', service }] })
  for (const each of workload)
    agent.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: each }] })
  agent.send({ kind: 'meshSynced' })
  for (let index = 0; index < 2; index += 1)
    await standing(other, { address: fullAt, port: fullPort })
  const vip = { address: '10.96.0.20' as IpAddress, port: 80 }
  t.match(await talk(await frontend.call(vip), 'x'), /^you are/)
  t.match(await agent.line(by('outbound')), { level: 'info', 'dst.workload': 'free' })
  t.match(
    agent.lines.filter(by('inbound')).map((line) => [line['dst.workload'], line['error']]),
    [
      ['full', 'too many open connections'],
      ['free', undefined],
    ],
  )
})

await t.test('a pod that calls itself reaches itself where the node encrypts, too', async (t) => {
  const { agent, catalog, app } = await oneNode(t, tellCaller, { sameNode: 'encrypt' })
  t.equal(await talk(await catalog.call(app), 'x'), `you are ${app.address}`)
  t.match(await agent.line(by('inbound')), {
    'src.identity': catalog.pod.identity,
    'dst.identity': catalog.pod.identity,
  })
})

await t.test('a call is filed under both pods, and ends with the one that is called', async (t) => {
  const { agent, frontend, catalog, app } = await oneNode(t, echo)
  const socket = await standing(frontend, app)
  const dump = (await agent.ask({ kind: 'dump' })) as ReadonlyMap<string, unknown>
  t.match(dump.get(frontend.pod.uid), [{ direction: 'outbound', protocol: 'TCP' }])
  t.match(dump.get(catalog.pod.uid), [{ direction: 'inbound', protocol: 'TCP' }])
  const reset = resetOf(socket)
  t.match(await agent.ask({ kind: 'stopPod', uid: catalog.pod.uid, deadlineMs: 0 }), { cut: 1 })
  t.equal(await reset, 'ECONNRESET')
  for (const direction of ['outbound', 'inbound'])
    t.match(await agent.line(by(direction)), { error: /the pod left the mesh/ })
  t.equal(agent.lines.length, 2)
})

await t.test('the called pod drains: what its neighbours have open may end', async (t) => {
  const { agent, frontend, catalog, app } = await oneNode(t, echo)
  const socket = await standing(frontend, app)
  const { uid } = catalog.pod
  const stopped = agent.ask({ kind: 'stopPod', uid, deadlineMs: 10_000 })
  const forgotten = agent.ask({ kind: 'forgetLocalPod', uid, deadlineMs: 10_000 })
  socket.end('bye')
  await once(socket, 'close')
  t.match(await stopped, { cut: 0 })
  await forgotten
  t.match(agent.lines, [{ level: 'info' }, { level: 'info' }])
})

await t.test('an agent that stops counts a call inside the node once', async (t) => {
  for (const deadlineMs of [0, 1]) {
    const { agent, frontend, app } = await oneNode(t, echo)
    const reset = resetOf(await standing(frontend, app))
    t.match(await agent.ask({ kind: 'drainAll', deadlineMs }), { cut: 1 }, `${deadlineMs} ms`)
    t.equal(await reset, 'ECONNRESET')
  }
})

await t.test("two workers of a node count one pod's connections together", async (t) => {
  const root = await makeRoot()
  const table = countTable(2)
  const choices = { root, countTable: table, maxConnectionsPerPod: 2 }
  const one = await startAgent(t, { ...choices, worker: 0 })
  const two = await startAgent(t, { ...choices, worker: 1 })
  const near = await one.servePod(testPod('near'))
  const far = await two.servePod(testPod('far'))
  const catalog = await two.servePod(testPod('catalog'))
  const [address] = catalog.pod.addresses as [IpAddress]
  const app = { address, port: await startApp(t, address, echo) }
  for (const worker of [one, two]) {
    for (const { pod } of [near, far, catalog]) {
      worker.send({ kind: 'localPod', pod })
      worker.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: workloadOf(pod) }] })
    }
    worker.send({ kind: 'meshSynced' })
  }
  const first = await standing(near, app)
  await standing(far, app)
  t.equal(await resetOf(await near.call(app)), 'ECONNRESET')
  t.match(await one.line(by('inbound')), { error: 'too many open connections' })
  t.equal(await resetOf(await far.call(app)), 'ECONNRESET')
  t.match(await two.line(by('inbound')), { error: 'too many open connections' })

  // The called pod leaves: the worker that does not serve it ends what its own pods have there.
  const reset = resetOf(first)
  await one.ask({ kind: 'forgetLocalPod', uid: catalog.pod.uid, deadlineMs: 0 })
  t.equal(await reset, 'ECONNRESET')
})

await t.test('a rule that changes cuts what it forbids, by whatever way it came', async (t) => {
  const root = await makeRoot()
  const forbidden = new Set<string>()
  const judge = ({ peerIdentity }: { readonly peerIdentity: string | undefined }) =>
    forbidden.has(peerIdentity ?? '') ? DENIED : undefined
  const { agent, frontend, catalog, app } = await oneNode(t, echo, { root, judge })
  const abroad = await startAgent(t, { root })
  const remote = await abroad.servePod(testPod('remote', newAddress()))
  for (const each of [agent, abroad])
    for (const { pod } of [remote, catalog])
      each.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: workloadOf(pod) }] })
  abroad.send({ kind: 'meshSynced' })
  const neighbour = await standing(frontend, app)
  const tunnelled = await standing(remote, app)
  agent.dataPlane.review()

  forbidden.add(frontend.pod.identity)
  const reset = resetOf(neighbour)
  agent.dataPlane.review(catalog.pod.uid)
  t.equal(await reset, 'ECONNRESET')
  t.match(await agent.line(by('inbound')), {
    level: 'error',
    'src.workload': 'frontend',
    error: 'connection closed due to policy change: shop/no-frontend says so',
    policy: 'shop/no-frontend',
    'policy.made_of': 'AuthorizationPolicy shop/no-frontend',
  })
  t.match(await agent.line(by('outbound')), { error: 'connection closed due to policy change' })
  t.equal(await resetOf(await frontend.call(app)), 'ECONNRESET', 'nor is it let in again')
  tunnelled.write('y')
  t.equal(String((await once(tunnelled, 'data'))[0]), 'y', 'others go on')

  forbidden.add(remote.pod.identity)
  const far = resetOf(tunnelled)
  agent.dataPlane.review()
  t.equal(await far, 'ECONNRESET')
  t.match(await agent.line((line) => line['src.workload'] === 'remote'), {
    direction: 'inbound',
    error: /policy change/,
  })
  t.equal(await resetOf(await remote.call(app)), 'ECONNRESET')
  t.match(await abroad.line((line) => /401/.test(String(line['error']))), {
    direction: 'outbound',
    error: /refused the tunnel: http status: 401/,
  })
})
