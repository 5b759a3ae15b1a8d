// SPDX-License-Identifier: Apache-2.0
// Given policies, then only whom they allow enters a pod, by whatever way, the refusal says which policy and rule it was, and what is open
// does not outlive a policy that forbids it.

import { once } from 'node:events'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { IpAddress, MeshChange, SocketAddress } from '../../mesh/model/types.ts'
import type { ConnectionDump } from '../../agent/proxy/open-connections.ts'
import { makeRoot } from '../hbone/certs.ts'
import { until } from '../support/until.ts'
import { resetOf, talk } from './conversation.ts'
import {
  type AccessLine,
  type AgentChoices,
  type ServedPod,
  startAgent,
  startApp,
  type TestAgent,
  testPod,
  workloadOf,
} from './loopback-world.ts'
import {
  EVERYBODY,
  from,
  garbled,
  gone,
  KNOWN,
  naming,
  policy,
  rule,
  STRICT,
  strict,
  unreadable,
} from './policies.ts'

const echo = (socket: Socket): void => {
  socket.pipe(socket)
}

interface World {
  /** Serves catalog and its neighbours. */
  readonly agent: TestAgent
  /** Another node. */
  readonly abroad: TestAgent
  readonly catalog: ServedPod
  /** On catalog's node. */
  readonly frontend: ServedPod
  readonly neighbour: ServedPod
  /** On the other node. */
  readonly remote: ServedPod
  readonly app: SocketAddress
  /** Tells catalog's agent. */
  tell(...changes: readonly MeshChange[]): void
}

async function world(t: Test, choices: AgentChoices = {}): Promise<World> {
  const root = await makeRoot()
  const agent = await startAgent(t, { root, ...choices })
  const abroad = await startAgent(t, { root })
  const frontend = await agent.servePod(testPod('frontend'))
  const neighbour = await agent.servePod(testPod('neighbour'))
  const catalog = await agent.servePod(testPod('catalog'))
  const remote = await abroad.servePod(testPod('remote'))
  const [address] = catalog.pod.addresses as [IpAddress]
  const app = { address, port: await startApp(t, address, echo) }
  for (const each of [agent, abroad]) {
    for (const { pod } of [frontend, neighbour, catalog, remote])
      each.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: workloadOf(pod) }] })
    each.send({ kind: 'meshSynced' })
  }
  const tell = (...changes: readonly MeshChange[]): void => agent.send({ kind: 'mesh', changes })
  return { agent, abroad, catalog, frontend, neighbour, remote, app, tell }
}

/** A call that stands: the app has answered. */
async function standing(pod: ServedPod, to: SocketAddress): Promise<Socket> {
  const socket = await pod.call(to)
  await answers(socket)
  return socket
}

async function answers(socket: Socket): Promise<void> {
  socket.write('x')
  await once(socket, 'data')
}

const inboundFrom = (name: string) => (line: AccessLine) =>
  line['direction'] === 'inbound' && line['src.workload'] === name

await t.test('only the frontend gets in, by whatever way', async (t) => {
  const { agent, abroad, catalog, frontend, neighbour, remote, app, tell } = await world(t)
  tell(
    policy('shop/only-frontend', { rules: [rule(from('frontend'))] }),
    naming(catalog.pod, ['shop/only-frontend']),
  )
  t.equal(await talk(await frontend.call(app), 'hello'), 'hello')
  for (const [caller, name] of [
    [neighbour, 'neighbour'],
    [remote, 'remote'],
  ] as const) {
    t.equal(await resetOf(await caller.call(app)), 'ECONNRESET')
    t.match(await agent.line(inboundFrom(name)), {
      level: 'error',
      'src.identity': caller.pod.identity,
      error:
        'connection closed due to policy rejection: allow policies exist, but none allowed: shop/only-frontend',
      policy: 'shop/only-frontend',
      'policy.made_of': 'AuthorizationPolicy shop/only-frontend',
    })
  }
  t.match(await abroad.line(() => true), { error: /http status: 401/ })
  tell(policy('shop/only-frontend', { rules: [rule(from('frontend')), rule(from('remote'), 1)] }))
  t.equal(await talk(await remote.call(app), 'me too'), 'me too')
})

await t.test('a pod that calls itself is judged as any other', async (t) => {
  const { catalog, app, tell } = await world(t)
  tell(policy('shop/only-frontend', { rules: [rule(from('frontend'))] }))
  tell(naming(catalog.pod, ['shop/only-frontend']))
  t.equal(await resetOf(await catalog.call(app)), 'ECONNRESET')
})

await t.test('a policy goes by the identity that the access line shows', async (t) => {
  const { agent, catalog, remote, app, tell } = await world(t)
  const shown: string[] = []
  tell(naming(catalog.pod, ['shop/by-principal']))
  for (const text of ['cluster.local/ns/shop/sa/remote', 'cluster.local/ns/shop/sa/other']) {
    tell(
      policy('shop/by-principal', {
        rules: [rule({ principals: [{ kind: 'exact', text }] })],
      }),
    )
    const socket = await remote.call(app)
    shown.push(text.endsWith('remote') ? await talk(socket, 'in') : String(await resetOf(socket)))
  }
  t.same(shown, ['in', 'ECONNRESET'])
  const lines = agent.lines.filter(inboundFrom('remote'))
  t.same(
    new Set(lines.map((line) => line['src.identity'])),
    new Set(['spiffe://cluster.local/ns/shop/sa/remote']),
  )
})

await t.test('a change closes what it forbids and nothing else', async (t) => {
  const { agent, catalog, frontend, neighbour, remote, app, tell } = await world(t)
  const other = await agent.servePod(testPod('other'))
  tell(naming(other.pod, []))
  const [otherAddress] = other.pod.addresses as [IpAddress]
  const otherApp = { address: otherAddress, port: await startApp(t, otherAddress, echo) }
  for (const [change, undo, by] of [
    [
      [policy('shop/x', { action: 'deny', rules: [rule(from('neighbour', 'remote'), 4)] })],
      [policy('shop/x', { action: 'deny' })],
      { policy: 'shop/x', 'policy.rule': 4 },
    ],
    [
      [
        policy('shop/wide', {
          scope: 'namespace',
          action: 'deny',
          rules: [rule(from('neighbour', 'remote'))],
        }),
      ],
      [gone('shop/wide')],
      { policy: 'shop/wide', 'policy.rule': 0 },
    ],
    [
      [naming(catalog.pod, ['shop/x', 'shop/y'])],
      [naming(catalog.pod, ['shop/x'])],
      { policy: 'shop/y' },
    ],
  ] as const) {
    tell(policy('shop/y', { rules: [rule(from('frontend'))] }))
    tell(...undo, naming(catalog.pod, ['shop/x']))
    const kept = [await standing(frontend, app)]
    // Where the wide one concerns both pods, this one is not called by whom it forbids.
    kept.push(await standing(frontend, otherApp))
    const resets = [await standing(neighbour, app), await standing(remote, app)].map(resetOf)
    const before = agent.lines.length
    tell(...change)
    t.same(await Promise.all(resets), ['ECONNRESET', 'ECONNRESET'])
    for (const name of ['neighbour', 'remote'])
      t.match(
        agent.lines.slice(before).find(inboundFrom(name)),
        { level: 'error', error: /^connection closed due to policy change: /, ...by },
        name,
      )
    t.match(
      agent.lines.slice(before).find((line) => line['direction'] === 'outbound'),
      { 'src.workload': 'neighbour', error: 'connection closed due to policy change' },
      "the caller's end is told, too",
    )
    for (const socket of kept) await answers(socket)
    t.equal(agent.lines.length, before + 3)
    tell(...undo)
    for (const socket of kept) socket.destroy()
    await until(() => agent.lines.length === before + 7, 'their lines')
  }
})

await t.test('STRICT lets in who has an identity, by tunnel and inside the node', async (t) => {
  const { catalog, frontend, remote, app, tell } = await world(t)
  tell(strict(), naming(catalog.pod, [STRICT]))
  t.equal(await talk(await frontend.call(app), 'node'), 'node')
  t.equal(await talk(await remote.call(app), 'tunnel'), 'tunnel')
})

await t.test('a call into a pod whose policies nobody knows yet waits for them', async (t) => {
  const { agent, catalog, frontend, neighbour, remote, app, tell } = await world(t, {
    knowsNoPolicies: true,
  })
  const waiting = [await frontend.call(app), await remote.call(app), await neighbour.call(app)]
  for (const socket of waiting) socket.write('hello')
  await until(async () => (await inboundCount(agent, catalog)) === 3, 'three that wait')
  tell(naming(catalog.pod, ['shop/late']))
  tell(KNOWN)
  t.equal(agent.lines.length, 0, 'what it names has not come')
  const [first, second, third] = waiting as [Socket, Socket, Socket]
  const refused = resetOf(third)
  const heard = Promise.all([once(first, 'data'), once(second, 'data')])
  tell(policy('shop/late', { rules: [rule(from('frontend', 'remote'))] }))
  t.same(String((await heard)[0]), 'hello')
  t.equal(await refused, 'ECONNRESET')
  t.match(await agent.line(inboundFrom('neighbour')), { error: /none allowed: shop\/late/ })
})

/** Connections into the pod, those that wait included. */
async function inboundCount(agent: TestAgent, { pod }: ServedPod): Promise<number> {
  const dump = (await agent.ask({ kind: 'dump' })) as ReadonlyMap<string, readonly ConnectionDump[]>
  return (dump.get(pod.uid) ?? []).filter(({ direction }) => direction === 'inbound').length
}

await t.test('and is refused when they do not come', async (t) => {
  let offsetMs = 0
  const { agent, abroad, catalog, frontend, remote, app, tell } = await world(t, {
    knowsNoPolicies: true,
    now: () => performance.now() + offsetMs,
  })
  const frontendWaits = resetOf(await frontend.call(app))
  await until(async () => (await inboundCount(agent, catalog)) === 1, 'one that waits')
  offsetMs = 60_000
  tell(policy('shop/news', { scope: 'namespace', isDryRun: true }))
  t.equal(await frontendWaits, 'ECONNRESET')
  t.match(await agent.line((line) => line['direction'] === 'inbound'), {
    error: /^refused: a policy of the pod is not known .*: policies of the pod are not known yet$/,
  })
  t.equal(await resetOf(await remote.call(app)), 'ECONNRESET', 'nobody waits a second time')
  t.match(await abroad.line(() => true), { error: /http status: 503/ })
  tell(KNOWN)
  t.equal(await talk(await frontend.call(app), 'now'), 'now')
})

await t.test('who waits and leaves, or whose pod leaves, is told so', async (t) => {
  const { agent, abroad, catalog, frontend, remote, app } = await world(t, {
    knowsNoPolicies: true,
  })
  await remote.call(app)
  await until(async () => (await inboundCount(agent, catalog)) === 1, 'one that waits')
  await abroad.ask({ kind: 'stopPod', uid: remote.pod.uid, deadlineMs: 0 })
  t.match(await agent.line((line) => line['direction'] === 'inbound'), {
    error: 'connection reset by the client',
  })
  const cut = resetOf(await frontend.call(app))
  await until(async () => (await inboundCount(agent, catalog)) === 1, 'another')
  await agent.ask({ kind: 'stopPod', uid: catalog.pod.uid, deadlineMs: 0 })
  t.equal(await cut, 'ECONNRESET')
  t.match(
    await agent.line(
      (line) => line['direction'] === 'inbound' && line['src.workload'] === 'frontend',
    ),
    { error: /the pod left the mesh/ },
  )
})

await t.test(
  'what is open stays while a policy is on its way, and ends if it does not come',
  async (t) => {
    let offsetMs = 0
    const { agent, catalog, frontend, neighbour, app, tell } = await world(t, {
      now: () => performance.now() + offsetMs,
    })
    const open = await standing(frontend, app)
    // As istiod does it: first the name, then the policy.
    tell(naming(catalog.pod, ['shop/a']))
    await answers(open)
    tell(policy('shop/a', { rules: [rule(from('frontend'))] }))
    await answers(open)
    t.equal(await resetOf(await neighbour.call(app)), 'ECONNRESET')

    tell(gone('shop/a'))
    await answers(open)
    const reset = resetOf(open)
    offsetMs = 60_000
    tell(policy('shop/b'), naming(catalog.pod, ['shop/a', 'shop/c']))
    agent.dataPlane.review(catalog.pod.uid)
    t.equal(await reset, 'ECONNRESET')
    t.match(await agent.line(inboundFrom('frontend')), {
      error: /^refused: a policy of the pod.*: policy shop\/a is named and has not arrived$/,
      policy: 'shop/a',
    })
  },
)

await t.test('a policy that turns unreadable closes the pod, and says so', async (t) => {
  const { agent, catalog, frontend, remote, app, tell } = await world(t)
  tell(policy('shop/a', { rules: [EVERYBODY] }), naming(catalog.pod, ['shop/a']))
  const resets = [await standing(frontend, app), await standing(remote, app)].map(resetOf)
  tell(unreadable('shop/a'))
  t.same(await Promise.all(resets), ['ECONNRESET', 'ECONNRESET'])
  const told = { error: /policy shop\/a cannot be read: rules: garbled/, policy: 'shop/a' }
  t.match(await agent.line(inboundFrom('frontend')), told)
  t.match(await agent.line(inboundFrom('remote')), told)
  t.equal(await resetOf(await frontend.call(app)), 'ECONNRESET')
  tell(policy('shop/a', { rules: [EVERYBODY] }))
  t.equal(await talk(await frontend.call(app), 'again'), 'again')
})

await t.test('a workload of which nobody can read what policies it names is closed', async (t) => {
  const { agent, catalog, frontend, remote, app, tell } = await world(t)
  tell(policy('shop/a', { rules: [EVERYBODY] }), naming(catalog.pod, ['shop/a']))
  const resets = [await standing(frontend, app), await standing(remote, app)].map(resetOf)
  tell(garbled(catalog.pod))
  t.same(await Promise.all(resets), ['ECONNRESET', 'ECONNRESET'])
  const error = /what policies the pod names cannot be read: workload .*: status: unknown value 9/
  t.match(await agent.line(inboundFrom('frontend')), { error })
  t.match(await agent.line(inboundFrom('remote')), { error })
  t.equal(await resetOf(await frontend.call(app)), 'ECONNRESET')
  tell(naming(catalog.pod, ['shop/a']))
  t.equal(await talk(await frontend.call(app), 'again'), 'again')
})

await t.test('the operator may have it served all the same', async (t) => {
  const { catalog, frontend, app, tell } = await world(t, { missingPolicies: 'serve' })
  tell(unreadable('shop/a'), naming(catalog.pod, ['shop/a']))
  t.equal(await talk(await frontend.call(app), 'hello'), 'hello')
})

await t.test('of a policy that changes a hundred times the last counts', async (t) => {
  const { agent, catalog, frontend, neighbour, remote, app, tell } = await world(t)
  tell(policy('shop/flap', { rules: [EVERYBODY] }), naming(catalog.pod, ['shop/flap']))
  const open = await standing(frontend, app)
  const resets = [await standing(neighbour, app), await standing(remote, app)].map(resetOf)
  const before = agent.lines.length
  for (let turn = 0; turn < 100; turn += 1)
    tell(policy('shop/flap', { rules: [turn % 2 === 0 ? rule(from('nobody')) : EVERYBODY] }))
  await new Promise((resolve) => setImmediate(resolve))
  await answers(open)
  t.equal(agent.lines.length, before, 'what was never in force for a moment cut nobody')
  for (let turn = 0; turn < 101; turn += 1)
    tell(policy('shop/flap', { rules: [turn % 2 === 0 ? rule(from('frontend')) : EVERYBODY] }))
  t.same(await Promise.all(resets), ['ECONNRESET', 'ECONNRESET'])
  await answers(open)
})

await t.test('what is on trial or on record only tells', async (t) => {
  const { agent, catalog, frontend, app, tell } = await world(t)
  tell(
    policy('shop/trial', { isDryRun: true, action: 'deny', rules: [EVERYBODY] }),
    policy('shop/watch', { isDryRun: true, isAudit: true, rules: [rule(from('frontend'), 1)] }),
    naming(catalog.pod, ['shop/trial', 'shop/watch']),
  )
  t.equal(await talk(await frontend.call(app), 'hello'), 'hello')
  t.match(await agent.line(inboundFrom('frontend')), {
    level: 'info',
    'policy.dry_run': 'would be denied by: shop/trial, rule 0',
    'policy.audit': 'shop/watch',
  })
})

await t.test('the dump says by which rule a connection is there', async (t) => {
  const { agent, catalog, frontend, app, tell } = await world(t)
  tell(policy('shop/a', { rules: [rule(from('frontend'), 2)] }), naming(catalog.pod, ['shop/a']))
  await standing(frontend, app)
  const dump = (await agent.ask({ kind: 'dump' })) as ReadonlyMap<string, unknown>
  t.match(dump.get(catalog.pod.uid), [{ allowedBy: { policy: 'shop/a', rule: 2 } }])
})
