// SPDX-License-Identifier: Apache-2.0
// Given two enrolled pods in their own network namespaces, when their apps talk, then real capture, real workers and
// real HBONE carry them, and neither app can tell.

import { existsSync, readFileSync, rmSync } from 'node:fs'
import t from 'tap'
import { RemoteProcess } from '../capture/support/rpc.ts'
import { ADDRESS, BPF_OBJECT, World } from '../capture/support/world.ts'
import { wholeLines } from '../../lab/machine/whole-lines.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { deadline, missing } from '../helpers.ts'
import { until } from '../support/until.ts'

const skip = missing('root', 'cgroup2') || (existsSync(BPF_OBJECT) ? false : 'needs bpf/build')
const VIP_A = '10.96.7.1'
const VIP_B = '10.96.7.2'

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
interface ExportedRecord {
  readonly attributes: readonly { readonly key: string }[]
}

/** An ExportLogsServiceRequest, as JSON. */
interface ExportedLogs {
  readonly resourceLogs: readonly {
    readonly resource: unknown
    readonly scopeLogs: readonly { readonly logRecords: readonly ExportedRecord[] }[]
  }[]
}

/** Has an app ask for keepalive on one open connection, for a user time-out on another: after connect(), as many libraries do. */
async function askForHaste(app: RemoteProcess, idle: number, busy: number): Promise<void> {
  for (const [index, level, name, value] of [
    [idle, 6, 4, 2], // TCP_KEEPIDLE
    [idle, 6, 5, 1], // TCP_KEEPINTVL
    [idle, 6, 6, 3], // TCP_KEEPCNT
    [idle, 1, 9, 1], // SO_KEEPALIVE
    [busy, 6, 18, 3000], // TCP_USER_TIMEOUT
  ] as const)
    await app.ask('ask', { index, level, name, value })
}

await t.test('captured traffic', { skip }, async (t) => {
  const world = new World(t)
  const logFile = `/tmp/${world.name}.log`
  const agent = new RemoteProcess(new URL('./support/data-plane-process.ts', import.meta.url), {
    netns: world.netns('node'),
    cgroup: `${world.cgroup}/agent`,
    wrapper: ['sh', '-c', `exec "$@" >${logFile}`, 'sh'],
  })
  t.teardown(async () => {
    await agent.stop('SIGKILL')
    rmSync(logFile, { force: true })
  })
  /** The first access line that matches; lines are written before the app hears of the end or just after. */
  const line = async (matches: (line: Record<string, unknown>) => boolean) => {
    let found: Record<string, unknown> | undefined
    await until(() => {
      found = wholeLines(readFileSync(logFile, 'utf8'))
        .filter((text) => text.startsWith('{') && text.includes('connection complete'))
        .map((text) => JSON.parse(text) as Record<string, unknown>)
        .find(matches)
      return found !== undefined
    }, 'an access line')
    return found
  }

  await agent.ask('open', {
    cgroupPath: world.cgroup,
    bpffsDir: world.bpffs,
    bpfObjectPath: BPF_OBJECT,
    kubeletCgroups: [`${world.cgroup}/kubelet`],
  })
  // The asking app blocks while it waits, so that another process of the pod serves.
  const [a, remote] = [world.app('a'), world.app('remote')]
  for (const app of [world.app('a'), world.app('b'), world.app('remote')]) {
    await app.serve('0.0.0.0', 8080)
    await app.serve('::', 8080)
  }
  await agent.ask('enrol', { node: 'near', pod: world.pod('a') })
  await agent.ask('enrol', { node: 'far', pod: world.pod('b') })
  await agent.ask('mesh', [
    { name: 'a', vip: VIP_A, targetPort: 8080, pods: ['pod-a'] },
    { name: 'b', vip: VIP_B, targetPort: 8080, pods: ['pod-b'] },
  ])

  await t.test(
    'a service of another node is reached by HBONE, and both ends look natural',
    async (t) => {
      const seen = await a.connect({ address: VIP_B, port: 80 })
      t.equal(seen.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.bV4}`)
      t.match(seen.peer, VIP_B, 'the app still sees the address it dialled')
      const inbound = await line((entry) => entry['direction'] === 'inbound')
      t.match(inbound, {
        'src.identity': 'spiffe://cluster.local/ns/shop/sa/pod-a',
        'dst.identity': 'spiffe://cluster.local/ns/shop/sa/pod-b',
        'dst.hbone_addr': `${ADDRESS.bV4}:8080`,
      })
      t.match(inbound?.['src.addr'], new RegExp(`^${ADDRESS.aV4}:`))
    },
  )

  await t.test('its access lines are exported by OTLP, as what they are', async (t) => {
    let inbound: ExportedRecord | undefined
    await until(async () => {
      inbound = (await agent.ask<readonly ExportedLogs[]>('exported'))
        .flatMap(({ resourceLogs }) => resourceLogs)
        .flatMap(({ scopeLogs }) => scopeLogs)
        .flatMap(({ logRecords }) => logRecords)
        .find(({ attributes }) => JSON.stringify(attributes).includes('"inbound"'))
      return inbound !== undefined
    }, 'an exported access line')
    t.match(inbound, { severityText: 'INFO', body: { stringValue: 'connection complete' } })
    const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } })
    t.hasStrict(
      inbound?.attributes.filter(({ key }) => key === 'dst.hbone_addr' || key === 'src.identity'),
      [
        attribute('src.identity', 'spiffe://cluster.local/ns/shop/sa/pod-a'),
        attribute('dst.hbone_addr', `${ADDRESS.bV4}:8080`),
      ],
    )
    const [first] = await agent.ask<readonly ExportedLogs[]>('exported')
    t.match(JSON.stringify(first?.resourceLogs[0]?.resource), /"k8s.node.name".*"near"/)
  })

  await t.test('a pod address is reached by HBONE over IPv6', async (t) => {
    const seen = await a.connect({ address: ADDRESS.bV6, port: 8080 })
    t.equal(seen.received, `app saw ${ADDRESS.aV6} at ${ADDRESS.bV6}`)
    t.ok(await line((entry) => entry['dst.addr'] === `[${ADDRESS.bV6}]:15008`))
  })

  await t.test('a call of the pod can be tried without its app, to its true end', async (t) => {
    const probe = (address: string, port: number, timeoutMs = deadline(5_000)): Promise<unknown> =>
      agent.ask('probeCall', { node: 'near', uid: world.pod('a').uid, address, port, timeoutMs })
    t.match(await probe(VIP_B, 80), {
      outcome: 'connected',
      seen: {
        dialled: `${ADDRESS.bV4}:15008`,
        hboneTarget: `${ADDRESS.bV4}:8080`,
        security: 'mutual_tls',
        workload: 'shop/pod-b',
        peerIdentity: 'spiffe://cluster.local/ns/shop/sa/pod-b',
      },
    })
    t.match(await probe(ADDRESS.bV6, 8080), {
      outcome: 'connected',
      seen: { security: 'mutual_tls' },
    })
    t.match(await probe(ADDRESS.remoteV4, 8080), {
      outcome: 'connected',
      seen: { dialled: `${ADDRESS.remoteV4}:8080`, security: 'unknown' },
    })
    t.match(
      await probe(ADDRESS.bV4, 8090),
      { outcome: 'refused', seen: { reason: 'hboneRefused', message: /503/ } },
      'the agent takes every call: that nobody listens, only the far end knows',
    )
    t.match(await probe(ADDRESS.remoteV4, 8090), {
      outcome: 'refused',
      seen: { reason: 'connectFailed', message: /ECONNREFUSED/ },
    })
    const own: unknown = await probe(ADDRESS.aV4, 8080)
    t.match(own, { outcome: 'connected' })
    t.notOk('seen' in (own as object), 'the pod itself is not called through the agent')
    t.match(await probe(ADDRESS.aV4, 8090), { outcome: 'refused', error: 'ECONNREFUSED' })

    world.inside(
      'b',
      'nft add table ip mute; nft add chain ip mute in "{ type filter hook input priority 0; }"; nft add rule ip mute in tcp dport { 15008, 8099 } drop',
    )
    world.inside(
      'remote',
      'nft add table ip mute; nft add chain ip mute in "{ type filter hook input priority 0; }"; nft add rule ip mute in tcp dport 8098 drop',
    )
    t.match(await probe(VIP_B, 80, 500), {
      outcome: 'timedOut',
      seen: { dialled: `${ADDRESS.bV4}:15008` },
    })
    const silent = probe(ADDRESS.remoteV4, 8098, 500)
    await t.rejects(probe(VIP_B, 80), /being tried/, 'one at a time')
    t.match(await silent, {
      outcome: 'timedOut',
      seen: { dialled: `${ADDRESS.remoteV4}:8098`, security: 'unknown' },
    })
    for (const pod of ['b', 'remote'] as const) world.inside(pod, 'nft delete table ip mute')
  })

  await t.test("a pod's own service leads back to it", async (t) => {
    const seen = await a.connect({ address: VIP_A, port: 80 })
    t.equal(seen.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.aV4}`)
  })

  await t.test('an address outside the mesh is passed through from the pod itself', async (t) => {
    const seen = await a.connect({ address: ADDRESS.remoteV4, port: 8080 })
    t.equal(seen.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.remoteV4}`)
  })

  await t.test(
    "an outside server that is silent is waited for as long as the pod's kernel does",
    async (t) => {
      world.inside('a', 'echo 1 > /proc/sys/net/ipv4/tcp_syn_retries')
      world.inside(
        'remote',
        'nft add table ip mute; nft add chain ip mute in "{ type filter hook input priority 0; }"; nft add rule ip mute in tcp dport 8099 drop',
      )
      const waiting = world.app('a')
      await waiting.process.ask('hold', { address: ADDRESS.remoteV4, port: 8099 })
      const end = await line((entry) => entry['dst.addr'] === `${ADDRESS.remoteV4}:8099`)
      t.match(end, { error: /ETIMEDOUT/ }, "the kernel's own time-out, after two SYNs")
      world.inside('remote', 'nft delete table ip mute')
      world.inside('a', 'echo 6 > /proc/sys/net/ipv4/tcp_syn_retries')
    },
  )

  await t.test(
    'hundreds of connections of one address are told apart from those that the agent makes in its name',
    async (t) => {
      // As some distributions have it: clients take odd ports first. And the server's pod has set a range of its own.
      world.inside('remote', 'echo 40001 42401 > /proc/sys/net/ipv4/ip_local_port_range')
      world.inside('b', 'echo 40000 42400 > /proc/sys/net/ipv4/ip_local_port_range')
      await world.app('b').serve('0.0.0.0', 8081, true)
      const crowd = world.app('remote')
      const held: number[] = []
      for (let each = 0; each < 600; each += 1)
        held.push(await crowd.process.ask('hold', { address: ADDRESS.bV4, port: 8081 }))
      for (const index of held)
        t.equal(await crowd.process.ask('echo', { index, text: `${index}` }), `${index}`)
      world.inside('remote', 'echo 32768 60999 > /proc/sys/net/ipv4/ip_local_port_range')
      await crowd.process.stop()
    },
  )

  await t.test('an urgent byte stays in its place in the stream, on every road', async (t) => {
    const urgent = { port: 8082, urgent: true } as const
    for (const site of ['a', 'b', 'remote'] as const)
      await world.app(site).serve('0.0.0.0', 8082, true)
    const inPod = world.app('a')
    for (const [road, app, address] of [
      ['HBONE', inPod, ADDRESS.bV4],
      ['passthrough', inPod, ADDRESS.remoteV4],
      ['plaintext in', remote, ADDRESS.bV4],
    ] as const)
      t.equal((await app.connect({ ...urgent, address })).received, 'abc!def', road)
    await inPod.process.stop()
  })

  await t.test(
    'an app that bound its socket is seen with that address and port outside the mesh',
    async (t) => {
      world.inside('a', 'ip addr add 10.98.0.42/32 dev eth0')
      world.inside('node', 'ip route add 10.98.0.42/32 dev va')
      const seen = await a.connect({
        address: ADDRESS.remoteV4,
        port: 8080,
        localAddress: '10.98.0.42',
      })
      t.equal(seen.received, `app saw 10.98.0.42 at ${ADDRESS.remoteV4}`)
      const byMesh = await a.connect({ address: VIP_B, port: 80, localAddress: '10.98.0.42' })
      t.equal(byMesh.received, `app saw 10.98.0.42 at ${ADDRESS.bV4}`)
      world.inside('node', 'ip route del 10.98.0.42/32 dev va')
      world.inside('a', 'ip addr del 10.98.0.42/32 dev eth0')
    },
  )

  await t.test("an app hears of its server's disappearance in the time it asked for", async (t) => {
    await world.app('remote').serve('0.0.0.0', 8083, true)
    const inPod = world.app('a')
    const hold = () => inPod.process.ask<number>('hold', { address: ADDRESS.remoteV4, port: 8083 })
    const [idle, busy] = [await hold(), await hold()]
    for (const index of [idle, busy])
      t.equal(await inPod.process.ask('echo', { index, text: 'there' }), 'there')
    await askForHaste(inPod.process, idle, busy)
    // The agent has them once they stand at its own legs.
    await until(
      () => /timer:\(keepalive,[01]/.test(world.inside('a', 'ss -Htno dport = :8083')),
      'the asked keepalive',
    )
    world.inside(
      'remote',
      'nft add table ip mute; nft add chain ip mute in "{ type filter hook input priority 0; }"; nft add rule ip mute in tcp dport 8083 drop',
    )
    void inPod.process.ask('echo', { index: busy, text: 'gone' }).catch(() => undefined)
    t.same(await Promise.all([idle, busy].map((index) => inPod.process.ask('ended', index))), [
      'ECONNRESET',
      'ECONNRESET',
    ])
    world.inside('remote', 'nft delete table ip mute')
    await inPod.process.stop()
  })

  await t.test('and so it does over HBONE, while who asked for nothing waits', async (t) => {
    await world.app('b').serve('0.0.0.0', 8084, true)
    const inPod = world.app('a')
    const hold = () => inPod.process.ask<number>('hold', { address: ADDRESS.bV4, port: 8084 })
    const [idle, busy, patient] = [await hold(), await hold(), await hold()]
    for (const index of [idle, busy, patient])
      t.equal(await inPod.process.ask('echo', { index, text: 'there' }), 'there')
    await askForHaste(inPod.process, idle, busy)
    world.inside(
      'b',
      'nft add table ip mute; nft add chain ip mute in "{ type filter hook input priority 0; }"; nft add chain ip mute out "{ type filter hook output priority 0; }"; nft add rule ip mute in tcp dport 15008 drop; nft add rule ip mute out tcp sport 15008 drop',
    )
    void inPod.process.ask('echo', { index: busy, text: 'gone' }).catch(() => undefined)
    t.same(await Promise.all([idle, busy].map((index) => inPod.process.ask('ended', index))), [
      'ECONNRESET',
      'ECONNRESET',
    ])
    world.inside('b', 'nft delete table ip mute')
    t.equal(await inPod.process.ask('echo', { index: patient, text: 'back' }), 'back')
    t.ok(await line(({ error }) => /nothing was heard of the peer/.test(String(error))))
    await inPod.process.stop()
  })

  await t.test('plaintext from outside reaches the app from its real client', async (t) => {
    const v4 = await remote.connect({ address: ADDRESS.bV4, port: 8080 })
    t.equal(v4.received, `app saw ${ADDRESS.remoteV4} at ${ADDRESS.bV4}`)
    const v6 = await remote.connect({ address: ADDRESS.bV6, port: 8080 })
    t.equal(v6.received, `app saw ${ADDRESS.remoteV6} at ${ADDRESS.bV6}`)
  })

  await t.test('a closed port is a reset, from inside and from outside', async (t) => {
    t.equal((await a.connect({ address: ADDRESS.bV4, port: 9 })).error, 'ECONNRESET')
    t.equal((await remote.connect({ address: ADDRESS.bV4, port: 9 })).error, 'ECONNRESET')
  })

  await t.test("the mesh's own ports are refused", async (t) => {
    for (const port of [15_001, 15_006])
      t.equal((await remote.connect({ address: ADDRESS.bV4, port })).error, 'ECONNRESET')
  })

  await t.test("a pod does not reach its own node's agent through the back door", async (t) => {
    for (const address of ['127.0.0.1', '::1', '::ffff:127.0.0.1'])
      for (const port of [15_001, 15_006, 15_008])
        t.equal((await a.connect({ address, port })).error, 'ECONNRESET', `${address} ${port}`)
    for (const [address, localAddress] of [
      [ADDRESS.aV4, '127.0.0.1'],
      [ADDRESS.aV6, '::1'],
    ] as const) {
      // Loopback at the caller's end alone is enough for sk_lookup to see two parties.
      const seen = await a.connect({ address, port: 15_008, localAddress })
      t.equal(seen.error, 'ECONNRESET', `${address} from ${localAddress}`)
    }
    t.ok(await line((entry) => /none from outside/.test(String(entry['error']))))
    const seen = await a.connect({ address: VIP_B, port: 80 })
    t.equal(
      seen.received,
      `app saw ${ADDRESS.aV4} at ${ADDRESS.bV4}`,
      'who calls as usual is served',
    )
  })

  await t.test(
    'a pod that the mesh knows by IPv6 alone calls a pod of the mesh by IPv4, from what its routes choose',
    async (t) => {
      const enrolAs = async (addresses: readonly IpAddress[]): Promise<void> => {
        await agent.ask('withdraw', { node: 'near', uid: 'uid-a' })
        await agent.ask('enrol', { node: 'near', pod: world.pod('a', { addresses }) })
      }
      await enrolAs([ADDRESS.aV6 as IpAddress])
      const seen = await a.connect({ address: VIP_B, port: 80 })
      t.equal(seen.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.bV4}`)
      const outbound = await line(
        (entry) =>
          entry['direction'] === 'outbound' &&
          String(entry['src.addr']).startsWith(`[${ADDRESS.aV6}]:`) &&
          entry['dst.addr'] === `${ADDRESS.bV4}:15008`,
      )
      t.match(outbound, { 'dst.identity': 'spiffe://cluster.local/ns/shop/sa/pod-b' })
      await enrolAs(world.pod('a').addresses)
    },
  )

  await t.test('a worker that dies is replaced, and its pods are served again', async (t) => {
    await agent.ask('killWorkers', 'near')
    let seen = await a.connect({ address: VIP_B, port: 80 })
    await until(
      async () => {
        seen = await a.connect({ address: VIP_B, port: 80 })
        return seen.error === undefined
      },
      () => `a call that is served; the last ended by ${seen.error}`,
    )
    t.equal(seen.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.bV4}`)
  })

  await t.test('two pods of one node are joined without TLS', async (t) => {
    await agent.ask('withdraw', { node: 'far', uid: 'uid-b' })
    await agent.ask('enrol', { node: 'near', pod: world.pod('b') })
    const seen = await a.connect({ address: VIP_B, port: 80 })
    t.equal(seen.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.bV4}`)
    const joined = await line(
      (entry) => entry['dst.addr'] === `${ADDRESS.bV4}:8080` && entry['direction'] === 'outbound',
    )
    t.match(joined, { 'dst.identity': 'spiffe://cluster.local/ns/shop/sa/pod-b' })
  })

  await t.test(
    "an address that is not the pod's goes by HBONE within the node, and only if answers come back",
    async (t) => {
      const from = (localAddress: string) =>
        a.connect({ address: ADDRESS.bV4, port: 8080, localAddress, options: [[0, 19, 1]] }) // IP_TRANSPARENT
      world.inside('a', 'ip route add local 10.98.0.43/32 dev lo')
      world.inside('node', 'ip route add 10.98.0.43/32 dev va')
      t.equal((await from('10.98.0.43')).received, `app saw 10.98.0.43 at ${ADDRESS.bV4}`)
      const seen = await line(
        (entry) =>
          entry['direction'] === 'inbound' && /^10\.98\.0\.43:/.test(`${entry['src.addr']}`),
      )
      t.match(seen, { 'src.identity': 'spiffe://cluster.local/ns/shop/sa/pod-a' })
      t.equal((await from(ADDRESS.remoteV4)).received, undefined, 'nobody speaks for another')
    },
  )

  await t.test('it ends in good order', async (t) => {
    await agent.ask('close')
    const seen = await a.connect({ address: ADDRESS.bV4, port: 8080 })
    t.equal(seen.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.bV4}`, 'unpinned: plain again')
  })
})
