// SPDX-License-Identifier: Apache-2.0
// What becomes of the options of an app's socket, row by row of the table in docs/capture.md, as the packets tell that leave its pod.
// Those of which a time tells are in captured-traffic.test.ts.

import { existsSync } from 'node:fs'
import t from 'tap'
import type { RawConnect } from '../capture/support/raw-socket.ts'
import { RemoteProcess } from '../capture/support/rpc.ts'
import { ADDRESS, BPF_OBJECT, World } from '../capture/support/world.ts'
import { missing } from '../helpers.ts'
import { until } from '../support/until.ts'

const skip = missing('root', 'cgroup2') || (existsSync(BPF_OBJECT) ? false : 'needs bpf/build')
const PORT = 8090

const [SOL_IP, SOL_SOCKET, SOL_TCP, SOL_IPV6] = [0, 1, 6, 41]
const [IP_TOS, IPV6_TCLASS] = [1, 67]
const [SO_REUSEADDR, SO_SNDBUF, SO_RCVBUF, SO_PRIORITY, SO_MAX_PACING_RATE] = [2, 7, 8, 12, 47]
const [TCP_MAXSEG, TCP_CONGESTION] = [2, 13]

await t.test("an app's socket options", { skip }, async (t) => {
  const world = new World(t)
  const agent = new RemoteProcess(new URL('./support/data-plane-process.ts', import.meta.url), {
    netns: world.netns('node'),
    cgroup: `${world.cgroup}/agent`,
    wrapper: ['sh', '-c', 'exec "$@" >/dev/null', 'sh'],
  })
  t.teardown(() => agent.stop('SIGKILL'))
  await agent.ask('open', {
    cgroupPath: world.cgroup,
    bpffsDir: world.bpffs,
    bpfObjectPath: BPF_OBJECT,
  })
  const app = world.app('a')
  for (const site of ['b', 'remote'] as const)
    for (const address of ['0.0.0.0', '::']) await world.app(site).serve(address, PORT, true)
  await agent.ask('enrol', { node: 'near', pod: world.pod('a') })
  await agent.ask('enrol', { node: 'far', pod: world.pod('b') })
  await agent.ask('mesh', [])

  /** Counts what leaves the pod and is like this, in the words of nftables; gives what reads the count. */
  const counted = (name: string, like: string): (() => number) => {
    world.inside(
      'a',
      `nft "add table inet seen; add chain inet seen out { type filter hook output priority 0; }; add counter inet seen ${name}; add rule inet seen out ${like} counter name ${name}"`,
    )
    return () => {
      const said = world.inside('a', `nft list counter inet seen ${name}`)
      return Number(/packets (\d+)/.exec(said)?.[1])
    }
  }
  const ROADS = [
    ['outside', ADDRESS.remoteV4, `oifname eth0 tcp dport ${PORT}`],
    ['hbone', ADDRESS.bV4, 'oifname eth0 tcp dport 15008'],
  ] as const
  /** Of the agent's leg, or of the app's own socket, as `ss` tells. */
  const told = (filter: string): string => world.inside('a', `ss -Htinm ${filter}`)
  /** The far ends of what stands at a server. */
  const peersAt = (site: 'b' | 'remote'): readonly string[] =>
    world
      .inside(site, `ss -Htn state established sport = :${PORT}`)
      .split('\n')
      .map((line) => line.trim().split(/\s+/).at(-1) ?? '')
      .filter((peer) => peer !== '')
  /** Calls, keeps the connection, and gives the far end that the server sees. */
  const call = async (wanted: Omit<RawConnect, 'port'>): Promise<string | undefined> => {
    const site = wanted.address === ADDRESS.bV4 ? 'b' : 'remote'
    const before = peersAt(site)
    t.match(await app.connect({ ...wanted, port: PORT, keep: true }), { error: undefined })
    const news = (): readonly string[] => peersAt(site).filter((peer) => !before.includes(peer))
    await until(() => news().length > 0, 'the connection at its server')
    return news()[0]
  }

  await t.test('the class of traffic is carried outside, not over HBONE', async (t) => {
    for (const [road, address, leg] of ROADS) {
      const marked = counted(`tos_${road}`, `${leg} ip dscp 10`)
      await call({ address, options: [[SOL_IP, IP_TOS, 0x28]] })
      t.equal(marked() > 0, road === 'outside', road)
    }
    const six = counted('tclass', `tcp dport ${PORT} ip6 dscp 10`)
    await call({ address: ADDRESS.remoteV6, options: [[SOL_IPV6, IPV6_TCLASS, 0x28]] })
    t.ok(six() > 0, 'IPv6')
  })

  await t.test(
    'priority, congestion control, segment size, buffers and pacing hold up to the agent, and no further',
    async (t) => {
      const usual = world.inside('a', 'cat /proc/sys/net/ipv4/tcp_congestion_control').trim()
      const unusual = usual === 'reno' ? 'cubic' : 'reno'
      const options = [
        [SOL_SOCKET, SO_PRIORITY, 5],
        [SOL_SOCKET, SO_RCVBUF, 20_000],
        [SOL_SOCKET, SO_SNDBUF, 20_000],
        [SOL_SOCKET, SO_MAX_PACING_RATE, 125_000],
        [SOL_TCP, TCP_MAXSEG, 600],
        [SOL_TCP, TCP_CONGESTION, unusual],
      ] as const
      for (const [road, address, leg] of ROADS) {
        const upToAgent = counted(`near_${road}`, 'oifname lo tcp dport 15001 meta priority 0:5')
        const beyond = counted(`far_${road}`, `${leg} meta priority 0:5`)
        const localPort = road === 'hbone' ? 33_401 : 33_402
        await call({ address, options, localAddress: ADDRESS.aV4, localPort })
        t.ok(upToAgent() > 0, `${road}: its own packets have the priority`)
        t.equal(beyond(), 0, "the agent's have not")
        const own = told(`sport = :${localPort} and dport = :15001`)
        t.match(own, new RegExp(` ${unusual} .*mss:(600|588) `))
        t.match(own, /rb40000,.*tb40000/)
        t.match(own, /pacing_rate (1000000|1M)bps\/(1000000|1M)bps/)
        const legs = told(road === 'hbone' ? 'dport = :15008' : `dport = :${PORT}`)
        t.match(legs, new RegExp(` ${usual} .*mss:1448 `))
        t.notMatch(legs, /rb40000|tb40000|\/(1000000|1M)bps|mss:(600|588) /)
        t.notMatch(legs, ` ${unusual} `)
      }
    },
  )

  await t.test('a mark stays where the app set it', async (t) => {
    for (const [road, address, leg] of ROADS) {
      const upToAgent = counted(`marked_${road}`, 'oifname lo tcp dport 15001 meta mark 0x539')
      const beyond = counted(`beyond_${road}`, `${leg} meta mark 0x539`)
      await call({ address, mark: 0x539 })
      t.ok(upToAgent() > 0, road)
      t.equal(beyond(), 0)
    }
  })

  await t.test('a port that the app chose is seen outside; over HBONE it is another', async (t) => {
    const from = { localAddress: ADDRESS.aV4, localPort: 33_403 }
    for (const [road, address] of ROADS) {
      const options = [[SOL_SOCKET, SO_REUSEADDR, 1]] as const
      const seen = await call({ address, ...from, options })
      t.equal(seen === `${ADDRESS.aV4}:33403`, road === 'outside', `${road}: ${seen}`)
    }
  })

  await t.test('the address of the device that a socket is bound to goes with it', async (t) => {
    world.inside('a', 'ip link add second type veth peer name other; ip link set other up')
    world.inside('a', 'ip link set second up; ip addr add 10.98.7.2/32 dev second')
    world.inside('node', 'ip route add 10.98.7.2/32 dev va')
    for (const site of ['b', 'remote'] as const) await world.app(site).serve('0.0.0.0', PORT + 1)
    // The kernel tells the agent of the device; `ip` does not wait for that.
    const bySecond = { address: ADDRESS.bV4, port: PORT + 1, device: 'second' }
    await until(
      async () => (await app.connect(bySecond)).received !== undefined,
      'a call by the device that came',
    )
    for (const address of [ADDRESS.remoteV4, ADDRESS.bV4]) {
      const seen = await app.connect({ address, port: PORT + 1, device: 'second' })
      t.equal(seen.received, `app saw 10.98.7.2 at ${address}`)
    }
    const seen = await app.connect({ address: ADDRESS.bV4, port: PORT + 1, device: 'eth0' })
    t.equal(seen.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.bV4}`)
  })

  await t.test("a server's options see the agent's connection", async (t) => {
    const server = world.app('b')
    await server.serve('0.0.0.0', PORT + 2, { savesSyn: true })
    const from = { localAddress: ADDRESS.aV4, localPort: 33_404 }
    const seen = await app.connect({ address: ADDRESS.bV4, port: PORT + 2, ...from })
    t.match(seen.received, /^port \d+ segments 65495$/, 'a SYN from within the pod')
    t.notMatch(seen.received, /33404/)
    await server.serve('0.0.0.0', PORT + 3, { hold: true, defersAccept: true })
    const held = await app.process.ask<number>('hold', { address: ADDRESS.bV4, port: PORT + 3 })
    t.equal(await app.process.ask('echo', { index: held, text: 'late' }), 'late')
  })

  await t.test(
    'a signature of TCP (MD5) ends at the agent: a server that wants one does not hear it',
    async (t) => {
      const server = world.app('remote')
      await server.serve('0.0.0.0', PORT + 4, { signTo: ADDRESS.aV4 })
      const unsigned = (): number =>
        Number(
          /TcpExtTCPMD5NotFound\s+(\d+)/.exec(
            world.inside('remote', 'nstat -asz TcpExtTCPMD5NotFound'),
          )?.[1],
        )
      const before = unsigned()
      const signed = { address: ADDRESS.remoteV4, port: PORT + 4, signTo: ADDRESS.remoteV4 }
      t.match(
        await app.connect({ ...signed, keep: true }),
        { error: undefined },
        'the agent takes it',
      )
      await until(() => unsigned() > before, 'an unsigned SYN at the server')
      await agent.ask('withdraw', { node: 'near', uid: 'uid-a' })
      const plain = await app.connect(signed)
      t.equal(plain.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.remoteV4}`, 'without the mesh')
    },
  )
})
