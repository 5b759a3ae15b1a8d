// SPDX-License-Identifier: Apache-2.0
// Agents on either side of a waypoint, with real sockets, TLS and HTTP/2 between them: what goes by it, whom the destination takes for the
// client, and that nobody else is believed.

import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { formatOriginalClient } from '../../mesh/telemetry/original-client.ts'
import type {
  GatewayAddress,
  IpAddress,
  MeshChange,
  Service,
  ServiceKey,
  SocketAddress,
  SpiffeId,
  Workload,
} from '../../mesh/model/types.ts'
import { makeRoot } from '../hbone/certs.ts'
import { resetOf, talk, tellCaller } from './conversation.ts'
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
import type { Judge } from '../../agent/proxy/admission.ts'
import type { ConnectionDump } from '../../agent/proxy/open-connections.ts'
import { until } from '../support/until.ts'
import { from, gone, policy, rule } from './policies.ts'
import { startWaypoint, type WaypointDouble } from './waypoint-double.ts'

const SOMEBODY = 'spiffe://cluster.local/ns/bank/sa/teller' as SpiffeId

/** As a Service or a workload names it. */
function boundTo({ service }: WaypointDouble): GatewayAddress {
  const { namespace, hostname } = service
  return { destination: { kind: 'hostname', namespace, hostname }, hbonePort: 15008 }
}

interface Story {
  readonly near: TestAgent
  readonly far: TestAgent
  readonly frontend: ServedPod
  readonly catalog: ServedPod
  readonly waypoint: WaypointDouble
  /** Of another namespace, and bound to nothing. */
  readonly stranger: WaypointDouble
  readonly vip: SocketAddress
  readonly app: SocketAddress
  tell(changes: readonly MeshChange[]): void
}

interface Bound {
  readonly service?: boolean
  readonly workload?: boolean
  /** In place of the product's rules. */
  readonly judge?: Judge
}

/** frontend and catalog on two nodes, and a waypoint in whose hands is what `bound` says. */
async function story(t: Test, bound: Bound, changes: readonly MeshChange[] = []): Promise<Story> {
  const root = await makeRoot()
  const [near, far] = await Promise.all([
    startAgent(t, { root }),
    startAgent(t, { root, ...(bound.judge && { judge: bound.judge }) }),
  ])
  const frontend = await near.servePod(testPod('frontend'))
  const catalog = await far.servePod(testPod('catalog'))
  const [address] = catalog.pod.addresses as [IpAddress]
  const app = { address, port: await startApp(t, address, tellCaller) }
  // As the waypoint of the product does: whom it calls for is whom it was called by, or whom the pod's agent leads back to it.
  const waypoint = await startWaypoint(t, root, ({ peer, peerIdentity, headers }) => ({
    to: app,
    expect: catalog.pod.identity,
    headers: {
      originalClient:
        peerIdentity === catalog.pod.identity && headers.originalClient !== undefined
          ? headers.originalClient
          : formatOriginalClient({ identity: peerIdentity, address: peer.address }),
    },
  }))
  const stranger = await startWaypoint(t, root, undefined, { name: 'proxy', namespace: 'evil' })
  const vip = { address: '10.96.0.20' as IpAddress, port: 80 }
  const gateway = { waypoint: boundTo(waypoint) }
  const service = testService('catalog', vip.address, bound.service === true ? gateway : {})
  const ofCatalog: Partial<Workload> = {
    ...inService(service, app.port),
    ...(bound.workload === true ? gateway : {}),
  }
  const tell = (news: readonly MeshChange[]): void => {
    for (const agent of [near, far]) agent.send({ kind: 'mesh', changes: news })
  }
  tell([
    { kind: 'service', service },
    ...[waypoint, stranger].flatMap((each): MeshChange[] => [
      { kind: 'service', service: each.service },
      { kind: 'workload', workload: each.workload },
    ]),
    { kind: 'workload', workload: workloadOf(frontend.pod) },
    { kind: 'workload', workload: workloadOf(catalog.pod, ofCatalog) },
    ...changes,
  ])
  for (const agent of [near, far]) agent.send({ kind: 'meshSynced' })
  return { near, far, frontend, catalog, waypoint, stranger, vip, app, tell }
}

const inboundLine = (agent: TestAgent, more: Record<string, unknown> = {}) =>
  agent.line(
    (line) =>
      line['direction'] === 'inbound' &&
      Object.entries(more).every(([name, value]) => line[name] === value),
  )

async function openInto(agent: TestAgent, { pod }: ServedPod): Promise<number> {
  const dump = (await agent.ask({ kind: 'dump' })) as ReadonlyMap<string, readonly ConnectionDump[]>
  return (dump.get(pod.uid) ?? []).filter(({ direction }) => direction === 'inbound').length
}

await t.test(
  'a bound Service is called by its waypoint, and the app sees its client',
  async (t) => {
    const { near, far, frontend, catalog, waypoint, vip, app } = await story(t, { service: true })
    const [clientIp] = frontend.pod.addresses
    t.equal(await talk(await frontend.call(vip), 'hello'), `you are ${clientIp}`)
    t.match(
      waypoint.tunnels.map(({ authority, peerIdentity }) => ({ authority, peerIdentity })),
      [{ authority: '10.96.0.20:80', peerIdentity: frontend.pod.identity }],
    )
    t.match(await near.line((line) => line['direction'] === 'outbound'), {
      'dst.addr': `${waypoint.address}:15008`,
      'dst.hbone_addr': '10.96.0.20:80',
      'dst.service': 'catalog.shop.svc.cluster.local',
      'dst.workload': 'waypoint',
      'dst.identity': waypoint.identity,
    })
    t.match(await inboundLine(far), {
      'src.addr': `${clientIp}:0`,
      'src.workload': 'frontend',
      'src.identity': frontend.pod.identity,
      'via.waypoint': 'shop/waypoint',
      'via.identity': waypoint.identity,
      'via.addr': new RegExp(`^${waypoint.address}:`),
      'dst.hbone_addr': `${app.address}:${app.port}`,
      'dst.identity': catalog.pod.identity,
    })
    await far.ask({ kind: 'drainAll', deadlineMs: 0 })
    const deltas = far.messages.flatMap((each) => (each.kind === 'traffic' ? each.deltas : []))
    t.match(
      deltas.find(({ closed }) => closed > 0)?.labels,
      { source_principal: frontend.pod.identity, source_workload: 'frontend' },
      'metrics name the client, too',
    )
  },
)

await t.test('policy of the pod is asked about the client, not about the waypoint', async (t) => {
  const { far, frontend, vip, tell } = await story(t, { service: true }, [
    policy('shop/callers', { scope: 'namespace', rules: [rule(from('frontend'))] }),
  ])
  t.match(await talk(await frontend.call(vip), 'hello'), /^you are/)
  tell([policy('shop/callers', { scope: 'namespace', rules: [rule(from('waypoint'))] })])
  t.equal(await resetOf(await frontend.call(vip)), 'ECONNRESET', 'the waypoint is nobody special')
  t.match(await inboundLine(far, { policy: 'shop/callers' }), {
    'src.identity': frontend.pod.identity,
    'via.waypoint': 'shop/waypoint',
    error: /none allowed/,
  })
  await far.ask({ kind: 'drainAll', deadlineMs: 0 })
  t.match(
    far.messages.flatMap((each) => (each.kind === 'audit' ? each.events : [])),
    [{ who: frontend.pod.identity, details: { 'via.waypoint': 'shop/waypoint' } }],
  )
})

await t.test(
  'one endpoint of the waypoint that cannot be reached is made up for by another',
  async (t) => {
    const { frontend, vip, waypoint, tell } = await story(t, { service: true })
    const dead = { ...waypoint.workload, addresses: [newAddress()] }
    tell([
      {
        kind: 'workload',
        workload: { ...dead, uid: `${dead.uid}-dead` as Workload['uid'], name: 'dead' },
      },
    ])
    for (let call = 0; call < 8; call += 1)
      t.match(await talk(await frontend.call(vip), 'hello'), /^you are/)
  },
)

await t.test(
  'without its waypoint a bound Service is not called, and the line says why',
  async (t) => {
    const { near, frontend, vip, waypoint, tell } = await story(t, { service: true })
    tell([{ kind: 'workload', workload: { ...waypoint.workload, services: new Map() } }])
    t.equal(await resetOf(await frontend.call(vip)), 'ECONNRESET')
    t.match(await near.line(() => true), {
      error:
        /service shop\/catalog\S* is bound to waypoint shop\/waypoint, which has no ready endpoint/,
    })
  },
)

await t.test('attack: whoever is not the waypoint of the pod may call for nobody', async (t) => {
  const { far, stranger, waypoint, catalog, app, tell } = await story(t, {})
  const lie = {
    to: app,
    expect: catalog.pod.identity,
    headers: {
      originalClient: formatOriginalClient({ identity: SOMEBODY, address: newAddress() }),
    },
  }
  t.equal(await stranger.call(lie, 'hello'), 'refused 503')
  t.equal(await waypoint.call(lie, 'hello'), 'refused 503', 'it is not bound to it')
  // Anybody may list the pod's address as an endpoint of a Service of his own.
  const trap: Service = testService('trap', newAddress(), {
    key: 'evil/trap.evil.svc.cluster.local' as ServiceKey,
    namespace: 'evil',
    waypoint: boundTo(stranger),
  })
  tell([
    { kind: 'service', service: trap },
    { kind: 'workload', workload: workloadOf(catalog.pod, inService(trap, app.port)) },
  ])
  t.equal(await stranger.call(lie, 'hello'), 'refused 503')
  t.equal(
    await stranger.call({ ...lie, headers: { originalClient: 'x' } }, 'hello'),
    'refused 503',
    'what it says is not even read',
  )
  t.equal(
    await stranger.call({ ...lie, headers: {} }, 'hello'),
    `you are ${stranger.address}`,
    'for itself it may',
  )
  await far.ask({ kind: 'drainAll', deadlineMs: 0 })
  const refused = /names a client that only a waypoint of the pod may call for/
  t.match(
    far.lines.map((line) => [line['src.identity'], line['via.waypoint'], line['error']]),
    [
      [stranger.identity, undefined, refused],
      [waypoint.identity, undefined, refused],
      [stranger.identity, undefined, refused],
      [stranger.identity, undefined, refused],
      [stranger.identity, undefined, undefined],
    ],
  )
  t.match(
    far.messages.flatMap((each) => (each.kind === 'audit' ? each.events : [])),
    [{ kind: 'connection.denied', who: stranger.identity, why: refused }],
  )
})

for (const bound of [{ service: true }, { workload: true }])
  await t.test(
    `the waypoint of a ${bound.workload === true ? 'pod' : 'Service'} is itself while none of its endpoints is ready, and lends its identity to nobody`,
    async (t) => {
      const { far, waypoint, catalog, app, tell } = await story(t, bound, [
        policy('shop/callers', { scope: 'namespace', rules: [rule(from('waypoint', 'frontend'))] }),
      ])
      const callFor = (serviceAccount: string): Promise<string> => {
        const identity = `spiffe://cluster.local/ns/shop/sa/${serviceAccount}` as SpiffeId
        const originalClient = formatOriginalClient({ identity, address: CLIENT })
        return waypoint.call(
          { to: app, expect: catalog.pod.identity, headers: { originalClient } },
          'hello',
        )
      }
      const CLIENT = newAddress()
      tell([{ kind: 'workload', workload: { ...waypoint.workload, services: new Map() } }])
      t.equal(await callFor('frontend'), `you are ${CLIENT}`, 'its last requests are served')
      t.equal(await callFor('thief'), 'refused 401', 'policy is asked about the client')
      t.match(await inboundLine(far, { policy: 'shop/callers' }), {
        'src.identity': 'spiffe://cluster.local/ns/shop/sa/thief',
        'via.waypoint': 'shop/waypoint',
      })
      const another = {
        ...waypoint.workload,
        uid: `${waypoint.workload.uid}-2` as Workload['uid'],
        serviceAccount: 'waypoint-2',
        addresses: [newAddress()],
      }
      tell([{ kind: 'workload', workload: another }])
      t.equal(await callFor('frontend'), 'refused 503', 'until others are the waypoint')
      tell([
        { kind: 'workloadRemoved', uid: another.uid },
        { kind: 'workload', workload: waypoint.workload },
      ])
      t.equal(await callFor('frontend'), `you are ${CLIENT}`, 'and when it is ready again')
      tell([
        { kind: 'serviceRemoved', key: waypoint.service.key },
        { kind: 'workloadRemoved', uid: waypoint.workload.uid },
        { kind: 'service', service: waypoint.service },
      ])
      t.equal(await callFor('frontend'), 'refused 503', 'a Service made anew is another one')
    },
  )

await t.test('what the waypoint itself says is read strictly', async (t) => {
  const { far, waypoint, catalog, app } = await story(t, { service: true })
  const say = (headers: { readonly originalClient?: string }): Promise<string> =>
    waypoint.call({ to: app, expect: catalog.pod.identity, headers }, 'hello')
  for (const originalClient of [
    `${SOMEBODY}`,
    `${SOMEBODY};nowhere`,
    `${SOMEBODY};224.0.0.1`,
    `${SOMEBODY};169.254.1.1`,
    `spiffe://x;127.0.0.1`,
  ])
    t.equal(await say({ originalClient }), 'refused 400', originalClient)
  t.equal(await say({}), `you are ${waypoint.address}`, 'as Istio’s waypoint, it calls for itself')
  const client = { identity: undefined, address: newAddress() }
  t.equal(await say({ originalClient: formatOriginalClient(client) }), `you are ${client.address}`)
  t.match(await inboundLine(far, { 'src.addr': `${client.address}:0` }), {
    'via.waypoint': 'shop/waypoint',
  })
  t.equal(
    await say({
      originalClient: formatOriginalClient({ identity: SOMEBODY, address: 'fd00::1' as IpAddress }),
    }),
    `you are ${waypoint.address}`,
    'of a client of the other family the app sees the waypoint',
  )
})

await t.test('what has come past the waypoint of a pod is led back to it', async (t) => {
  const { far, stranger, waypoint, catalog, app, tell } = await story(t, { workload: true })
  const direct = { to: app, expect: catalog.pod.identity, headers: {} }
  t.equal(await stranger.call(direct, 'hello'), `you are ${stranger.address}`)
  t.match(
    waypoint.tunnels.map(({ authority, peerIdentity, headers }) => [
      authority,
      peerIdentity,
      headers.originalClient,
    ]),
    [
      [
        `${app.address}:${app.port}`,
        catalog.pod.identity,
        `${stranger.identity};${stranger.address}`,
      ],
    ],
  )
  t.match(await inboundLine(far, { 'via.waypoint': 'shop/waypoint' }), {
    'src.identity': stranger.identity,
    'dst.workload': 'catalog',
  })
  t.match(await inboundLine(far, { 'dst.workload': 'waypoint' }), {
    'src.identity': stranger.identity,
    'dst.addr': `${waypoint.address}:15008`,
    'dst.hbone_addr': `${app.address}:${app.port}`,
  })
  tell([policy('shop/callers', { scope: 'namespace', rules: [rule(from('frontend'))] })])
  t.equal(await stranger.call(direct, 'hello'), 'refused 401', 'policy of the pod is asked before')
  tell([
    gone('shop/callers'),
    { kind: 'workload', workload: { ...waypoint.workload, services: new Map() } },
  ])
  t.equal(await stranger.call(direct, 'hello'), 'refused 503')
  t.match(
    await inboundLine(far, { level: 'error', 'dst.workload': 'catalog', policy: undefined }),
    {
      error: /workload \S+catalog is bound to waypoint shop\/waypoint, which has no ready endpoint/,
    },
  )
})

await t.test(
  'a pod that comes to be bound closes what has come past its waypoint, and nothing else',
  async (t) => {
    const { far, frontend, catalog, vip, app, waypoint } = await story(t, { service: true })
    const [clientIp] = frontend.pod.addresses
    const [past, byWaypoint, itself] = [
      await frontend.call(app),
      await frontend.call(vip),
      await catalog.call(app),
    ]
    const isOpen = async (howMany: number): Promise<void> =>
      until(async () => (await openInto(far, catalog)) === howMany, `${howMany} are open`)
    await isOpen(3)
    const gateway = { waypoint: boundTo(waypoint) }
    const service = testService('catalog', vip.address, gateway)
    const workload = workloadOf(catalog.pod, { ...inService(service, app.port), ...gateway })
    // The caller's agent hears of it later.
    const bind = (): void => far.send({ kind: 'mesh', changes: [{ kind: 'workload', workload }] })
    bind()
    t.equal(await resetOf(past), 'ECONNRESET')
    t.match(await inboundLine(far, { level: 'error' }), {
      'src.identity': frontend.pod.identity,
      error: /policy change: workload \S+catalog is bound to a waypoint now, and .* not passed it/,
    })
    const ledBack = await frontend.call(app)
    await isOpen(4)
    bind()
    t.equal(await talk(byWaypoint, 'hello'), `you are ${clientIp}`)
    t.match(await talk(itself, 'hello'), /^you are/, 'its calls to itself pass no waypoint')
    t.equal(await talk(ledBack, 'hello'), `you are ${clientIp}`)
    await far.ask({ kind: 'drainAll', deadlineMs: 0 })
    t.equal(far.lines.filter((line) => line['level'] === 'error').length, 1)
  },
)

await t.test('plaintext is led back as well, and nobody has proven who it is of', async (t) => {
  // Without sk_lookup what comes in plaintext asks for 15006, which the rules refuse.
  const judge: Judge = () => undefined
  const { far, waypoint, catalog } = await story(t, { workload: true, judge })
  const [address] = catalog.pod.addresses as [IpAddress]
  const outside = newAddress()
  const socket = connect({ host: address, port: 15006, localAddress: outside })
  t.teardown(() => socket.destroy())
  t.equal(await talk(socket, 'hello'), `you are ${outside}`)
  t.match(waypoint.tunnels, [
    { authority: `${address}:15006`, headers: { originalClient: `;${outside}` } },
  ])
  const line = await inboundLine(far, { 'via.waypoint': 'shop/waypoint' })
  t.match(line['src.addr'], outside)
  t.notOk('src.identity' in line)
})

await t.test('a pod is bound as it was, as long as it runs', async (t) => {
  const judge: Judge = () => undefined
  const { far, frontend, waypoint, catalog, app } = await story(t, { workload: true, judge })
  const [address] = catalog.pod.addresses as [IpAddress]
  const outside = newAddress()
  const plaintext = (): Socket => {
    const socket = connect({ host: address, port: 15006, localAddress: outside })
    t.teardown(() => socket.destroy())
    return socket
  }
  // It was deleted by force, and a successor of its name is elsewhere.
  for (const change of [
    { kind: 'workloadRemoved', uid: catalog.pod.workloadUid },
    {
      kind: 'workload',
      workload: { ...workloadOf(catalog.pod), addresses: [newAddress()], waypoint: undefined },
    },
  ] as const) {
    const before = waypoint.tunnels.length
    far.send({ kind: 'mesh', changes: [change] })
    t.equal(await talk(plaintext(), 'hello'), `you are ${outside}`)
    t.equal(waypoint.tunnels.length, before + 1, 'it is led back')
    const [clientIp] = frontend.pod.addresses
    t.equal(await talk(await frontend.call(app), 'hello'), `you are ${clientIp}`)
    t.equal(waypoint.tunnels.length, before + 2, change.kind)
  }
})

await t.test(
  'who waits on the same node while the pod comes to be bound is not let in',
  async (t) => {
    const { far, waypoint, catalog, app } = await story(t, {})
    const neighbour = await far.servePod(testPod('neighbour'))
    const named = { authorizationPolicies: ['shop/late'] }
    const tell = (...changes: readonly MeshChange[]): void => far.send({ kind: 'mesh', changes })
    tell(
      { kind: 'workload', workload: workloadOf(neighbour.pod) },
      { kind: 'workload', workload: workloadOf(catalog.pod, named) },
    )
    const waiting = resetOf(await neighbour.call(app))
    await until(async () => (await openInto(far, catalog)) === 1, 'the call')
    const workload = workloadOf(catalog.pod, { ...named, waypoint: boundTo(waypoint) })
    tell({ kind: 'workload', workload })
    tell(policy('shop/late', { action: 'deny', rules: [] }))
    t.equal(await waiting, 'ECONNRESET')
    t.match(await inboundLine(far, { level: 'error' }), { error: /policy change/ })
    const [address] = neighbour.pod.addresses
    t.equal(await talk(await neighbour.call(app), 'hello'), `you are ${address}`, 'the next one')
    t.match(waypoint.tunnels, [{ peerIdentity: neighbour.pod.identity }])
  },
)

await t.test('a bound pod is called by its waypoint from its own node, too', async (t) => {
  const { far, waypoint, catalog, app } = await story(t, { workload: true })
  const neighbour = await far.servePod(testPod('neighbour'))
  far.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: workloadOf(neighbour.pod) }] })
  const [address] = neighbour.pod.addresses
  t.equal(await talk(await neighbour.call(app), 'hello'), `you are ${address}`)
  t.match(waypoint.tunnels, [{ peerIdentity: neighbour.pod.identity }])
  t.match(await inboundLine(far), {
    'src.identity': neighbour.pod.identity,
    'dst.identity': catalog.pod.identity,
    'via.waypoint': 'shop/waypoint',
  })
})
