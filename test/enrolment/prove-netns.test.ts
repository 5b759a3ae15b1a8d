// SPDX-License-Identifier: Apache-2.0
// What proves that a network namespace is a pod's: the decision by table, then real namespaces, hung up as CNIs do it
// and as a process in a pod would have to forge it.

import t from 'tap'
import { execFileSync } from 'node:child_process'
import { judge, type Candidate } from '../../agent/enrolment/prove-netns.ts'
import type { Road } from '../../native/links.ts'
import { RemoteProcess } from '../capture/support/rpc.ts'
import { ADDRESS, World, type Site } from '../capture/support/world.ts'
import { missing } from '../helpers.ts'

const candidate = (
  name: string,
  wires: readonly number[],
  change: Partial<Candidate> = {},
): Candidate => ({
  netnsPath: name,
  identity: { device: 1, inode: 1 },
  netnsCookie: 1n,
  isOwnedByNode: true,
  isOwnedByProcess: true,
  wiring: { wires, hasHardware: false },
  ...change,
})
const road = (index: number, change: Partial<Extract<Road, { kind: 'device' }>> = {}): Road => ({
  kind: 'device',
  index,
  name: `dev${index}`,
  leadsElsewhere: false,
  ports: undefined,
  ...change,
})
const veth = road(7, { leadsElsewhere: true })
const bridge = road(3, { ports: [7, 8] })
const overlay = road(2)
const none: Road = { kind: 'none' }
const local: Road = { kind: 'local' }
const hardware = { wires: [], hasHardware: true }
const othersUsers = { isOwnedByNode: false, isOwnedByProcess: false }
const ownUsers = { isOwnedByNode: false, isOwnedByProcess: true }

const pod = candidate('pod', [7])
const made = candidate('made', [])
const neighbour = candidate('neighbour', [9])

const CASES: readonly {
  readonly is: string
  readonly candidates: readonly Candidate[]
  readonly roads: readonly Road[]
  readonly hasOwnUsers?: boolean
  readonly so: string | RegExp
}[] = [
  { is: 'the namespace the route leads to', candidates: [pod], roads: [veth], so: 'pod' },
  { is: 'and not an older one', candidates: [made, neighbour, pod], roads: [veth], so: 'pod' },
  { is: 'another pod', candidates: [neighbour], roads: [veth], so: /route to its address leads/ },
  { is: 'one it made', candidates: [made], roads: [veth], so: /route to its address leads/ },
  {
    is: 'hardware beside a veth route',
    candidates: [candidate('vf', [], { wiring: hardware })],
    roads: [veth],
    so: /route to its address leads/,
  },
  { is: 'two families, one road', candidates: [pod], roads: [veth, veth], so: 'pod' },
  {
    is: 'two families, two roads',
    candidates: [pod],
    roads: [veth, road(9, { leadsElsewhere: true })],
    so: /\(by dev9\)/,
  },
  { is: 'a port of the bridge', candidates: [pod, made], roads: [bridge], so: 'pod' },
  {
    is: 'no port of the bridge',
    candidates: [neighbour],
    roads: [bridge],
    so: /no device at dev3/,
  },
  { is: 'an overlay', candidates: [made, pod], roads: [overlay], so: 'pod' },
  {
    is: 'an overlay, one it made',
    candidates: [made],
    roads: [overlay],
    so: /no device that the node gave/,
  },
  {
    is: 'macvlan on the uplink',
    candidates: [candidate('mv', [2]), made],
    roads: [overlay],
    so: 'mv',
  },
  {
    is: 'SR-IOV',
    candidates: [candidate('vf', [], { wiring: hardware }), made],
    roads: [overlay],
    so: 'vf',
  },
  { is: 'no route', candidates: [made, pod], roads: [none], so: 'pod' },
  {
    is: 'no route, one it made',
    candidates: [made],
    roads: [none],
    so: /no device that the node gave/,
  },
  { is: 'two that fit', candidates: [pod, neighbour], roads: [overlay], so: /more than one/ },
  { is: "the node's own address", candidates: [pod], roads: [local], so: /node's own/ },
  {
    is: "a stranger's user namespace",
    candidates: [candidate('pod', [7], othersUsers)],
    roads: [veth],
    so: /user namespace/,
  },
  {
    is: "a pod's own, not asked for",
    candidates: [candidate('pod', [7], ownUsers)],
    roads: [veth],
    so: /user namespace/,
  },
  {
    is: "a pod's own, asked for",
    candidates: [candidate('pod', [7], ownUsers)],
    roads: [veth],
    hasOwnUsers: true,
    so: 'pod',
  },
  {
    is: "a stranger's in a pod with its own",
    candidates: [candidate('pod', [7], othersUsers)],
    roads: [veth],
    hasOwnUsers: true,
    so: /user namespace/,
  },
]

for (const { is, candidates, roads, hasOwnUsers = false, so } of CASES)
  void t.test(`${is}: ${String(so)}`, (t) => {
    const judged = judge(candidates, roads, hasOwnUsers)
    t.match(judged.ok ? judged.value.netnsPath : judged.error, so)
    t.equal(judged.ok, typeof so === 'string')
    t.end()
  })

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test('on a real kernel', { skip: missing('root', 'cgroup2') }, async (t) => {
  const world = new World(t)
  const node = new RemoteProcess(new URL('./prover-process.ts', import.meta.url), {
    netns: world.netns('node'),
    cgroup: `${world.cgroup}/agent`,
  })
  t.teardown(() => node.stop('SIGKILL'))
  const prove = (address: string, ...pids: readonly number[]): Promise<string> =>
    node.ask('prove', { claim: { addresses: [address], hasOwnUsers: false }, pids })
  const pathOf = (pid: number): string => `/proc/${pid}/ns/net`
  /** A process in the site's namespace, or in one it makes of its own with these devices. */
  const run = async (site: Site, unshare?: string): Promise<number> => {
    const wrapper = ['unshare', '-Urn', 'sh', '-ec', `${unshare}; exec "$@"`, 'sh']
    const app = world.app(site, 'other', unshare === undefined ? undefined : wrapper)
    // Answering, it has made what it was to make.
    await app.process.ask('close')
    return app.process.pid
  }
  const ip = (command: string): string =>
    execFileSync('sh', ['-ec', command.replaceAll('NODE', `${world.name}-node`)], {
      encoding: 'utf8',
    })
  const a = await run('a')
  const b = await run('b')

  await t.test('the pod is told from its neighbour, whatever address that adds', async (t) => {
    execFileSync('ip', ['-n', `${world.name}-b`, 'addr', 'add', `${ADDRESS.aV4}/32`, 'dev', 'lo'])
    t.equal(await prove(ADDRESS.aV4, b, a), pathOf(a))
    t.match(await prove(ADDRESS.aV4, b), /route to its address leads \(by va\)/)
    t.equal(await prove(ADDRESS.aV6, b, a), pathOf(a))
  })

  await t.test('and from what a process makes for itself', async (t) => {
    const faked = await run('b', `ip link set lo up; ip addr add ${ADDRESS.aV4}/32 dev lo`)
    t.match(await prove(ADDRESS.aV4, faked), /user namespace/)
    const wired = await run(
      'b',
      `ip link add eth0 type veth peer name va; ip addr add ${ADDRESS.aV4}/32 dev eth0`,
    )
    t.match(await prove(ADDRESS.aV4, wired), /user namespace/)
    t.equal(await prove(ADDRESS.aV4, faked, wired, a), pathOf(a))
  })

  await t.test('as root of the machine makes namespaces, without users of its own', async (t) => {
    const bare = world.app('b', 'other', ['unshare', '-n'])
    await bare.process.ask('close')
    t.match(await prove(ADDRESS.aV4, bare.process.pid), /route to its address leads/)
    t.match(await prove('10.98.7.7', bare.process.pid), /no device that the node gave/)
  })

  await t.test('behind a bridge', async (t) => {
    ip(`ip -n NODE link add br0 type bridge; ip -n NODE link set br0 up
        ip -n NODE addr add 10.96.1.1/24 dev br0`)
    t.match(await prove('10.96.1.2', a), /no device at br0/)
    ip('ip -n NODE link set va master br0')
    t.equal(await prove('10.96.1.2', a, b), pathOf(a))
  })

  await t.test('with macvlan on the uplink', async (t) => {
    ip(`ip netns add ${world.name}-mv
        ip -n NODE link add mv0 link uplink netns ${world.name}-mv type macvlan`)
    const mv = new RemoteProcess(new URL('../capture/support/app-process.ts', import.meta.url), {
      netns: `/run/netns/${world.name}-mv`,
      cgroup: `${world.cgroup}/other`,
    })
    t.teardown(() => mv.stop('SIGKILL'))
    await mv.ask('close')
    t.equal(await prove('10.97.0.77', mv.pid), pathOf(mv.pid))
  })

  await t.test('and leaves nothing open', async (t) => {
    const before = await node.ask<number>('openFds')
    for (let round = 0; round < 20; round += 1) await prove(ADDRESS.bV4, b, a)
    t.equal(await node.ask<number>('openFds'), before)
  })
})
