// SPDX-License-Identifier: Apache-2.0
// Given an enrolled pod whose owner changes what the mesh depends on inside it, then it is put right and told, the pod
// is served as before, and whoever keeps on changing it pays for it alone.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import type { IpAddress } from '../../mesh/model/types.ts'
import { missing } from '../helpers.ts'
import { until } from '../support/until.ts'
import { refusalName } from './support/kernel.ts'
import { ADDRESS, World } from './support/world.ts'

const skip = missing('root', 'cgroup2')

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test('upkeep', { skip }, async (t) => {
  const world = new World(t)
  const agent = await world.openAgent()
  const server = world.app('a')
  await server.serve('0.0.0.0', 8080)
  await server.serve('::', 8080)
  t.match(await agent.enrol(world.pod('a')), { listeners: 6 })

  const reported = (kind: string | readonly string[], site = 'a'): Promise<readonly string[]> =>
    agent.process.ask('reported', { uid: `uid-${site}`, kinds: [kind].flat() })
  const served = async (site = 'a', port = 8080): Promise<string> => {
    const address = site === 'a' ? ADDRESS.aV4 : ADDRESS.bV4
    const onward = { uid: `uid-${site}`, address, port, sourceIp: ADDRESS.remoteV4 }
    return agent.process.ask('upstream', onward)
  }
  /** Asks until the answer is as wanted, and gives it. */
  const asked = async <T>(ask: () => Promise<T>, isWanted: (answer: T) => boolean): Promise<T> => {
    let answer = await ask()
    await until(
      async () => isWanted(answer) || isWanted((answer = await ask())),
      () => `another answer than ${String(answer)}`,
    )
    return answer
  }
  const SERVED = `app saw ${ADDRESS.remoteV4} at ${ADDRESS.aV4}`

  await t.test('routing that is taken away is back at once', async (t) => {
    t.equal(await served(), SERVED)
    const changes: readonly (readonly [string, string])[] = [
      ['ip rule del fwmark 0x111/0xfff', 'rule fwmark 0x111/0xfff lookup 100'],
      ['ip route flush table 100', 'route local default dev lo table 100'],
      [
        'ip -6 rule flush; ip -6 rule add pref 32766 lookup main',
        '-6 rule fwmark 0x111/0xfff lookup 100',
      ],
      ['ip addr flush dev lo; ip link set lo down', 'link lo up'],
    ]
    for (const [command, thing] of changes) {
      world.inside('a', command)
      // A look may fall between what one command does and another, and what is left is then told of by the next.
      const isTold = (what: readonly string[]): boolean => what.includes(thing)
      // One that is told of in two parts counts twice, and then the last are one too many to be an accident.
      const told = await asked(() => reported(['repaired', 'contested']), isTold)
      t.ok(isTold(told), command)
      t.equal(await served(), SERVED)
      t.match(
        await agent.process.ask('upstream', {
          uid: 'uid-a',
          address: ADDRESS.aV6,
          port: 8080,
          sourceIp: ADDRESS.remoteV6,
        }),
        /^app saw fd97::2/,
      )
    }
  })

  await t.test('a pod whose runtime has not come to its loopback yet is enrolled', async (t) => {
    world.inside('b', 'ip link set lo down')
    t.match(await agent.enrol(world.pod('b')), { listeners: 6 }, 'with both families')
    t.match(world.inside('b', 'ip link show lo'), /<LOOPBACK,UP/)
  })

  await t.test(
    'sysctls that a runtime or an init container sets after enrolment are set back',
    async (t) => {
      const other = world.app('b')
      await other.serve('0.0.0.0', 8080)
      world.inside(
        'b',
        'echo 0 > /proc/sys/net/ipv4/tcp_fwmark_accept; echo 0 > /proc/sys/net/ipv4/fwmark_reflect; echo 0 > /proc/sys/net/ipv6/fwmark_reflect; echo 0 > /proc/sys/net/ipv4/tcp_tw_reuse',
      )
      const what = await reported('repaired', 'b')
      for (const name of [
        'net.ipv4.tcp_fwmark_accept',
        'net.ipv4.fwmark_reflect',
        'net.ipv6.fwmark_reflect',
        'net.ipv4.tcp_tw_reuse',
      ])
        t.ok(what.includes(`${name} (it was 0)`), name)
      t.equal(await served('b'), `app saw ${ADDRESS.remoteV4} at ${ADDRESS.bV4}`)
      t.match(await served('b', 8081), /ECONNREFUSED/, 'a closed port says so at once')
      await other.process.stop()
      await agent.withdraw('uid-b')
    },
  )

  await t.test('a pod that deletes the rule in a loop pays for it alone', async (t) => {
    t.match(await agent.enrol(world.pod('b')), { listeners: 6 })
    await agent.process.ask('reports')
    const loop = spawn(
      'nsenter',
      [
        `--net=${world.netns('b')}`,
        'sh',
        '-c',
        'while :; do ip rule del fwmark 0x111/0xfff 2> /dev/null; done',
      ],
      { stdio: 'ignore', detached: true },
    )
    const stop = async (): Promise<void> => {
      if (loop.exitCode !== null || loop.signalCode !== null) return
      const gone = once(loop, 'exit')
      process.kill(-(loop.pid ?? 0), 'SIGKILL')
      await gone
    }
    t.teardown(stop)
    t.strictSame(await reported('contested', 'b'), ['rule fwmark 0x111/0xfff lookup 100'])
    t.equal(await served(), SERVED, 'its neighbour is served')
    const before = await agent.process.ask<readonly { readonly uid: string }[]>('reports')
    t.ok(before.length < 10, `${before.length} repairs until it was plain that it is no accident`)
    t.ok(
      before.every(({ uid }) => uid === 'uid-b'),
      'of no other pod',
    )
    await stop()
    const other = world.app('b')
    await other.serve('0.0.0.0', 8080)
    const recovered = await asked(
      () => served('b'),
      (answer) => answer.startsWith('app saw'),
    )
    t.equal(
      recovered,
      `app saw ${ADDRESS.remoteV4} at ${ADDRESS.bV4}`,
      'and so is the pod, when it has ended',
    )
    await other.process.stop()
    await agent.withdraw('uid-b')
  })

  await t.test(
    'a rule of its own for the mark is told, and ours is back when it is gone',
    async (t) => {
      await agent.process.ask('reports')
      world.inside('a', 'ip rule add pref 300 fwmark 0x111/0xfff lookup main')
      t.match((await reported('clash'))[0], /300: fwmark 0x111\/0xfff lookup 254/)
      world.inside('a', 'ip rule del pref 300')
      t.equal(await asked(served, (answer) => answer === SERVED), SERVED)
    },
  )

  await t.test('the hooks know the addresses that come and go', async (t) => {
    const app = world.app('a')
    const own = { address: '10.98.0.40', port: 8080 }
    const getOwn = (): Promise<string | undefined> =>
      app.connect(own).then(({ received, error }) => received ?? error)
    t.equal(await getOwn(), 'captured 10.98.0.40 8080', 'an address of others')
    world.inside('a', 'ip addr add 10.98.0.40/32 dev eth0')
    const atOnce = await asked(getOwn, (answer) => !answer?.startsWith('captured'))
    t.equal(atOnce, 'app saw 10.98.0.40 at 10.98.0.40', 'is its own now')
    world.inside('a', 'ip addr del 10.98.0.40/32 dev eth0')
    t.equal(
      await asked(getOwn, (answer) => answer?.startsWith('captured') === true),
      'captured 10.98.0.40 8080',
    )

    const far = (): Promise<string | undefined> =>
      app.connect({ address: 'fd99::9', port: 80 }).then(({ received, error }) => received ?? error)
    t.equal(await far(), 'captured fd99::9 80')
    world.inside('a', `ip -6 addr del ${ADDRESS.aV6}/128 dev eth0`)
    const gone = await refusalName('ENETUNREACH')
    t.equal(await asked(far, (answer) => answer === gone), gone, 'a family that is gone')
    world.inside('a', `ip -6 addr add ${ADDRESS.aV6}/128 dev eth0 nodad`)
    t.equal(await asked(far, (answer) => answer !== gone), 'captured fd99::9 80', 'and back')
    await app.process.stop()
  })

  await t.test(
    'IPv6 that is switched on later is asked for, and served once it is enrolled again',
    async (t) => {
      world.inside('b', 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6')
      const pod = world.pod('b', { addresses: [ADDRESS.bV4 as IpAddress] })
      t.match(await agent.enrol(pod), { listeners: 3 })
      world.inside(
        'b',
        `for device in all lo eth0; do echo 0 > /proc/sys/net/ipv6/conf/$device/disable_ipv6; done; ip -6 addr add ${ADDRESS.bV6}/128 dev eth0 nodad; ip -6 route replace default via fe80::1 dev eth0`,
      )
      t.strictSame(await reported('familyCame', 'b'), ['IPv6'])
      t.match(await agent.enrol(pod), { listeners: 6 })
      const remote = world.app('remote')
      const seen = await remote.connect({ address: ADDRESS.bV6, port: 8080 })
      t.equal(seen.received, `plaintext ${ADDRESS.bV6} 8080 from ${ADDRESS.remoteV6}`)
      await remote.process.stop()
      await agent.withdraw('uid-b')
    },
  )

  await t.test('withdrawn, a pod is looked after no more', async (t) => {
    await agent.withdraw('uid-a')
    await agent.process.ask('reports')
    world.inside('a', 'ip rule add pref 77 fwmark 0x7 lookup 7')
    const before = await agent.process.ask<number>('openFds')
    t.match(await agent.enrol(world.pod('a')), { listeners: 6 })
    await agent.withdraw('uid-a')
    t.equal(await agent.process.ask('openFds'), before, 'no descriptor is left')
    t.strictSame(await agent.process.ask('reports'), [])
  })
})
