// SPDX-License-Identifier: Apache-2.0
// Given NetworkPolicies, then a pod is called, and calls, as they say: by the port that the app means, by whatever way, and what is open
// does not outlive a change of policy or of peer.

import { once } from 'node:events'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { NetworkDirection, NetworkRule } from '../../mesh/model/network-policy.ts'
import type { PolicyKey } from '../../mesh/model/policy.ts'
import type { IpAddress, MeshChange, SocketAddress, Workload } from '../../mesh/model/types.ts'
import { makeRoot } from '../hbone/certs.ts'
import { resetOf, talk } from './conversation.ts'
import {
  type AccessLine,
  type AgentChoices,
  type ServedPod,
  startAgent,
  startApp,
  testPod,
  workloadOf,
} from './loopback-world.ts'

const echo = (socket: Socket): void => {
  socket.pipe(socket)
}

const ruleFor = (change: Partial<NetworkRule>): NetworkRule => ({
  peers: [],
  ports: [],
  isAnyPeer: change.peers === undefined,
  isAnyPort: change.ports === undefined,
  place: 0,
  ...change,
})
const netPolicy = (
  name: string,
  directions: { readonly ingress?: NetworkDirection; readonly egress?: NetworkDirection },
): MeshChange => ({
  kind: 'networkPolicy',
  policy: {
    key: `shop/${name}` as PolicyKey,
    namespace: 'shop',
    name,
    ingress: directions.ingress,
    egress: directions.egress,
  },
})
const standingOf = ({ pod }: ServedPod, change: Partial<Workload>): MeshChange => ({
  kind: 'workload',
  workload: workloadOf(pod, change),
})
const FRIENDS = { peers: [{ kind: 'group' as const, group: 'friends' }] }

async function world(t: Test, choices: AgentChoices = {}) {
  const root = await makeRoot()
  const agent = await startAgent(t, { root, ...choices })
  const abroad = await startAgent(t, { root })
  const near = await agent.servePod(testPod('near'))
  const catalog = await agent.servePod(testPod('catalog'))
  const far = await abroad.servePod(testPod('far'))
  const [address] = catalog.pod.addresses as [IpAddress]
  const app = { address, port: await startApp(t, address, echo) }
  for (const each of [agent, abroad]) {
    for (const { pod } of [near, catalog, far])
      each.send({ kind: 'mesh', changes: [{ kind: 'workload', workload: workloadOf(pod) }] })
    each.send({ kind: 'meshSynced' })
  }
  const tell = (...changes: readonly MeshChange[]): void => {
    for (const each of [agent, abroad]) each.send({ kind: 'mesh', changes })
  }
  return { agent, abroad, near, catalog, far, app, tell }
}

/** A call that stands: the app has answered. */
async function standing(pod: ServedPod, to: SocketAddress): Promise<Socket> {
  const socket = await pod.call(to)
  socket.write('x')
  await once(socket, 'data')
  return socket
}

const line =
  (direction: string, from: string) =>
  (each: AccessLine): boolean =>
    each['direction'] === direction && each['src.workload'] === from && each['error'] !== undefined

await t.test('by HBONE and inside the node only a peer gets in, and at its port', async (t) => {
  const { agent, near, catalog, far, app, tell } = await world(t)
  const ports = [{ kind: 'range' as const, first: app.port, last: app.port }]
  tell(
    netPolicy('friends', { ingress: { rules: [ruleFor({ ...FRIENDS, ports })] } }),
    standingOf(catalog, { networkPolicies: ['shop/friends'] }),
  )
  for (const [caller, name] of [
    [near, 'near'],
    [far, 'far'],
  ] as const) {
    t.equal(await resetOf(await caller.call(app)), 'ECONNRESET', name)
    t.match(await agent.line(line('inbound', name)), {
      error: `NetworkPolicy shop/friends: ingress of port ${app.port} from shop/${name} is not allowed`,
      policy: 'shop/friends',
      'policy.made_of': 'NetworkPolicy shop/friends',
    })
    tell(standingOf(caller, { peerGroups: ['friends'] }))
    t.equal(await talk(await caller.call(app), 'hello'), 'hello', `${name}, a peer now`)
  }
  const other = await startApp(t, app.address, echo)
  for (const caller of [near, far])
    t.equal(await resetOf(await caller.call({ ...app, port: other })), 'ECONNRESET')
})

await t.test('a port by its name is the called pod’s', async (t) => {
  const { catalog, far, app, tell } = await world(t)
  const ports = [{ kind: 'name' as const, name: 'http' }]
  tell(
    netPolicy('named', { ingress: { rules: [ruleFor({ ports })] } }),
    standingOf(catalog, { networkPolicies: ['shop/named'] }),
  )
  t.equal(await resetOf(await far.call(app)), 'ECONNRESET')
  tell(
    standingOf(catalog, {
      networkPolicies: ['shop/named'],
      namedPorts: [{ name: 'http', port: app.port }],
    }),
  )
  t.equal(await talk(await far.call(app), 'hello'), 'hello')
})

await t.test('a caller is kept in by its own, and its own record says so', async (t) => {
  const { abroad, far, near, app, tell } = await world(t)
  tell(
    netPolicy('quiet', { egress: { rules: [] } }),
    standingOf(far, { networkPolicies: ['shop/quiet'] }),
  )
  t.equal(await resetOf(await far.call(app)), 'ECONNRESET')
  const error = `NetworkPolicy shop/quiet: egress to shop/catalog port ${app.port} is not allowed`
  t.match(await abroad.line(line('outbound', 'far')), { error, policy: 'shop/quiet' })
  const [outside] = near.pod.addresses as [IpAddress]
  const stranger = { address: outside, port: await startApp(t, outside, echo) }
  t.equal(await resetOf(await far.call(stranger)), 'ECONNRESET', 'and so for everything else')
  tell(
    netPolicy('quiet', {
      egress: {
        rules: [ruleFor({ peers: [{ kind: 'range', range: { ...app, length: 32 }, except: [] }] })],
      },
    }),
  )
  t.equal(await talk(await far.call(app), 'hello'), 'hello')
})

await t.test('what is open ends with what allowed it, and nothing else does', async (t) => {
  const { near, catalog, far, app, tell } = await world(t)
  tell(
    netPolicy('friends', { ingress: { rules: [ruleFor(FRIENDS)] } }),
    standingOf(near, { peerGroups: ['friends'] }),
    standingOf(far, { peerGroups: ['friends'] }),
    standingOf(catalog, { networkPolicies: ['shop/friends'] }),
  )
  const first = await standing(near, app)
  const second = await standing(far, app)
  const ended = resetOf(first)
  tell(standingOf(near, { peerGroups: [] }))
  t.equal(await ended, 'ECONNRESET', 'a peer no more')
  second.write('x')
  await once(second, 'data')
  const kept = resetOf(second)
  tell(
    netPolicy('quiet', { egress: { rules: [] } }),
    standingOf(far, { peerGroups: ['friends'], networkPolicies: ['shop/quiet'] }),
  )
  t.equal(await kept, 'ECONNRESET', 'kept in by its own')
})

await t.test(
  'one that is named and has not come closes the pod, both ways, until it does',
  async (t) => {
    const { near, catalog, far, app, tell } = await world(t)
    tell(standingOf(catalog, { networkPolicies: ['shop/late'] }))
    const waits = far.call(app).then((socket) => talk(socket, 'hello'))
    tell(netPolicy('late', { ingress: { rules: [ruleFor({})] } }))
    t.equal(await waits, 'hello', 'it waited for it')
    tell(standingOf(near, { networkPolicies: ['shop/garbled'] }), {
      kind: 'networkPolicyUnreadable',
      policy: { key: 'shop/garbled' as PolicyKey, reason: 'ingress: garbled' },
    })
    t.equal(await resetOf(await near.call(app)), 'ECONNRESET', 'its own calls')
    t.equal(await talk(await far.call(app), 'hello'), 'hello', 'others are as they were')
  },
)
