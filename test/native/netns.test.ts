// SPDX-License-Identifier: Apache-2.0
// Sockets, sysctls and rules in another network namespace, made from outside it.

import { execFile, execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { NativeError } from '../../native/error.ts'
import { closeFd, netnsCookieOfSocket } from '../../native/libc.ts'
import { listenInNetns, NetnsThread } from '../../native/netns.ts'
import { openSocket } from '../../native/socket-spec.ts'
import { deadline, missing } from '../helpers.ts'

const run = promisify(execFile)
const skip = missing('root')
const MARK_ROUTE = { mark: 0x111, mask: 0xfff, table: 100, priority: 32_764 }

interface Place {
  readonly thread: NetnsThread
  readonly fd: number
  /** Runs a shell command inside the namespace. */
  readonly inside: (command: string) => Promise<string>
}

async function place(test: Test): Promise<Place> {
  const thread = new NetnsThread()
  const fd = await thread.create()
  test.teardown(async () => {
    closeFd(fd)
    await thread.close()
  })
  const inside = async (command: string): Promise<string> => {
    const path = `--net=/proc/${process.pid}/fd/${fd}`
    const { stdout } = await run('nsenter', [path, 'bash', '-c', command], {
      timeout: deadline(5000),
    })
    return stdout
  }
  await inside('ip link set lo up')
  return { thread, fd, inside }
}

void t.test('a listener made from outside answers inside only', { skip }, async (t) => {
  const { thread, fd, inside } = await place(t)
  const listener = await listenInNetns({ netns: fd, address: '127.0.0.1', port: 15_999 }, thread)
  const server = createServer((socket) => socket.end('from outside'))
  t.teardown(() => server.close())
  await new Promise<void>((resolve) => server.listen({ fd: listener }, resolve))
  t.equal(await inside('exec 3<>/dev/tcp/127.0.0.1/15999; cat <&3'), 'from outside')
  t.throws(() =>
    execFileSync('bash', ['-c', 'exec 3<>/dev/tcp/127.0.0.1/15999'], { stdio: 'pipe' }),
  )
})

void t.test(
  'listenInNetns() opens a namespace by path, and UDP sockets too',
  { skip },
  async (t) => {
    const { thread, fd, inside } = await place(t)
    const path = `/proc/${process.pid}/fd/${fd}`
    const udp = await listenInNetns(
      { netns: path, address: '::1', port: 15_053, kind: 'udp' },
      thread,
    )
    t.match(await inside('ss -Hlun'), /\[::1\]:15053/)
    closeFd(udp)
    await t.rejects(
      listenInNetns({ netns: '/run/netns/ambit-none', address: '::', port: 1 }, thread),
      {
        code: 'ENOENT',
      },
    )
  },
)

void t.test('failures name the call, the errno and the address', { skip }, async (t) => {
  const { thread, fd } = await place(t)
  const listener = await listenInNetns({ netns: fd, address: '::1', port: 80 }, thread)
  t.teardown(() => closeFd(listener))
  await t.rejects(listenInNetns({ netns: fd, address: '::1', port: 80 }, thread), {
    name: 'NativeError',
    call: 'bind',
    errnoName: 'EADDRINUSE',
    message: /\[0:0:0:0:0:0:0:1\]:80/,
  })
  await t.rejects(listenInNetns({ netns: fd, address: '10.1.1.1', port: 80 }, thread), {
    name: 'NativeError',
    errnoName: 'EADDRNOTAVAIL',
  })
  await t.rejects(listenInNetns({ netns: fd, address: 'blue', port: 80 }, thread), {
    message: /"blue" is not an IP address/,
  })
  await t.rejects(thread.cookie(0), { name: 'NativeError', call: 'setns' })
  await t.rejects(thread.writeSysctls(fd, [{ path: 'net/ipv4/no_such_thing', value: '1' }]), {
    call: 'open(sysctl)',
    errnoName: 'ENOENT',
    message: /no_such_thing/,
  })
  const free = await listenInNetns(
    { netns: fd, address: '10.1.1.1', port: 80, options: ['freeBind'] },
    thread,
  )
  closeFd(free)
})

void t.test('the main thread is refused before it leaves its namespace', { skip }, async (t) => {
  const { fd } = await place(t)
  t.throws(() => openSocket({ netns: { fd, homeFd: fd }, family: 4, kind: 'tcp' }), {
    name: 'NativeError',
    call: 'setns on the main thread',
    errnoName: 'EDEADLK',
  })
})

void t.test('cookies tell namespaces apart', { skip }, async (t) => {
  const { thread, fd } = await place(t)
  const other = await thread.create()
  const home = openSocket({ family: 4, kind: 'udp' })
  const inThere = await thread.openSocket(fd, { family: 6, kind: 'tcp' })
  t.teardown(() => [other, home, inThere].forEach(closeFd))
  const cookies = [await thread.cookie(fd), await thread.cookie(other), netnsCookieOfSocket(home)]
  t.equal(new Set(cookies).size, 3)
  t.equal(netnsCookieOfSocket(inThere), cookies[0])
})

void t.test('sysctls are written inside and give back what was there', { skip }, async (t) => {
  const { thread, fd, inside } = await place(t)
  const wanted = [
    { path: 'net/ipv4/tcp_fwmark_accept', value: '1' },
    { path: 'net/ipv4/ip_default_ttl', value: '33' },
  ]
  const former = await thread.writeSysctls(fd, wanted)
  t.strictSame(former, [
    { path: 'net/ipv4/tcp_fwmark_accept', value: '0' },
    { path: 'net/ipv4/ip_default_ttl', value: '64' },
  ])
  t.equal((await inside('cat /proc/sys/net/ipv4/ip_default_ttl')).trim(), '33')
  t.strictSame(await thread.writeSysctls(fd, former), wanted)
})

void t.test('sysctls are written where a runtime has /proc/sys read-only', { skip }, async (t) => {
  const hide = 'mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec "$@"'
  const program = fileURLToPath(new URL('./sysctl-process.ts', import.meta.url))
  const argv = ['--mount', 'sh', '-euc', hide, 'sh', process.execPath, program]
  const { stdout } = await run('unshare', argv, { timeout: deadline(20_000) })
  t.strictSame(JSON.parse(stdout), ['64', '33'])
})

void t.test('mark rules and routes come and go, twice without complaint', { skip }, async (t) => {
  const { thread, fd, inside } = await place(t)
  const show = 'ip rule; ip -6 rule; ip route show table all | grep -w 100 || true'
  const before = await inside(show)
  const first = await thread.keep(fd, [4, 6], MARK_ROUTE)
  t.strictSame(first.repaired, [
    'route local default dev lo table 100',
    'rule fwmark 0x111/0xfff lookup 100',
    '-6 route local default dev lo table 100',
    '-6 rule fwmark 0x111/0xfff lookup 100',
  ])
  t.strictSame((await thread.keep(fd, [4, 6], MARK_ROUTE)).repaired, [])
  const during = await inside(show)
  t.equal(during.match(/32764:\s+from all fwmark 0x111\/0xfff lookup 100/g)?.length, 2)
  t.equal(during.match(/^local default dev lo table 100/gm)?.length, 2)
  for (let twice = 0; twice < 2; twice += 1) await thread.deleteMarkRoute(fd, [4, 6], MARK_ROUTE)
  t.equal(await inside(show), before)
})

void t.test('what somebody takes away or puts in its place is put right', { skip }, async (t) => {
  const { thread, fd, inside } = await place(t)
  await thread.keep(fd, [4, 6], MARK_ROUTE)
  const wrong: readonly (readonly [string, readonly string[]])[] = [
    ['ip -6 rule del fwmark 0x111/0xfff', ['-6 rule fwmark 0x111/0xfff lookup 100']],
    ['ip route flush table 100', ['route local default dev lo table 100']],
    ['ip route replace blackhole default table 100', ['route local default dev lo table 100']],
    ['ip -6 route flush table 100', ['-6 route local default dev lo table 100']],
    ['ip rule add pref 500 from 10.0.0.0/8 lookup main', ['rule fwmark 0x111/0xfff lookup 100']],
    [
      'ip addr del 127.0.0.1/8 dev lo; ip -6 addr del ::1/128 dev lo',
      ['addr 127.0.0.1/8 dev lo', 'addr ::1/128 dev lo', 'route local default dev lo table 100'],
    ],
    ['ip link set lo down', ['link lo up', '-6 route local default dev lo table 100']],
  ]
  for (const [command, repaired] of wrong) {
    await inside(command)
    t.strictSame((await thread.keep(fd, [4, 6], MARK_ROUTE)).repaired, repaired, command)
    t.strictSame((await thread.keep(fd, [4, 6], MARK_ROUTE)).repaired, [], 'once is enough')
  }
  t.equal((await inside('ip rule')).match(/0x111/g)?.length, 1, 'a rule that moved leaves no other')
})

void t.test(
  'rules like ours that are there by the thousand keep the thread from nothing else',
  { skip },
  async (t) => {
    // Whoever puts them up as fast as they are taken away would otherwise have the thread for good.
    for (const work of ['delete', 'keep'] as const) {
      const { thread, fd, inside } = await place(t)
      await inside('ip rule add pref 500 from 10.0.0.0/8 lookup main')
      await inside(
        'for i in $(seq 501 1500); do echo rule add pref $i fwmark 0x111/0xfff lookup 100; done | ip -batch -',
      )
      if (work === 'delete') await thread.deleteMarkRoute(fd, [4, 6], MARK_ROUTE)
      else
        t.ok(
          (await thread.keep(fd, [4, 6], MARK_ROUTE)).repaired.includes(
            'rule fwmark 0x111/0xfff lookup 100',
          ),
        )
      const left = (await inside('ip rule')).match(/0x111/g)?.length ?? 0
      t.ok(left > 900 && left < 1000, `${work}: ${left} are left`)
      if (work === 'keep') t.strictSame((await thread.keep(fd, [4, 6], MARK_ROUTE)).repaired, [])
    }
  },
)

void t.test(
  'the addresses of a namespace are those that reach beyond a link',
  { skip },
  async (t) => {
    const { thread, fd, inside } = await place(t)
    await inside(
      `ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up; ip addr add 10.1.0.1/24 dev d0; ip addr add 10.2.0.1 peer 10.3.0.1/16 dev d0;
     ip addr add fd01::1/64 dev d0 nodad; ip addr add 10.9.9.9/32 dev lo; ip addr add 169.254.9.9/16 dev d0 scope link`,
    )
    const index = Number(
      (await inside('cat /sys/class/net/d0/ifindex || ip -o link show d0')).split(':')[0],
    )
    const { addresses } = await thread.keep(fd, [4, 6], MARK_ROUTE)
    const seen = addresses.map(({ bytes, prefixLength, interface: at }) => [
      bytes.length === 4 ? bytes.join('.') : Buffer.from(bytes).toString('hex'),
      prefixLength,
      at === 1 ? 'lo' : 'd0',
    ])
    t.ok(index > 1)
    t.strictSame(
      new Set(seen.map(String)),
      new Set([
        '10.1.0.1,24,d0',
        '10.2.0.1,32,d0',
        '10.9.9.9,32,lo',
        'fd010000000000000000000000000001,64,d0',
      ]),
    )
    await inside(
      'for i in $(seq 1 250); do for j in 1 2 3; do echo addr add 10.77.$j.$i/32 dev d0; done; done | ip -batch -',
    )
    const many = (await thread.keep(fd, [4, 6], MARK_ROUTE)).addresses
    t.ok(
      many.length > 500 && many.length <= 512,
      `${many.length} are read of 754: enough is enough`,
    )
  },
)

void t.test('requests and failures leak no descriptor', { skip }, async (t) => {
  const { thread, fd } = await place(t)
  const count = (): number => readdirSync('/proc/self/fd').length
  await thread.cookie(fd)
  const before = count()
  for (let round = 0; round < 100; round += 1) {
    await thread.cookie(fd)
    await thread.keep(fd, [4, 6], MARK_ROUTE)
    await thread.deleteMarkRoute(fd, [4, 6], MARK_ROUTE)
    closeFd(await thread.openSocket(fd, { family: 4, kind: 'tcp' }))
    await t.rejects(listenInNetns({ netns: fd, address: '10.1.1.1', port: 80 }, thread))
  }
  t.equal(count(), before)
})

void t.test('a closed thread says so', { skip }, async (t) => {
  const thread = new NetnsThread()
  await thread.close()
  await t.rejects(thread.create(), NativeError)
})
