// SPDX-License-Identifier: Apache-2.0
// Agents come, go and crash; pods too. What must not happen: a gap, a leak, or plaintext where the pod asked for none.

import { execFileSync } from 'node:child_process'
import { linkSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
import t from 'tap'
import { PIN_VERSION } from '../../agent/capture/pins.ts'
import { missing } from '../helpers.ts'
import { programsAt } from './support/kernel.ts'
import { ADDRESS, World } from './support/world.ts'

const skip = missing('root', 'cgroup2')
const SERVICE = { address: '10.96.0.80', port: 80 } as const
type Outcomes = Readonly<Record<string, number>>
const CAPTURED = `captured ${SERVICE.address} ${SERVICE.port}`

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test('an agent that dies', { skip }, async (t) => {
  const world = new World(t)
  const outside = world.app('remote')
  await outside.serve('0.0.0.0', 7070)
  const inPod = world.app('b')
  await inPod.serve('0.0.0.0', 8080)
  const first = await world.openAgent()
  await first.enrol(world.pod('a'))
  await first.enrol(world.pod('b', { failOpen: true }))
  const strict = world.app('a')
  const server = world.app('a')
  await server.serve('0.0.0.0', 8080)
  t.equal((await strict.connect(SERVICE)).received, CAPTURED)
  await first.process.stop('SIGKILL')

  await t.test('edge case #6: leaves its pods closed, out and in, at once', async (t) => {
    const outbound = await strict.connect({ address: ADDRESS.remoteV4, port: 7070 })
    t.equal(outbound.error, 'EPERM')
    t.equal((await strict.connect({ address: 'fd97::2', port: 7070 })).error, 'EPERM')
    t.equal((await outside.connect({ address: ADDRESS.aV4, port: 8080 })).error, 'ECONNREFUSED')
    t.match((await strict.connect({ address: '127.0.0.1', port: 8080 })).received, /^app saw/)
  })

  await t.test('edge case #6: leaves those open that asked for it', async (t) => {
    const outbound = await inPod.connect({ address: ADDRESS.remoteV4, port: 7070 })
    t.equal(outbound.received, `app saw ${ADDRESS.bV4} at ${ADDRESS.remoteV4}`)
    const inbound = await outside.connect({ address: ADDRESS.bV4, port: 8080 })
    t.equal(inbound.received, `app saw ${ADDRESS.remoteV4} at ${ADDRESS.bV4}`)
  })

  await t.test('edge case #5: its successor takes the pods over, nothing doubled', async (t) => {
    const second = await world.openAgent()
    t.match(await second.enrol(world.pod('a')), { listeners: 6 })
    t.equal((await strict.connect(SERVICE)).received, CAPTURED)
    t.match((await outside.connect({ address: ADDRESS.aV4, port: 8080 })).received, /^plaintext/)
    t.equal(readdirSync(`${world.bpffs}/${PIN_VERSION}/links`).length, 10)
    t.equal(readdirSync(`${world.bpffs}/${PIN_VERSION}/pods`).length, 2)
    t.equal(programsAt(world.cgroup), 10)

    await second.process.ask('sweep', ['uid-a'])
    t.strictSame(
      readdirSync(`${world.bpffs}/${PIN_VERSION}/pods`).map((pin) => pin.split('@')[0]),
      ['uid-a'],
    )
    t.match(await second.stats(), { listeners: 6, enrolledPods: 1 })
    const freed = await inPod.connect({ address: ADDRESS.remoteV4, port: 7070 })
    t.equal(freed.received, `app saw ${ADDRESS.bV4} at ${ADDRESS.remoteV4}`)

    await second.process.ask('closeCapture', true)
    t.strictSame(
      readdirSync(world.bpffs).filter((name) => !name.endsWith('.debug')),
      [],
      'unpinned, nothing is left',
    )
    t.equal(programsAt(world.cgroup), 0)
    const free = await strict.connect({ address: ADDRESS.remoteV4, port: 7070 })
    t.equal(free.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.remoteV4}`)
  })
})

void t.test(
  'edge case #5: an agent with another layout of the maps closes what its predecessor had captured, until it is enrolled',
  { skip },
  async (t) => {
    const world = new World(t)
    const outside = world.app('remote')
    await outside.serve('0.0.0.0', 7070)
    const first = await world.openAgent()
    for (const failOpen of [false, true])
      await first.enrol(world.pod(failOpen ? 'b' : 'a', { failOpen }))
    await first.process.ask('closeCapture', false)
    await first.process.stop()
    // As an agent of another layout would have left it.
    renameSync(`${world.bpffs}/${PIN_VERSION}`, `${world.bpffs}/v1`)

    const strict = world.app('a')
    const open = world.app('b')
    const server = world.app('a')
    await server.serve('0.0.0.0', 8080)
    const second = await world.openAgent()
    t.equal(programsAt(world.cgroup), 10, "the predecessor's are off")
    const [away, back] = [
      { address: ADDRESS.remoteV4, port: 7070 },
      { address: ADDRESS.aV4, port: 8080 },
    ]
    t.match((await strict.connect(away)).error, /EPERM|ENETUNREACH/)
    t.equal((await outside.connect(back)).error, 'ECONNREFUSED')
    await second.enrol(world.pod('a'))
    t.equal((await strict.connect(SERVICE)).received, CAPTURED)
    t.match((await outside.connect(back)).received, /^plaintext/)
    await second.process.ask('sweep', ['uid-a', 'uid-b'])
    t.equal(readdirSync(`${world.bpffs}/v1/pods`).length, 1, 'one is not enrolled yet')
    await second.process.ask('sweep', ['uid-a'])
    t.strictSame(
      readdirSync(world.bpffs).filter((name) => !name.endsWith('.debug')),
      [PIN_VERSION],
    )
    t.equal((await open.connect(away)).received, `app saw ${ADDRESS.bV4} at ${ADDRESS.remoteV4}`)
  },
)

void t.test('an agent with another layout whose predecessor still serves', { skip }, async (t) => {
  const world = new World(t)
  const outside = world.app('remote')
  const strict = world.app('a')
  const first = await world.openAgent()
  await first.enrol(world.pod('a'))
  renameSync(`${world.bpffs}/${PIN_VERSION}`, `${world.bpffs}/v1`)
  const isServed = async (): Promise<boolean> => {
    const inbound = await outside.connect({ address: ADDRESS.aV4, port: 8080 })
    return (
      (await strict.connect(SERVICE)).received === CAPTURED &&
      inbound.received?.startsWith('plaintext') === true
    )
  }
  const second = await world.openAgent({ supersedesLater: true })
  t.equal(programsAt(world.cgroup), 20)
  t.ok(await isServed(), 'changes nothing before it takes the pods over')
  t.equal(await first.process.ask('isSuperseded'), false)
  t.equal(await second.process.ask('supersede'), undefined)
  t.equal(programsAt(world.cgroup), 10)
  t.match((await strict.connect(SERVICE)).error, /EPERM|ENETUNREACH/, 'then they are closed')
  t.equal(await first.process.ask('isSuperseded'), true)
  await second.enrol(world.pod('a'))
  t.ok(await isServed(), 'until they are enrolled')
})

void t.test(
  'a successor that dies over the pods, and its predecessor lives',
  { skip },
  async (t) => {
    const world = new World(t)
    const outside = world.app('remote')
    const strict = world.app('a')
    const first = await world.openAgent()
    await first.enrol(world.pod('a'))
    const second = await world.openAgent()
    await second.enrol(world.pod('a'))
    await second.process.stop('SIGKILL')
    t.equal((await strict.connect(SERVICE)).error, 'EPERM', 'the pods are closed')
    t.equal((await outside.connect({ address: ADDRESS.aV4, port: 8080 })).error, 'ECONNREFUSED')
    await first.enrol(world.pod('a'))
    t.equal((await strict.connect(SERVICE)).received, CAPTURED, 'until it enrols them again')
    t.match((await outside.connect({ address: ADDRESS.aV4, port: 8080 })).received, /^plaintext/)
  },
)

void t.test('an agent of another version with the same layout', { skip }, async (t) => {
  const world = new World(t)
  const first = await world.openAgent()
  await first.enrol(world.pod('a'))
  await first.process.ask('closeCapture', false)
  await first.process.stop()
  const [maps, links] = ['maps', 'links'].map((of) => `${world.bpffs}/${PIN_VERSION}/${of}`)
  const strict = world.app('a')
  /** Of two maps each has the other's name. */
  const exchange = (): void => {
    renameSync(`${maps}/pods`, `${maps}/aside`)
    renameSync(`${maps}/listeners`, `${maps}/pods`)
    renameSync(`${maps}/aside`, `${maps}/listeners`)
  }

  await t.test(
    'is not succeeded where its maps are others: what it captured stays closed',
    async (t) => {
      exchange()
      await t.rejects(world.openAgent(), {
        message: /other maps in .*map pods has bytes of a key 16, expected 8.*; map listeners has/,
      })
      t.equal((await strict.connect(SERVICE)).error, 'EPERM')
      exchange()
    },
  )

  await t.test('leaves nothing that its successor has not: no program, no map', async (t) => {
    // Named as if the present version had neither.
    renameSync(`${links}/ambit_connect6`, `${links}/ambit_later`)
    linkSync(`${maps}/counters`, `${maps}/later`)
    const before = readdirSync(`${maps}`)
    const second = await world.openAgent()
    await second.enrol(world.pod('a'))
    t.equal(programsAt(world.cgroup), 10)
    t.notOk(readdirSync(`${links}`).includes('ambit_later'))
    t.strictSame(
      readdirSync(`${maps}`),
      before.filter((name) => name !== 'later'),
    )
    t.equal((await strict.connect(SERVICE)).received, CAPTURED)
  })
})

void t.test('edge case #5: an upgrade under load', { skip }, async (t) => {
  const world = new World(t)
  const first = await world.openAgent()
  await first.enrol(world.pod('a'))
  const app = world.app('a')
  const outside = world.app('remote')
  const loads = [
    app.process.ask<Outcomes>('load', SERVICE),
    outside.process.ask<Outcomes>('load', { address: ADDRESS.aV4, port: 8080 }),
  ]
  const second = await world.openAgent()
  await second.enrol(world.pod('a'))
  await first.process.ask('closeCapture', false)
  await first.process.stop()
  t.match(
    await second.enrol(world.pod('a')),
    { listeners: 6 },
    're-enrolling swaps listeners again',
  )
  for (const { process } of [app, outside]) await process.ask('stopLoad', 100)
  for (const outcomes of await Promise.all(loads)) {
    t.strictSame(Object.keys(outcomes), ['answered'], 'not one connection failed')
    t.ok((outcomes.answered ?? 0) >= 100, `${outcomes.answered} connections`)
  }
  t.match(await second.stats(), { pendingConnections: 0, enrolledPods: 1 })
})

void t.test('pods that come and go', { skip }, async (t) => {
  const world = new World(t)
  const agent = await world.openAgent()

  await t.test(
    'edge case #2: connections from before enrolment live on, out and in, and after it',
    async (t) => {
      const outside = world.app('remote')
      await outside.serve('0.0.0.0', 7070, true)
      const server = world.app('a')
      await server.serve('0.0.0.0', 8080, true)
      const app = world.app('a')
      const out = await app.process.ask<number>('hold', { address: ADDRESS.remoteV4, port: 7070 })
      const into = await outside.process.ask<number>('hold', { address: ADDRESS.aV4, port: 8080 })
      const bothWork = async (): Promise<void> => {
        t.equal(await app.process.ask('echo', { index: out, text: 'out' }), 'out')
        t.equal(await outside.process.ask('echo', { index: into, text: 'in' }), 'in')
      }
      await bothWork()
      await agent.enrol(world.pod('a'))
      await bothWork()
      t.equal(
        (await app.connect(SERVICE)).received,
        CAPTURED,
        'edge case #1: new ones are captured',
      )
      await agent.withdraw('uid-a')
      await bothWork()
      for (const { process } of [outside, server, app]) await process.stop()
    },
  )

  await t.test(
    "edge case #7: an address reused by a new pod is the new pod's, also when the old one leaves late",
    async (t) => {
      const old = world.emptyPod(1)
      t.match(await agent.enrol(old), { listeners: 6 })
      const young = { ...world.emptyPod(2), addresses: old.addresses }
      t.match(await agent.enrol(young), { listeners: 6 })
      await agent.withdraw(old.uid)
      t.match(await agent.stats(), { listeners: 6, enrolledPods: 1 })
      await agent.withdraw(young.uid)
      t.match(await agent.stats(), { listeners: 0, enrolledPods: 0 })
    },
  )

  await t.test(
    "what lies among the pins of pods and is none by its name is in nobody's way",
    async (t) => {
      const pods = `${world.bpffs}/${PIN_VERSION}/pods`
      const names = ['uid-a@no-hex', 'uid-b@', `uid-c@${'f'.repeat(17)}`, 'no-cookie']
      for (const name of names) mkdirSync(`${pods}/${name}`)
      const pod = world.emptyPod(9)
      t.match(await agent.enrol(pod), { listeners: 6 })
      await agent.withdraw(pod.uid)
      t.strictSame(readdirSync(pods).sort(), [...names].sort(), 'left alone by what comes and goes')
      await agent.process.ask('sweep', [])
      t.strictSame(readdirSync(pods), [], 'the sweep takes it away')
    },
  )

  await t.test(
    "a namespace that passes to another pod is that one's, whenever the former one leaves",
    async (t) => {
      const app = world.app('a')
      const outside = world.app('remote')
      const heir = { ...world.pod('a'), uid: 'uid-heir', name: 'pod-heir' }
      for (const leave of [
        () => agent.withdraw('uid-a'),
        () => agent.process.ask('sweep', [heir.uid]),
      ]) {
        await agent.enrol(world.pod('a'))
        t.match(await agent.enrol(heir), { listeners: 6 })
        await leave()
        t.equal((await app.connect(SERVICE)).received, CAPTURED)
        const seen = await outside.connect({ address: ADDRESS.aV4, port: 8080 })
        t.match(seen.received, /^plaintext/)
        t.match(world.inside('a', 'ip rule'), /0x111/)
        await agent.withdraw(heir.uid)
        t.match(await agent.stats(), { listeners: 0, enrolledPods: 0 })
        t.strictSame(readdirSync(`${world.bpffs}/${PIN_VERSION}/pods`), [])
        t.notMatch(world.inside('a', 'ip rule'), /0x111/)
      }
      for (const { process } of [app, outside]) await process.stop()
    },
  )

  await t.test('a uid that returns in another namespace leaves the former one', async (t) => {
    const before = world.emptyPod(3)
    const first = await agent.enrol(before)
    const second = await agent.enrol({ ...world.emptyPod(4), uid: before.uid })
    t.ok('cookie' in first && 'cookie' in second && first.cookie !== second.cookie)
    t.equal(readdirSync(`${world.bpffs}/${PIN_VERSION}/pods`).length, 1)
    await agent.withdraw(before.uid)
  })

  await t.test(
    'a pod whose namespace vanished is withdrawn without complaint, twice',
    async (t) => {
      const pod = world.emptyPod(5)
      await agent.enrol(pod)
      execFileSync('ip', ['netns', 'del', pod.netnsPath.split('/').at(-1) ?? ''])
      await agent.withdraw(pod.uid)
      await agent.withdraw(pod.uid)
      t.match(await agent.stats(), { listeners: 0, enrolledPods: 0 })
      t.match(await agent.enrol(pod), { code: 'AMB_SYSCALL', message: /ENOENT/ })
    },
  )

  await t.test(
    'a port the mesh needs is taken: that pod stays in plaintext and is named, others go on',
    async (t) => {
      for (const port of [15_001, 15_006, 15_008]) {
        const server = world.app('b')
        await server.serve('0.0.0.0', port)
        t.match(await agent.enrol(world.pod('b')), {
          code: 'AMB_PORT_TAKEN',
          message: new RegExp(`pod shop/pod-b: port ${port} is in use`),
        })
        const client = world.app('a')
        const seen = await client.connect({ address: ADDRESS.bV4, port })
        t.equal(seen.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.bV4}`)
        for (const { process } of [server, client]) await process.stop()
      }
      t.match(await agent.stats(), { listeners: 0, enrolledPods: 0 })
      t.notMatch(world.inside('b', 'ip rule'), /0x111/)
      t.match(await agent.enrol(world.pod('a')), { listeners: 6 })
      await agent.withdraw('uid-a')
    },
  )

  await t.test('edge case #26: a pod with IPv6 switched off is enrolled for IPv4', async (t) => {
    world.inside('b', 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6')
    t.match(await agent.enrol(world.pod('b')), { listeners: 3 })
    const app = world.app('b')
    t.equal((await app.connect(SERVICE)).received, CAPTURED)
    await agent.withdraw('uid-b')
    await app.process.stop()
  })

  await t.test('edge case #4: a host network pod is refused', async (t) => {
    const refused = await agent.enrol(world.pod('a', { netnsPath: world.netns('node') }))
    t.match(refused, { code: 'AMB_HOST_NETWORK', message: /shop\/pod-a/ })
  })

  await t.test('what makes no sense is refused by name', async (t) => {
    t.match(await agent.enrol(world.pod('a', { uid: '../x' })), { message: /uid "\.\.\/x"/ })
    t.match(await agent.enrol(world.pod('a', { addresses: [] })), { message: /0 addresses/ })
    t.match(await agent.enrol(world.pod('a', { addresses: ['x' as never] })), {
      message: /"x" is not an IP address/,
    })
    t.match(await agent.stats(), { listeners: 0, enrolledPods: 0 })
  })

  await t.test('edge case #38: rules the pod had before stay, before and after', async (t) => {
    world.inside('a', 'ip rule add fwmark 0x7 lookup 77 pref 1000')
    await agent.enrol(world.pod('a'))
    await agent.withdraw('uid-a')
    t.match(world.inside('a', 'ip rule'), /fwmark 0x7 lookup 77/)
    world.inside('a', 'ip rule del fwmark 0x7 lookup 77 pref 1000')
  })

  await t.test(
    'edge case #38: a pod that routes by source address is served all the same',
    async (t) => {
      world.inside('a', `ip rule add from ${ADDRESS.aV4} lookup 200 pref 300`)
      world.inside('a', 'ip route add default via 10.98.0.1 dev eth0 onlink table 200')
      const app = world.app('a')
      await app.serve('0.0.0.0', 9300)
      await agent.enrol(world.pod('a'))
      t.match(
        world.inside('a', 'ip rule'),
        /299:.*fwmark 0x111\/0xfff lookup 100/,
        'ours comes before',
      )
      const onward = { uid: 'uid-a', address: ADDRESS.aV4, port: 9300, sourceIp: ADDRESS.remoteV4 }
      t.match(await agent.process.ask('upstream', onward), /^app saw 10\.97\.0\.2/)
      await agent.enrol(world.pod('a'))
      await agent.withdraw('uid-a')
      t.notMatch(world.inside('a', 'ip rule'), /0x111/, 'and goes with the enrolment')
      await app.process.stop()
      world.inside('a', 'ip route flush table 200')
      world.inside('a', 'ip rule del pref 300')
    },
  )

  await t.test(
    'edge case #38: a rule for the mark or the table of the mesh is a clash, and named',
    async (t) => {
      const clashes = [
        ['ip', 'fwmark 0x111 lookup 77 pref 1000', '1000: fwmark 0x111/0xffffffff lookup 77'],
        ['ip -6', 'fwmark 0x1/0xf lookup 77 pref 1000', '1000: fwmark 0x1/0xf lookup 77'],
        ['ip', 'from 10.9.9.9 lookup 100 pref 1000', '1000: lookup 100'],
        ['ip', 'from 10.9.9.9 lookup 77 pref 1', '1: lookup 77'],
      ] as const
      const sysctl = 'cat /proc/sys/net/ipv4/tcp_fwmark_accept'
      const before = world.inside('a', sysctl)
      for (const [ip, rule, named] of clashes) {
        world.inside('a', `${ip} rule add ${rule}`)
        t.match(await agent.enrol(world.pod('a')), {
          code: 'AMB_ENROLMENT',
          message: `Cannot enrol pod shop/pod-a: its own routing rule "${named}" stands against the mesh's, which needs mark 0x111 and table 100`,
        })
        t.match(await agent.stats(), { listeners: 0, enrolledPods: 0 })
        t.notMatch(
          world.inside('a', 'ip rule; ip -6 rule; ip route show table 100'),
          /0x111\/0xfff |local default/,
        )
        t.equal(world.inside('a', sysctl), before, 'nothing else is changed either')
        world.inside('a', `${ip} rule del ${rule}`)
      }
      t.match(await agent.enrol(world.pod('a')), { listeners: 6 }, 'without it the pod is enrolled')
      await agent.withdraw('uid-a')
    },
  )
})
