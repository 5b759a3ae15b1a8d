// SPDX-License-Identifier: Apache-2.0
// Sockets, sysctls and rules in another network namespace, made from outside it.

import { execFile, execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { createServer } from 'node:net'
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

void t.test('mark rules and routes come and go, twice without complaint', { skip }, async (t) => {
  const { thread, fd, inside } = await place(t)
  const show = 'ip rule; ip -6 rule; ip route show table all | grep -w 100 || true'
  const before = await inside(show)
  for (const action of ['add', 'add'] as const)
    await thread.changeMarkRoute(action, fd, [4, 6], MARK_ROUTE)
  const during = await inside(show)
  t.equal(during.match(/32764:\s+from all fwmark 0x111\/0xfff lookup 100/g)?.length, 2)
  t.equal(during.match(/^local default dev lo table 100/gm)?.length, 2)
  for (const action of ['delete', 'delete'] as const)
    await thread.changeMarkRoute(action, fd, [4, 6], MARK_ROUTE)
  t.equal(await inside(show), before)
  await inside('ip link set lo down')
  await t.rejects(thread.changeMarkRoute('add', fd, [6], MARK_ROUTE), {
    call: 'rtnetlink',
    errnoName: 'ENETDOWN',
    message: /add local route/,
  })
})

void t.test('requests and failures leak no descriptor', { skip }, async (t) => {
  const { thread, fd } = await place(t)
  const count = (): number => readdirSync('/proc/self/fd').length
  await thread.cookie(fd)
  const before = count()
  for (let round = 0; round < 100; round += 1) {
    await thread.cookie(fd)
    await thread.changeMarkRoute('delete', fd, [4, 6], MARK_ROUTE)
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
