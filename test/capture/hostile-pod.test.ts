// SPDX-License-Identifier: Apache-2.0
// What a pod whose processes are root may try against capture: take the agent's ports, make its own enrolment fail,
// use up what all pods share.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { missing } from '../helpers.ts'
import { refusalName } from './support/kernel.ts'
import { ADDRESS, type App, World } from './support/world.ts'

const skip = missing('root', 'cgroup2')
const SERVICE = { address: '10.96.0.80', port: 80 } as const
const CAPTURED = `captured ${SERVICE.address} ${SERVICE.port}`
const MESH_PORTS = [15_001, 15_006, 15_008] as const
const ANYWHERE = ['0.0.0.0', '127.0.0.1', '127.64.0.1', ADDRESS.aV4, '::', '::1'] as const
/** MAX_PENDING_PER_POD of bpf/maps.h. */
const MOST_PENDING = 8192

function tryListen(app: App, address: string, port: number): Promise<string> {
  return app.process.ask('tryListen', { address, port })
}

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test(
  "the agent's ports cannot be taken in a captured pod, with or without an agent",
  { skip },
  async (t) => {
    const world = new World(t)
    const agent = await world.openAgent()
    const app = world.app('a')
    t.equal(await tryListen(app, '0.0.0.0', 15_006), 'ok', 'before enrolment they are free')
    await agent.enrol(world.pod('a'))
    const taken = await refusalName('EADDRINUSE')
    const refusals = async (): Promise<ReadonlySet<string>> => {
      const seen = new Set<string>()
      for (const port of MESH_PORTS)
        for (const address of ANYWHERE) seen.add(await tryListen(app, address, port))
      return seen
    }
    t.strictSame([...(await refusals())], [taken])
    t.equal(await tryListen(app, '0.0.0.0', 15_002), 'ok', 'others can')
    t.match(await agent.enrol(world.pod('a')), { listeners: 6 }, 'the agent can, again and again')
    await agent.process.stop('SIGKILL')
    t.strictSame([...(await refusals())], [taken], 'also while the agent is away')

    const successor = await world.openAgent()
    t.match(await successor.enrol(world.pod('a')), { listeners: 6 })
    t.equal((await app.connect(SERVICE)).received, CAPTURED)
    const { bindDenyMeshPort } = await successor.counters()
    t.equal(bindDenyMeshPort, 2 * MESH_PORTS.length * ANYWHERE.length)
    await successor.withdraw('uid-a')
    t.equal(await tryListen(app, '0.0.0.0', 15_006), 'ok', 'after withdrawal they are free again')
  },
)

void t.test(
  'a pod that cannot be enrolled again stays captured and closed',
  { skip },
  async (t) => {
    const world = new World(t)
    const outside = world.app('remote')
    await outside.serve('0.0.0.0', 7070)
    const app = world.app('a')
    const server = world.app('a')
    await server.serve('0.0.0.0', 8080)
    const first = await world.openAgent()
    await first.enrol(world.pod('a'))
    await first.process.stop('SIGKILL')

    // Outside of the cgroup the programs are attached to, so that nothing keeps it from the port.
    const squatter = await squat(world.netns('a'), 15_001)
    t.teardown(() => squatter.kill('SIGKILL'))
    const second = await world.openAgent()
    t.match(await second.enrol(world.pod('a')), { code: 'AMB_PORT_TAKEN' })
    const out = await app.connect({ address: ADDRESS.remoteV4, port: 7070 })
    t.not(out.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.remoteV4}`, 'no way out in plaintext')
    const into = await outside.connect({ address: ADDRESS.aV4, port: 8080 })
    t.equal(into.error, 'ECONNREFUSED', 'nor in')

    squatter.kill('SIGKILL')
    await once(squatter, 'exit')
    t.match(await second.enrol(world.pod('a')), { listeners: 6 }, 'the next attempt succeeds')
    t.equal((await app.connect(SERVICE)).received, CAPTURED)
  },
)

void t.test('a pod that cannot be enrolled again can still leave the mesh', { skip }, async (t) => {
  const world = new World(t)
  const outside = world.app('remote')
  await outside.serve('0.0.0.0', 7070)
  const app = world.app('a')
  const first = await world.openAgent()
  await first.enrol(world.pod('a'))
  await first.process.stop('SIGKILL')
  const squatter = await squat(world.netns('a'), 15_008)
  t.teardown(() => squatter.kill('SIGKILL'))
  const second = await world.openAgent()
  t.match(await second.enrol(world.pod('a')), { code: 'AMB_PORT_TAKEN' })
  await second.withdraw('uid-a')
  const out = await app.connect({ address: ADDRESS.remoteV4, port: 7070 })
  t.equal(out.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.remoteV4}`)
})

void t.test(
  'a pod that floods its own listener leaves room for the others',
  { skip },
  async (t) => {
    const world = new World(t)
    const agent = await world.openAgent()
    // Nobody accepts for pod a: its queue fills up, and then its handshakes hang.
    await agent.process.ask('enrolAll', [world.pod('a')])
    await agent.enrol(world.pod('b'))
    const flooding = world.app('a')
    await flooding.process.ask('flood', { address: '10.96.0.1', count: 14_000 })
    const { pendingPodFull = 0, pendingFull } = await agent.counters()
    t.ok(pendingPodFull > 0, `${pendingPodFull} connections over the share of the pod`)
    t.equal(pendingFull, 0)
    const { pendingConnections } = await agent.stats()
    t.ok(Number(pendingConnections) <= MOST_PENDING, `${pendingConnections} pending`)
    t.equal((await world.app('b').connect(SERVICE)).received, CAPTURED)

    await flooding.process.stop('SIGKILL')
    t.equal((await agent.stats()).pendingConnections, 0, 'what it held goes with it')
    const before = (await agent.counters()).pendingPodFull
    await world.app('a').process.ask('flood', { address: '10.96.0.1', count: 4000 })
    t.ok(Number((await agent.stats()).pendingConnections) > 0, 'and its share is free')
    t.equal((await agent.counters()).pendingPodFull, before)
  },
)

void t.test(
  'a namespace that is passed off for a pod is refused, as it lacks the address',
  { skip },
  async (t) => {
    const world = new World(t)
    const agent = await world.openAgent()
    const found = { ...world.pod('a'), mustHaveAddress: true }
    t.match(await agent.enrol({ ...found, netnsPath: world.netns('b') }), {
      code: 'AMB_ENROLMENT',
      message: new RegExp(`does not have its address ${ADDRESS.aV4}`),
    })
    t.match(await agent.stats(), { listeners: 0, enrolledPods: 0 })
    t.match(await agent.enrol(found), { listeners: 6 })
  },
)

async function squat(netns: string, port: number): Promise<ChildProcess> {
  const listen = `require('node:net').createServer().listen(${port}, '127.0.0.1', () => console.log('up'))`
  const process_ = spawn('nsenter', [`--net=${netns}`, process.execPath, '-e', listen], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(process_.stdout, 'data')
  return process_
}
