// SPDX-License-Identifier: Apache-2.0
// A pod that is being deleted: what it has open goes on, it calls whom it will, and who calls it is served, until its
// namespace goes. Only the connections that its peers keep in their pools are given up.

import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { IpAddress, SocketAddress } from '../../mesh/model/types.ts'
import { makeRoot } from '../hbone/certs.ts'
import { until } from '../support/until.ts'
import { talk, tellCaller } from './conversation.ts'
import {
  type ServedPod,
  startAgent,
  startApp,
  type TestAgent,
  testPod,
  workloadOf,
} from './loopback-world.ts'

/** TCP_ESTABLISHED in /proc/net/tcp. */
const ESTABLISHED = '01'

interface Peer {
  readonly agent: TestAgent
  readonly served: ServedPod
  /** Its app that sends back what it gets, and the one that tells its caller. */
  readonly echo: SocketAddress
  readonly teller: SocketAddress
}

/** `leaving` on one node, `neighbour` beside it, `far` on another. */
async function threePods(t: Test): Promise<Record<'leaving' | 'neighbour' | 'far', Peer>> {
  const root = await makeRoot()
  const near = await startAgent(t, { root })
  const other = await startAgent(t, { root })
  const make = async (name: string, agent: TestAgent): Promise<Peer> => {
    const served = await agent.servePod(testPod(name))
    const [address] = served.pod.addresses as [IpAddress]
    const echo = await startApp(t, address, (socket) => socket.pipe(socket))
    const teller = await startApp(t, address, tellCaller)
    return { agent, served, echo: { address, port: echo }, teller: { address, port: teller } }
  }
  const leaving = await make('leaving', near)
  const neighbour = await make('neighbour', near)
  const far = await make('far', other)
  const changes = [leaving, neighbour, far].map(
    ({ served }) => ({ kind: 'workload', workload: workloadOf(served.pod) }) as const,
  )
  for (const agent of [near, other]) {
    agent.send({ kind: 'mesh', changes })
    agent.send({ kind: 'meshSynced' })
  }
  return { leaving, neighbour, far }
}

/** Established connections to an IPv4 address and port, as the kernel lists them. */
function openTo({ address, port }: SocketAddress): number {
  const hex = (bytes: Buffer): string => bytes.toString('hex').toUpperCase()
  const host = hex(Buffer.from(address.split('.').map(Number)).reverse())
  const remote = `${host}:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const rows = readFileSync('/proc/net/tcp', 'utf8').split('\n')
  const fields = rows.map((row) => row.trim().split(/\s+/))
  return fields.filter(([, , to, state]) => to === remote && state === ESTABLISHED).length
}

async function echoed(socket: Socket, word: string): Promise<string> {
  socket.write(word)
  const [answer] = (await once(socket, 'data')) as [Buffer]
  return answer.toString()
}

await t.test(
  'all that a pod has open when it is deleted, and all that comes, goes on',
  async (t) => {
    const { leaving, neighbour, far } = await threePods(t)
    const ways = [
      ['to another node', leaving, far],
      ['from another node', far, leaving],
      ['to its neighbour', leaving, neighbour],
      ['from its neighbour', neighbour, leaving],
    ] as const
    const open = new Map<string, Socket>()
    for (const [way, caller, called] of ways) {
      const socket = await caller.served.call(called.echo)
      t.equal(await echoed(socket, 'before'), 'before', way)
      open.set(way, socket)
    }
    await leaving.agent.ask({ kind: 'drainPod', uid: leaving.served.pod.uid })
    for (const [way, caller, called] of ways) {
      const fresh = await caller.served.call(called.teller)
      const [callerIp] = caller.served.pod.addresses
      t.equal(await talk(fresh, 'hello'), `you are ${callerIp}`, `a new call ${way}`)
      const held = open.get(way)
      if (held === undefined) throw new Error('it was just opened')
      t.equal(await echoed(held, 'after'), 'after', `an open connection ${way}`)
    }
    for (const socket of open.values()) socket.end()
    const all = [...leaving.agent.lines, ...far.agent.lines]
    t.same(
      all.filter((line) => 'error' in line),
      [],
      'nothing is told as an error, and nothing as drained',
    )
  },
)

await t.test('connections that peers keep in their pools into it are given up', async (t) => {
  const { leaving, far } = await threePods(t)
  const callLeaving = async (): Promise<void> => {
    await talk(await far.served.call(leaving.teller), 'hello')
  }
  await callLeaving()
  await callLeaving()
  const { address } = leaving.teller
  t.equal(openTo({ address, port: 15008 }), 1, 'both calls shared a connection')
  await leaving.agent.ask({ kind: 'drainPod', uid: leaving.served.pod.uid })
  await until(() => openTo({ address, port: 15008 }) === 0, 'the idle connection to be closed')
  await callLeaving()
  t.equal(openTo({ address, port: 15008 }), 1, 'and who calls it all the same is served')
})
