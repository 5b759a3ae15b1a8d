// SPDX-License-Identifier: Apache-2.0
// Given an enrolled pod, when somebody connects to it, then the agent gets the connection whatever the port, with
// nothing rewritten, and the application gets only what the agent, the kubelet or the pod itself sends.

import { mkdirSync, rmdirSync, statSync } from 'node:fs'
import t from 'tap'
import type { IpAddress } from '../../mesh/model/types.ts'
import { missing } from '../helpers.ts'
import { until } from '../support/until.ts'
import { ADDRESS, World } from './support/world.ts'

const skip = missing('root', 'cgroup2')

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test('inbound', { skip }, async (t) => {
  const world = new World(t)
  const agent = await world.openAgent()
  const remote = world.app('remote')
  const server = world.app('a')
  await server.serve('0.0.0.0', 8080)
  await server.serve('::', 8080)
  t.match(await agent.enrol(world.pod('a')), { listeners: 6 })

  await t.test(
    'any port reaches the plaintext listener with its destination and the real client',
    async (t) => {
      for (const port of [8080, 1, 65_535]) {
        const seen = await remote.connect({ address: ADDRESS.aV4, port })
        t.equal(seen.received, `plaintext ${ADDRESS.aV4} ${port} from ${ADDRESS.remoteV4}`)
      }
      const v6 = await remote.connect({ address: ADDRESS.aV6, port: 8080 })
      t.equal(v6.received, `plaintext ${ADDRESS.aV6} 8080 from ${ADDRESS.remoteV6}`)
    },
  )

  await t.test('port 15008 reaches the HBONE listener', async (t) => {
    const v4 = await remote.connect({ address: ADDRESS.aV4, port: 15_008 })
    t.equal(v4.received, `hbone ${ADDRESS.aV4} 15008 from ${ADDRESS.remoteV4}`)
    const v6 = await remote.connect({ address: ADDRESS.aV6, port: 15_008 })
    t.equal(v6.received, `hbone ${ADDRESS.aV6} 15008 from ${ADDRESS.remoteV6}`)
  })

  await t.test(
    'edge case #21: 15001 and 15006 from outside arrive as plaintext with that destination',
    async (t) => {
      for (const port of [15_001, 15_006]) {
        const seen = await remote.connect({ address: ADDRESS.aV4, port })
        t.equal(seen.received, `plaintext ${ADDRESS.aV4} ${port} from ${ADDRESS.remoteV4}`)
      }
    },
  )

  await t.test("the agent reaches the application with the client's own address", async (t) => {
    const sourceIp = ADDRESS.remoteV4 as IpAddress
    const v4 = { uid: 'uid-a', address: ADDRESS.aV4, port: 8080, sourceIp }
    t.equal(
      await agent.process.ask('upstream', v4),
      `app saw ${ADDRESS.remoteV4} at ${ADDRESS.aV4}`,
    )
    const v6 = { uid: 'uid-a', address: ADDRESS.aV6, port: 8080, sourceIp: ADDRESS.remoteV6 }
    t.equal(
      await agent.process.ask('upstream', v6),
      `app saw ${ADDRESS.remoteV6} at ${ADDRESS.aV6}`,
    )
    const loopback = { uid: 'uid-a', address: '127.0.0.1', port: 8080, sourceIp }
    t.equal(
      await agent.process.ask('upstream', loopback),
      `app saw ${ADDRESS.remoteV4} at 127.0.0.1`,
    )
    const closed = { uid: 'uid-a', address: ADDRESS.aV4, port: 8081, sourceIp }
    t.match(
      await agent.process.ask('upstream', closed),
      /ECONNREFUSED/,
      'at once, not by a timeout',
    )
  })

  await t.test('strict reverse path filtering in the pod does not stop it', async (t) => {
    world.inside('a', 'for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $f; done')
    const onward = { uid: 'uid-a', address: ADDRESS.aV4, port: 8080, sourceIp: ADDRESS.remoteV4 }
    t.match(await agent.process.ask('upstream', onward), /^app saw 10\.97\.0\.2/)
    t.match((await remote.connect({ address: ADDRESS.aV4, port: 8080 })).received, /^plaintext/)
    const app = world.app('a')
    t.match((await app.connect({ address: '10.96.0.80', port: 80 })).received, /^captured/)
    const bound = await app.connect({ address: '10.96.0.80', port: 80, device: 'eth0' })
    t.match(bound.received, /^captured/)
    world.inside('a', 'for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done')
    await app.process.stop()
  })

  await t.test(
    "the agent's call from one pod to another on the node meets that pod's capture",
    async (t) => {
      t.match(await agent.enrol(world.pod('b')), { listeners: 6 })
      const seen = await agent.process.ask('upstream', {
        uid: 'uid-b',
        address: ADDRESS.aV4,
        port: 8080,
      })
      t.equal(seen, `plaintext ${ADDRESS.aV4} 8080 from ${ADDRESS.bV4}`)
      await agent.withdraw('uid-b')
    },
  )

  await t.test(
    'edge case #18: a kubelet probe goes to the application, source unchanged',
    async (t) => {
      const kubelet = world.app('node', 'kubelet')
      const v4 = await kubelet.connect({ address: ADDRESS.aV4, port: 8080 })
      t.equal(v4.received, `app saw ${ADDRESS.nodeV4} at ${ADDRESS.aV4}`)
      const v6 = await kubelet.connect({ address: ADDRESS.aV6, port: 8080 })
      t.equal(v6.received, `app saw ${ADDRESS.nodeV6} at ${ADDRESS.aV6}`)
      t.equal((await kubelet.connect({ address: ADDRESS.aV4, port: 8081 })).error, 'ECONNREFUSED')
      await kubelet.process.stop()
    },
  )

  await t.test(
    'a kubelet that is restarted, in a cgroup of the same path and another id, is known again',
    async (t) => {
      const directory = `${world.cgroup}/kubelet`
      const before = statSync(directory).ino
      // As systemd does with the cgroup of a service that it stops and starts.
      rmdirSync(directory)
      mkdirSync(directory)
      t.not(statSync(directory).ino, before)
      const kubelet = world.app('node', 'kubelet')
      const probe = async (): Promise<string | undefined> =>
        (await kubelet.connect({ address: ADDRESS.aV4, port: 8080 })).received
      await until(
        async () => (await probe()) === `app saw ${ADDRESS.nodeV4} at ${ADDRESS.aV4}`,
        'its probes to be told from other calls',
      )
      t.pass('within the time in which the agent looks for it')
      await kubelet.process.stop()
    },
  )

  await t.test('edge case #19: another process of the node is a plaintext caller', async (t) => {
    const curl = world.app('node', 'other')
    const seen = await curl.connect({ address: ADDRESS.aV4, port: 8080 })
    t.equal(seen.received, `plaintext ${ADDRESS.aV4} 8080 from ${ADDRESS.nodeV4}`)
    await curl.process.stop()
  })

  await t.test(
    "a process in the kubelet's cgroup but another namespace is a plaintext caller",
    async (t) => {
      const impostor = world.app('b', 'kubelet')
      const seen = await impostor.connect({ address: ADDRESS.aV4, port: 8080 })
      t.equal(seen.received, `plaintext ${ADDRESS.aV4} 8080 from ${ADDRESS.bV4}`)
      await impostor.process.stop()
    },
  )

  await t.test(
    "edge case #17: a client hidden behind the node's address inherits no trust from a probe",
    async (t) => {
      const kubelet = world.app('node', 'kubelet')
      const probe = {
        address: ADDRESS.aV4,
        port: 8080,
        localAddress: ADDRESS.nodeV4,
        localPort: 41_000,
      }
      t.match((await kubelet.connect(probe)).received, /^app saw/)
      await until(
        async () => (await agent.stats()).trustedConnections === 0,
        'it to be forgotten once the probe was answered',
      )
      world.inside(
        'node',
        'nft add table ip nat; nft add chain ip nat post "{ type nat hook postrouting priority 100; }"; nft add rule ip nat post ip saddr 10.97.0.2 snat to 10.97.0.1',
      )
      const seen = await remote.connect({ address: ADDRESS.aV4, port: 8080 })
      t.equal(seen.received, `plaintext ${ADDRESS.aV4} 8080 from ${ADDRESS.nodeV4}`)
      world.inside('node', 'nft delete table ip nat')
      await kubelet.process.stop()
    },
  )

  await t.test(
    "a pod that has taken the node's and a neighbour's addresses takes no trust from the neighbour's probe",
    async (t) => {
      t.match(await agent.enrol(world.pod('b')), { listeners: 6 })
      const kubelet = world.app('node', 'kubelet')
      const [thief, victim] = [world.app('b'), ADDRESS.aV4]
      await thief.serve('0.0.0.0', 8080)
      const tuple = {
        address: victim,
        port: 8080,
        localAddress: ADDRESS.nodeV4,
        localPort: 41_001,
        options: [[1, 2, 1]], // SO_REUSEADDR
      } as const
      world.inside(
        'a',
        'nft add table ip slow; nft add chain ip slow in "{ type filter hook prerouting priority -300; }"; nft add rule ip slow in tcp dport 8080 counter drop',
      )
      const probing = kubelet.connect(tuple)
      await until(
        () => /counter packets [1-9]/.test(world.inside('a', 'nft list table ip slow')),
        'the SYN of the probe',
      )
      world.inside('b', `ip addr add ${victim}/32 dev lo; ip addr add ${ADDRESS.nodeV4}/32 dev lo`)
      const stolen = await thief.connect({ ...tuple, keep: true })
      t.equal(stolen.error, undefined, 'a connection that looks like the probe is accepted there')
      world.inside('a', 'nft delete table ip slow')
      t.equal((await probing).received, `app saw ${ADDRESS.nodeV4} at ${victim}`)
      await until(
        async () => (await agent.stats()).trustedConnections === 0,
        'the trust to end with the probe',
      )
      await thief.process.stop()
      await kubelet.process.stop()
      world.inside('b', `ip addr del ${victim}/32 dev lo; ip addr del ${ADDRESS.nodeV4}/32 dev lo`)
      await agent.withdraw('uid-b')
    },
  )

  await t.test("edge case #20: the pod's calls to itself stay in it", async (t) => {
    const app = world.app('a')
    const seen = await app.connect({ address: ADDRESS.aV4, port: 8080 })
    t.equal(seen.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.aV4}`)
    const hairpin = { uid: 'uid-a', address: ADDRESS.aV4, port: 8080, sourceIp: ADDRESS.aV4 }
    t.equal(
      await agent.process.ask('upstream', hairpin),
      `app saw ${ADDRESS.aV4} at ${ADDRESS.aV4}`,
    )
    await app.process.stop()
  })

  await t.test('edge case #25: SYN cookies change nothing', async (t) => {
    world.inside('a', 'echo 2 > /proc/sys/net/ipv4/tcp_syncookies')
    const app = world.app('a')
    t.equal(
      (await app.connect({ address: '10.96.0.80', port: 80 })).received,
      'captured 10.96.0.80 80',
    )
    t.match((await remote.connect({ address: ADDRESS.aV4, port: 8080 })).received, /^plaintext/)
    const onward = { uid: 'uid-a', address: ADDRESS.aV4, port: 8080, sourceIp: ADDRESS.remoteV4 }
    t.match(await agent.process.ask('upstream', onward), /^app saw 10\.97\.0\.2/)
    const kubelet = world.app('node', 'kubelet')
    t.match((await kubelet.connect({ address: ADDRESS.aV4, port: 8080 })).received, /^app saw/)
    world.inside('a', 'echo 1 > /proc/sys/net/ipv4/tcp_syncookies')
    await kubelet.process.stop()
    await app.process.stop()
  })

  await t.test(
    'edge case #30: a restarting application binds its port while the agent holds its connections',
    async (t) => {
      const held = await remote.process.ask('hold', { address: ADDRESS.aV4, port: 9191 })
      t.type(held, 'number')
      const app = world.app('a')
      const listening = await app.process.ask('tryListen', { address: '0.0.0.0', port: 9191 })
      const { bindReuseFailed = 0 } = await agent.counters()
      // Before 6.1: docs/capture.md says what an application without the option meets there.
      t.equal(listening, bindReuseFailed > 0 ? 'EADDRINUSE' : 'ok')
      t.equal(
        await app.process.ask('tryListen', { address: '0.0.0.0', port: 8080 }),
        'EADDRINUSE',
        'two listeners still exclude each other',
      )
      await app.process.stop()
      await remote.process.ask('close')
    },
  )

  await t.test(
    'edge case #39: an address the pod got later is served without anybody naming it, until it is gone',
    async (t) => {
      world.inside('a', 'ip addr add 10.98.0.22/32 dev eth0')
      world.inside('node', 'ip route add 10.98.0.22/32 dev va')
      const seen = await remote.connect({ address: '10.98.0.22', port: 8080 })
      t.equal(seen.received, `plaintext 10.98.0.22 8080 from ${ADDRESS.remoteV4}`)
      const onward = { uid: 'uid-a', address: '10.98.0.22', port: 8080, sourceIp: ADDRESS.remoteV4 }
      t.equal(
        await agent.process.ask('upstream', onward),
        `app saw ${ADDRESS.remoteV4} at 10.98.0.22`,
      )
      world.inside('a', 'ip addr del 10.98.0.22/32 dev eth0')
      t.ok((await remote.connect({ address: '10.98.0.22', port: 8080 })).error)
      world.inside('node', 'ip route del 10.98.0.22/32 dev va')
    },
  )

  await t.test(
    'a floating address is served by the pod that has it, and then the other',
    async (t) => {
      t.match(await agent.enrol(world.pod('b')), { listeners: 6 })
      const other = world.app('b')
      await other.serve('0.0.0.0', 8080)
      const onward = { address: '10.98.0.30', port: 8080, sourceIp: ADDRESS.remoteV4 }
      for (const site of ['a', 'b', 'a'] as const) {
        world.inside(site, 'ip addr add 10.98.0.30/32 dev eth0')
        world.inside('node', `ip route replace 10.98.0.30/32 dev v${site}`)
        const before = await agent.counters()
        const seen = await remote.connect({ address: '10.98.0.30', port: 8080 })
        t.equal(seen.received, `plaintext 10.98.0.30 8080 from ${ADDRESS.remoteV4}`)
        const hbone = await remote.connect({ address: '10.98.0.30', port: 15_008 })
        t.equal(hbone.received, `hbone 10.98.0.30 15008 from ${ADDRESS.remoteV4}`)
        t.equal(
          await agent.process.ask('upstream', { ...onward, uid: `uid-${site}` }),
          `app saw ${ADDRESS.remoteV4} at 10.98.0.30`,
        )
        t.equal((await agent.counters())['inDropNoAgent'], before['inDropNoAgent'])
        world.inside(site, 'ip addr del 10.98.0.30/32 dev eth0')
      }
      await agent.withdraw('uid-b')
      await other.process.stop()
    },
  )

  await t.test('two pods with one address on networks of their own do not meet', async (t) => {
    t.match(await agent.enrol(world.pod('b')), { listeners: 6 })
    const other = world.app('b')
    await other.serve('0.0.0.0', 8080)
    for (const [site, net] of [
      ['a', 66],
      ['b', 67],
    ] as const) {
      world.inside(
        'node',
        `ip link add net${site} type veth peer name net1 netns ${world.name}-${site}`,
      )
      world.inside(
        'node',
        `ip addr add 192.168.${net}.1/24 dev net${site}; ip link set net${site} up`,
      )
      world.inside(
        site,
        `ip link set net1 up; ip addr add 192.168.${net}.2/24 dev net1; ip addr add 192.168.99.9/32 dev net1`,
      )
    }
    const host = world.app('node', 'other')
    for (const [site, net] of [
      ['a', 66],
      ['b', 67],
    ] as const) {
      world.inside('node', `ip route replace 192.168.99.9/32 dev net${site}`)
      const seen = await host.connect({
        address: '192.168.99.9',
        port: 8080,
        localAddress: `192.168.${net}.1`,
      })
      t.equal(seen.received, `plaintext 192.168.99.9 8080 from 192.168.${net}.1`)
      // Trust is of one namespace: what the agent opens in one pod is no way into the other.
      const sourceIp = `192.168.${net}.1`
      const onward = { uid: `uid-${site}`, address: '192.168.99.9', port: 8080, sourceIp }
      t.equal(await agent.process.ask('upstream', onward), `app saw ${sourceIp} at 192.168.99.9`)
    }
    await agent.withdraw('uid-b')
    await host.process.stop()
    await other.process.stop()
  })

  await t.test(
    "edge case #29: the agent's source ports stay clear of the clients', whatever the pod's sysctls",
    async (t) => {
      await server.serve('0.0.0.0', 8085)
      world.inside('a', 'echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range')
      const onward = { uid: 'uid-a', address: ADDRESS.aV4, port: 8085, sourceIp: ADDRESS.remoteV4 }
      for (let index = 0; index < 10; index += 1)
        t.match(await agent.process.ask('upstream', onward), /^app saw/)
      const ports = sourcePorts(world.inside('a', 'ss -Htan sport = :8085 and dst 10.97.0.2'))
      t.ok(ports.length >= 10)
      t.ok(
        ports.every((port) => port >= 32_768 && port % 2 === 1),
        `${ports.join(' ')} are odd; Linux clients use even`,
      )
      world.inside('a', 'echo 32768 60999 > /proc/sys/net/ipv4/ip_local_port_range')
    },
  )

  await t.test(
    "a client's own connection is never met by the agent's, whoever chose the port first",
    async (t) => {
      await server.serve('0.0.0.0', 8086)
      await server.serve('::', 8086)
      for (const [address, sourceIp] of [
        [ADDRESS.aV4, ADDRESS.remoteV4],
        [ADDRESS.aV6, ADDRESS.remoteV6],
      ] as const) {
        // Two neighbours, held: the agent, made to begin with the first, must come to the third.
        for (const localPort of [40_000, 40_002])
          await remote.process.ask('hold', { address, port: 8086, localPort })
        const before = await agent.counters()
        const seen = await agent.process.ask('upstream', {
          uid: 'uid-a',
          address,
          port: 8086,
          sourceIp,
          sourcePort: 40_000,
        })
        t.equal(seen, `app saw ${sourceIp} at ${address}`)
        const after = await agent.counters()
        t.equal((after.outDenyTupleTaken ?? 0) - (before.outDenyTupleTaken ?? 0), 2)
        t.equal(
          after.inAssignedPlaintext,
          before.inAssignedPlaintext,
          'a question is no connection',
        )
        t.ok(
          sourcePorts(world.inside('a', `ss -Htan sport = :8086 and dst [${sourceIp}]`)).includes(
            40_004,
          ),
        )
      }
      await remote.process.ask('close')
    },
  )

  await t.test('withdrawn, the pod is as it was', async (t) => {
    await agent.withdraw('uid-a')
    const seen = await remote.connect({ address: ADDRESS.aV4, port: 8080 })
    t.equal(seen.received, `app saw ${ADDRESS.remoteV4} at ${ADDRESS.aV4}`)
    t.notMatch(world.inside('a', 'ip rule; ip -6 rule'), /0x111/)
    t.equal(world.inside('a', 'ip route show table 100; ip -6 route show table 100'), '')
    t.equal(world.inside('a', 'cat /proc/sys/net/ipv4/tcp_fwmark_accept').trim(), '0')
    t.match(await agent.stats(), { enrolledPods: 0, listeners: 0, pendingConnections: 0 })
  })
})

/** The clients' ports in what ss lists of a server's connections. */
function sourcePorts(listed: string): number[] {
  return [...listed.matchAll(/(?:10\.97\.0\.2|\[fd97::2\]):(\d+)/g)].map(([, port]) => Number(port))
}
