// SPDX-License-Identifier: Apache-2.0
// Given an enrolled pod, when an application in it connects, then the agent gets the connection with its destination
// and the application notices nothing. Numbers are those of the edge-case table in docs/capture.md.

import t from 'tap'
import type { IpAddress } from '../../mesh/model/types.ts'
import { missing } from '../helpers.ts'
import { until as soon } from '../support/until.ts'
import { refusalName } from './support/kernel.ts'
import type { RawResult } from './support/raw-socket.ts'
import { ADDRESS, type Agent, type App, World } from './support/world.ts'

const skip = missing('root', 'cgroup2')
const SERVICE = '10.96.0.80' // routed nowhere: as a ClusterIP before kube-proxy

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test('outbound', { skip }, async (t) => {
  const world = new World(t)
  const agent: Agent = await world.openAgent()
  const app: App = world.app('a')
  t.match(await agent.enrol(world.pod('a')), { listeners: 6 })

  await t.test(
    'edge case #14 #26: a ClusterIP is captured before anything resolves it',
    async (t) => {
      const seen = await app.connect({ address: SERVICE, port: 80 })
      t.equal(seen.received, `captured ${SERVICE} 80`)
      t.equal(seen.peer, `${SERVICE}:80`, 'getpeername shows what was dialled')
      t.match(seen.local, new RegExp(`^${ADDRESS.aV4}:`), 'getsockname shows the pod')
    },
  )

  await t.test('edge case #26: IPv6 is captured, names stay true', async (t) => {
    const seen = await app.connect({ address: 'fd98::3', port: 81 })
    t.equal(seen.received, 'captured fd98::3 81')
    t.equal(seen.peer, '[fd98::3]:81')
    t.match(seen.local, /^\[fd98::2\]:/)
  })

  await t.test(
    'edge case #26: a v4-mapped socket is captured as IPv4 and sees mapped names',
    async (t) => {
      const seen = await app.connect({ address: '::ffff:10.96.0.80', port: 82 })
      t.equal(seen.received, `captured ${SERVICE} 82`)
      t.equal(seen.peer, '[::ffff:a60:50]:82')
      t.match(seen.local, /^\[::ffff:a62:2\]:/)
    },
  )

  await t.test('edge case #16: another pod and a public address are captured', async (t) => {
    t.equal(
      (await app.connect({ address: ADDRESS.bV4, port: 8080 })).received,
      'captured 10.98.0.3 8080',
    )
    t.equal(
      (await app.connect({ address: '203.0.113.5', port: 443 })).received,
      'captured 203.0.113.5 443',
    )
  })

  await t.test('edge case #35: a socket bound to a device cannot escape', async (t) => {
    const v4 = await app.connect({ address: SERVICE, port: 83, device: 'eth0' })
    t.equal(v4.received, `captured ${SERVICE} 83`)
    t.equal(v4.peer, `${SERVICE}:83`)
    const v6 = await app.connect({ address: 'fd98::3', port: 83, device: 'eth0' })
    t.equal(v6.received, 'captured fd98::3 83')
  })

  await t.test('edge case #36: a socket with any mark cannot escape', async (t) => {
    for (const mark of [0x539, 0x111])
      t.equal(
        (await app.connect({ address: SERVICE, port: 84, mark })).received,
        `captured ${SERVICE} 84`,
      )
  })

  await t.test('edge case #23: MPTCP is captured', async (t) => {
    const seen = await app.connect({ address: SERVICE, port: 85, multipath: true })
    t.equal(seen.received, `captured ${SERVICE} 85`)
  })

  await t.test('edge case #22: TCP fast open is captured', async (t) => {
    const seen = await app.connect({ address: SERVICE, port: 86, fastOpen: true })
    t.equal(seen.received, `captured ${SERVICE} 86`)
  })

  await t.test('edge case #29: an address and port the application bound are kept', async (t) => {
    const seen = await app.connect({
      address: SERVICE,
      port: 87,
      localAddress: ADDRESS.aV4,
      localPort: 33_333,
    })
    t.equal(seen.received, `captured ${SERVICE} 87 from its own port`)
    t.equal(seen.local, `${ADDRESS.aV4}:33333`)
  })

  await t.test(
    'what the application asked of its socket comes to the agent with the destination',
    async (t) => {
      const options = [
        [1, 9, 1], // SO_KEEPALIVE
        [6, 4, 2], // TCP_KEEPIDLE
        [6, 5, 1], // TCP_KEEPINTVL
        [6, 6, 3], // TCP_KEEPCNT
        [6, 18, 5000], // TCP_USER_TIMEOUT
        [0, 1, 0x2a], // IP_TOS, of which two bits are ECN's
      ] as const
      const seen = await app.connect({ address: SERVICE, port: 87, options })
      t.match(JSON.parse(seen.received?.replace(/^captured \S+ 87 /, '') ?? ''), {
        keepAlive: true,
        keepIdleS: 2,
        keepIntervalS: 1,
        keepProbes: 3,
        userTimeoutMs: 5000,
        trafficClass: 0x28,
      })
      // What the kernel refuses the application is none of the agent's business.
      const refused = await app.connect({ address: SERVICE, port: 87, options: [[6, 4, 40_000]] })
      t.equal(refused.error, 'EINVAL')
    },
  )

  await t.test('edge case #20: loopback and the own addresses are never captured', async (t) => {
    const server = world.app('a')
    await server.serve('0.0.0.0', 9090)
    await server.serve('::', 9090)
    for (const address of ['127.0.0.1', '127.3.4.5', ADDRESS.aV4, '0.0.0.0', '::1', ADDRESS.aV6])
      t.match((await app.connect({ address, port: 9090 })).received, /^app saw/, address)
    t.match((await app.connect({ address: '::ffff:127.0.0.1', port: 9090 })).received, /^app saw/)
    await server.process.stop()
  })

  await t.test(
    'edge case #33: link-local, multicast and unspecified destinations pass',
    async (t) => {
      const before = await agent.counters()
      // An address of the node's end of the link; nothing listens, so the kernel's own refusal comes back.
      t.equal((await app.connect({ address: '169.254.1.1', port: 9 })).error, 'ECONNREFUSED')
      t.equal((await app.connect({ address: '224.0.0.1', port: 9 })).error, 'ENETUNREACH')
      t.ok((await app.connect({ address: 'ff02::1', port: 9 })).error)
      const after = await agent.counters()
      t.equal((after.outPassLocal ?? 0) - (before.outPassLocal ?? 0), 3)
    },
  )

  await t.test(
    'edge case #21: a direct call to 15001 has no destination and is reset',
    async (t) => {
      const before = await agent.counters()
      t.equal((await app.connect({ address: '127.0.0.1', port: 15_001 })).error, 'ECONNRESET')
      const after = await agent.counters()
      t.equal((after.pendingMissing ?? 0) - (before.pendingMissing ?? 0), 1)
    },
  )

  await t.test(
    'a socket that connects again, to loopback, does not carry its former destination',
    async (t) => {
      const seen = await app.connect({
        address: '127.0.0.1',
        port: 15_001,
        before: { address: SERVICE, port: 88 },
      })
      t.equal(seen.error, 'ECONNRESET')
    },
  )

  await t.test(
    'edge case #11: a process of another cgroup in the pod is captured too',
    async (t) => {
      const stranger = world.app('a', 'other')
      t.equal(
        (await stranger.connect({ address: SERVICE, port: 89 })).received,
        `captured ${SERVICE} 89`,
      )
      await stranger.process.stop()
    },
  )

  await t.test('an application without root rights is captured', async (t) => {
    const plain = world.app('a')
    await plain.connect({ address: '127.0.0.1', port: 1 }) // loads what only root may read
    await plain.process.ask('setuid', 65_534)
    const seen = await plain.connect({ address: SERVICE, port: 90, device: 'eth0' })
    t.equal(seen.received, `captured ${SERVICE} 90`)
    await plain.process.stop()
  })

  await t.test('edge case #12: a namespace nested in the pod is left alone', async (t) => {
    const nested = world.app('a', 'a', ['unshare', '--net'])
    t.equal((await nested.connect({ address: SERVICE, port: 91 })).error, 'ENETUNREACH')
    await nested.process.stop()
  })

  await t.test(
    'edge case #4: a pod that is not enrolled is not touched, in the same cgroup or not',
    async (t) => {
      const server = world.app('remote')
      await server.serve('0.0.0.0', 7070)
      for (const cgroup of ['b', 'a'] as const) {
        const stranger = world.app('b', cgroup)
        const seen = await stranger.connect({ address: ADDRESS.remoteV4, port: 7070 })
        t.equal(seen.received, `app saw ${ADDRESS.bV4} at ${ADDRESS.remoteV4}`)
        await stranger.process.stop()
      }
      await server.process.stop()
    },
  )

  await t.test(
    'the agent leaves the pod by its own sockets, from a worker thread only',
    async (t) => {
      const server = world.app('remote')
      await server.serve('0.0.0.0', 7071)
      const answer = await agent.process.ask('upstream', {
        uid: 'uid-a',
        address: ADDRESS.remoteV4,
        port: 7071,
      })
      t.equal(answer, `app saw ${ADDRESS.aV4} at ${ADDRESS.remoteV4}`)
      t.match(
        await agent.process.ask('upstreamOnMain', 'uid-a'),
        /setns on the main thread: EDEADLK/,
      )
      await server.process.stop()
    },
  )

  await t.test(
    'edge case #26: a pod with IPv4 only is told at once that there is no IPv6',
    async (t) => {
      world.inside('b', `ip -6 addr del ${ADDRESS.bV6}/128 dev eth0`)
      t.match(await agent.enrol(world.pod('b')), { listeners: 6 })
      const dualStackClient = world.app('b')
      t.equal(
        (await dualStackClient.connect({ address: 'fd98::2', port: 80 })).error,
        await refusalName('ENETUNREACH'),
      )
      const v4 = await dualStackClient.connect({ address: SERVICE, port: 80 })
      t.equal(v4.received, `captured ${SERVICE} 80`)
      await agent.withdraw('uid-b')
      await dualStackClient.process.stop()
      world.inside('b', `ip -6 addr add ${ADDRESS.bV6}/128 dev eth0 nodad`)
    },
  )

  await t.test(
    'a pod with an IPv6 address and no route out is told so at once, like without a mesh, and while it is so',
    async (t) => {
      world.inside(
        'b',
        'ip -6 route del default via fe80::1 dev eth0; ip link add lan type veth peer name lan2; ip link set lan up; ip link set lan2 up; ip addr add fd66::2/64 dev lan nodad',
      )
      t.match(await agent.enrol(world.pod('b')), { listeners: 6 })
      const dualStackClient = world.app('b')
      const connect = (address: string, device?: string) =>
        dualStackClient.connect({ address, port: 80, ...(device !== undefined && { device }) })
      const noRoute = await refusalName('ENETUNREACH')
      const before = await agent.counters()
      t.equal((await connect('2001:db8::9')).error, noRoute)
      t.equal((await connect(SERVICE)).received, `captured ${SERVICE} 80`, 'IPv4 has a route')
      t.equal((await connect('fd66::9')).received, 'captured fd66::9 80', 'on its own network')
      t.equal((await connect('fd66::2')).error, 'ECONNREFUSED', 'its own address')
      const onLink = await connect('2001:db8::9', 'lan')
      t.equal(onLink.received, 'captured 2001:db8::9 80', 'a device is asked for, which needs none')
      const after = await agent.counters()
      t.equal((after.outDenyNoRoute ?? 0) - (before.outDenyNoRoute ?? 0), 1)
      const until = async (address: string, isWanted: (seen: RawResult) => boolean) => {
        let seen = await connect(address)
        await soon(
          async () => isWanted(seen) || isWanted((seen = await connect(address))),
          () => `another answer than ${JSON.stringify(seen)}`,
        )
      }
      // Somewhere: which of the calls it leads on is the kernel's to say then.
      world.inside('b', 'ip -6 route add 2001:db8:7::/48 via fe80::1 dev eth0')
      await until('2001:db8:7::9', ({ received }) => received === 'captured 2001:db8:7::9 80')
      world.inside('b', 'ip -6 route del 2001:db8:7::/48 via fe80::1 dev eth0')
      await until('2001:db8:7::9', ({ error }) => error === noRoute)
      world.inside('b', 'ip -6 route add default via fe80::1 dev eth0')
      await until('2001:db8::9', ({ received }) => received === 'captured 2001:db8::9 80')
      t.pass('as the routes say, soon after they say so')
      await agent.withdraw('uid-b')
      await dualStackClient.process.stop()
      world.inside('b', 'ip link del lan')
    },
  )

  await t.test(
    'a pod named by its IPv6 address alone calls IPv4 from the address that its namespace has for going out',
    async (t) => {
      world.inside(
        'b',
        `ip addr del ${ADDRESS.bV4}/32 dev eth0; ip addr add 169.254.172.2/32 dev eth0; ip route add default via 169.254.1.1 dev eth0 onlink`,
      )
      world.inside('node', 'ip route add 169.254.172.2/32 dev vb')
      t.match(await agent.enrol(world.pod('b', { addresses: [ADDRESS.bV6 as IpAddress] })), {
        listeners: 6,
      })
      const app = world.app('b')
      const seen = await app.connect({ address: '203.0.113.10', port: 80 })
      t.equal(seen.received, 'captured 203.0.113.10 80')
      t.match(seen.local, /^169\.254\.172\.2:/)
      const mapped = await app.connect({ address: '::ffff:203.0.113.10', port: 80 })
      t.equal(mapped.received, 'captured 203.0.113.10 80')
      t.match(mapped.local, /a9fe:ac02\]:/)
      const device = await app.connect({ address: '203.0.113.10', port: 81, device: 'eth0' })
      t.equal(device.received, 'captured 203.0.113.10 81')
      await agent.withdraw('uid-b')
      await app.process.stop()
      world.inside('node', 'ip route del 169.254.172.2/32 dev vb')
      world.inside(
        'b',
        `ip addr del 169.254.172.2/32 dev eth0; ip addr add ${ADDRESS.bV4}/32 dev eth0; ip route replace 169.254.1.1 dev eth0; ip route replace default via 169.254.1.1`,
      )
    },
  )

  await t.test('what goes to a second network goes by it, and the app sees so', async (t) => {
    world.inside(
      'node',
      `ip link add net1 type veth peer name net1 netns ${world.name}-b; ip link set net1 up;
       ip addr add 192.168.66.1/24 dev net1; ip addr add fd66::1/64 dev net1 nodad`,
    )
    world.inside(
      'b',
      'ip link set net1 up; ip addr add 192.168.66.2/24 dev net1; ip addr add fd66::2/64 dev net1 nodad',
    )
    const host = world.app('node', 'other')
    await host.serve('192.168.66.1', 9100)
    await host.serve('fd66::1', 9100)
    t.match(await agent.enrol(world.pod('b')), { listeners: 6 })
    const app = world.app('b')
    const cases = [
      { to: '192.168.66.1', from: '192.168.66.2', first: ADDRESS.bV4 },
      { to: 'fd66::1', from: 'fd66::2', first: ADDRESS.bV6 },
    ]
    for (const { to, from, first } of cases) {
      const inBrackets = (address: string): string =>
        address.includes(':') ? `[${address}]` : address
      const near = await app.connect({ address: to, port: 9100 })
      t.equal(near.received, `captured ${to} 9100`)
      t.ok(near.local?.startsWith(`${inBrackets(from)}:`), `${near.local}: its own on that network`)
      // As the agent passes it on: the namespace's routes choose device and source.
      const onward = { uid: 'uid-b', address: to, port: 9100 }
      t.equal(await agent.process.ask('upstream', onward), `app saw ${from} at ${to}`)
      const far = to.includes(':') ? 'fd99::9' : SERVICE
      const elsewhere = await app.connect({ address: far, port: 80 })
      t.equal(elsewhere.received, `captured ${far} 80`)
      t.ok(elsewhere.local?.startsWith(`${inBrackets(first)}:`), `${elsewhere.local}: its first`)
      const bound = await app.connect({ address: to, port: 9100, localAddress: from })
      t.equal(bound.received, `captured ${to} 9100`)
      t.ok(bound.local?.startsWith(`${inBrackets(from)}:`), `${bound.local}: what it bound`)
      // Loopback is no way out for a socket that is bound to a device, nor is an address of another device.
      const onDevice = await app.connect({ address: to, port: 9100, device: 'net1' })
      t.equal(onDevice.received, `captured ${to} 9100`)
    }
    const own = await app.connect({ address: '192.168.66.2', port: 9101 })
    t.equal(own.error, 'ECONNREFUSED', 'its own address on a second network stays in the pod')
    await agent.withdraw('uid-b')
    await host.process.stop()
    await app.process.stop()
    world.inside('node', 'ip link del net1')
  })

  await t.test('nothing waits in the maps when all is done', async (t) => {
    t.match(await agent.stats(), { pendingConnections: 0, trustedConnections: 0, enrolledPods: 1 })
  })
})
