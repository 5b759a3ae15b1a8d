// SPDX-License-Identifier: Apache-2.0
// Capture beside other things a node may have: socket load balancers, user namespaces, nested cgroups, full maps, and
// pods enrolled and withdrawn while they are busy.

import { execFileSync, spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { LAYOUT } from '../../agent/capture/layout.ts'
import { PIN_VERSION } from '../../agent/capture/pins.ts'
import { attachCgroup, openPinned } from '../../native/bpf-link.ts'
import { BpfMap } from '../../native/bpf-map.ts'
import { BpfObject } from '../../native/bpf-object.ts'
import { closeFd } from '../../native/libc.ts'
import { compileBpf } from '../compile-bpf.ts'
import { missing } from '../helpers.ts'
import { ADDRESS, World } from './support/world.ts'

const skip = missing('root', 'cgroup2')
const SERVICE = { address: '10.96.0.80', port: 80 } as const
const CAPTURED = `captured ${SERVICE.address} ${SERVICE.port}`
const PENDING_ENTRIES = 65_536
const URING_SOURCE = fileURLToPath(new URL('./support/uring-connect.c', import.meta.url))
const PENDING_KEY = 48
const PENDING_VALUE = LAYOUT.ambit_socket.size

/** A stand-in for a socket load balancer: the service IP becomes a pod IP in the connect hook. */
const LOAD_BALANCER = `
#include "common.h"
SEC("cgroup/connect4") int ambit_test_lb(struct bpf_sock_addr *ctx)
{
	if (ctx->user_ip4 == bpf_htonl(0x0a600050))
		ctx->user_ip4 = bpf_htonl(0x0a620003);
	return 1;
}
char LICENSE[] SEC("license") = "GPL";
`

/** Attaches the balancer to the node's cgroup, where no other hook is yet. */
function balance(t: Test, world: World): void {
  const balancer = BpfObject.open(compileBpf(t, LOAD_BALANCER))
  t.teardown(() => balancer.close())
  balancer.load()
  const program = balancer.programs()[0]
  const cgroupFd = openSync(world.cgroup, 'r')
  const link = attachCgroup(program?.fd ?? -1, cgroupFd, program?.attachType ?? -1)
  closeSync(cgroupFd)
  t.teardown(() => closeFd(link))
}

const ORDERS = [
  { kernel: 'that can preorder', mayPreorder: true, hookOrder: 'preordered' },
  { kernel: 'that cannot', mayPreorder: false, hookOrder: 'below' },
] as const

for (const { kernel, mayPreorder, hookOrder } of ORDERS)
  void t.test(
    `edge case #15: a socket load balancer does not hide the service IP, on a kernel ${kernel}`,
    { skip },
    async (t) => {
      const world = new World(t)
      balance(t, world)
      const first = await world.openAgent({ mayPreorder })
      const order = (await first.stats()).hookOrder
      if (mayPreorder && order !== 'preordered')
        return void t.pass('needs BPF_F_PREORDER (Linux 6.15)', { skip: true })
      t.equal(order, hookOrder)
      const server = world.app('b')
      await server.serve('0.0.0.0', 80)
      const app = world.app('a')
      const plain = await app.connect(SERVICE)
      t.equal(plain.received, `app saw ${ADDRESS.aV4} at ${ADDRESS.bV4}`, 'the balancer works')
      await first.enrol(world.pod('a'))
      const seen = await app.connect(SERVICE)
      t.equal(seen.received, CAPTURED, 'the enrolled pod is captured first')
      t.equal(seen.peer, `${SERVICE.address}:${SERVICE.port}`, 'and sees the service as its peer')

      const mesh = { address: '127.0.0.1', port: 15_001 }
      t.equal((await app.connect(mesh)).error, 'ECONNRESET', 'a direct call has no destination')
      const reused = await app.connect({ ...mesh, before: SERVICE })
      t.equal(reused.error, 'ECONNRESET', 'nor has one by a socket that was captured before')

      await first.process.stop('SIGKILL')
      const second = await world.openAgent({ mayPreorder })
      t.equal((await second.stats()).hookOrder, hookOrder, 'a successor takes the order over')
      await second.enrol(world.pod('a'))
      t.equal((await app.connect(SERVICE)).received, CAPTURED)
      await second.withdraw('uid-a')
      t.equal(
        (await app.connect(SERVICE)).received,
        `app saw ${ADDRESS.aV4} at ${ADDRESS.bV4}`,
        'a pod that left the mesh has the balancer again',
      )
      await second.process.ask('closeCapture', true)
      t.notOk(existsSync(`${world.bpffs}/${PIN_VERSION}`), 'unpinned: no link stays')
    },
  )

// The file's own limit, which is tap's 30 s otherwise, must not be less than its story's.
void t.test(
  'where nobody was attached before us, nothing is attached below',
  { skip },
  async (t) => {
    const world = new World(t)
    const agent = await world.openAgent({ mayPreorder: false })
    t.equal((await agent.stats()).hookOrder, 'first')
    t.strictSame(
      readdirSync(`${world.bpffs}/${PIN_VERSION}/links`).filter((name) => name.includes('@')),
      [],
    )
  },
)

function uringMissing(): string | false {
  const path = '/proc/sys/kernel/io_uring_disabled'
  const isOn = existsSync(path) && readFileSync(path, 'utf8').trim() === '0'
  return isOn ? false : 'needs io_uring switched on (kernel.io_uring_disabled=0)'
}

void t.test('busy pods', { skip }, async (t) => {
  const world = new World(t)
  const agent = await world.openAgent()
  const server = world.app('remote')
  await server.serve('0.0.0.0', 7070)

  await t.test(
    'edge case #43: enrolled and withdrawn under load, every connection is answered one way or the other',
    async (t) => {
      const app = world.app('a')
      const target = { address: ADDRESS.remoteV4, port: 7070 }
      const load = app.process.ask<Readonly<Record<string, number>>>('load', target)
      for (let round = 0; round < 20; round += 1) {
        t.match(await agent.enrol(world.pod('a')), { listeners: 6 })
        await app.connect(target)
        await agent.withdraw('uid-a')
      }
      await app.process.ask('stopLoad')
      t.strictSame(Object.keys(await load), ['answered'])
      await app.process.stop()
    },
  )

  await t.test(
    'edge case #44: when the pending map is full the connection is reset, not let out',
    async (t) => {
      await agent.enrol(world.pod('a'))
      const fd = openPinned(`${world.bpffs}/${PIN_VERSION}/maps/pending`)
      t.ok(fd)
      const pending = new BpfMap('pending', fd ?? -1, PENDING_KEY, PENDING_VALUE)
      const elements = Array.from({ length: PENDING_ENTRIES }, (_, index) => {
        const key = Buffer.alloc(PENDING_KEY)
        key.writeUInt32LE(index, 8)
        return [key, Buffer.alloc(PENDING_VALUE)] as const
      })
      pending.updateBatch(elements)
      t.equal(pending.entries().length, PENDING_ENTRIES)
      const app = world.app('a')
      const seen = await app.connect({ address: ADDRESS.remoteV4, port: 7070 })
      t.equal(seen.error, 'ECONNRESET')
      t.match(await agent.counters(), { pendingFull: 1, pendingMissing: 1 })
      t.equal(pending.deleteBatch(elements.map(([key]) => key)), PENDING_ENTRIES)
      t.equal((await app.connect(SERVICE)).received, CAPTURED)
      closeFd(fd ?? -1)
      await app.process.stop()
      await agent.withdraw('uid-a')
    },
  )

  await t.test(
    'edge case #8 #10: a container restarted in a new, nested cgroup is captured as before',
    async (t) => {
      await agent.enrol(world.pod('a'))
      for (const container of ['a/first', 'a/second/deeper'] as const) {
        mkdirSync(`${world.cgroup}/${container}`, { recursive: true })
        const app = world.app('a', container)
        t.equal((await app.connect(SERVICE)).received, CAPTURED)
        await app.process.stop()
      }
      await agent.withdraw('uid-a')
    },
  )

  await t.test(
    'edge case #37: no netfilter rule and no tracked connection comes into the pod',
    async (t) => {
      await agent.enrol(world.pod('a'))
      const app = world.app('a')
      t.equal((await app.connect(SERVICE)).received, CAPTURED)
      t.equal(world.inside('a', 'nft list ruleset'), '')
      t.equal(
        world.inside('a', 'cat /proc/sys/net/netfilter/nf_conntrack_count || echo 0').trim(),
        '0',
      )
      await app.process.stop()
      await agent.withdraw('uid-a')
    },
  )

  await t.test(
    'edge case #28: many connections at once to one destination are told apart',
    async (t) => {
      await agent.enrol(world.pod('a'))
      const apps = [world.app('a'), world.app('a'), world.app('a'), world.app('a')]
      const answers = await Promise.all(
        apps.flatMap((app, first) =>
          Array.from({ length: 25 }, async (_, index) => {
            const port = 10_000 + first * 100 + index
            const seen = await app.connect({ address: SERVICE.address, port })
            return seen.received === `captured ${SERVICE.address} ${port}`
          }),
        ),
      )
      t.strictSame(new Set(answers), new Set([true]))
      t.match(await agent.stats(), { pendingConnections: 0 })
      for (const { process } of apps) await process.stop()
      await agent.withdraw('uid-a')
    },
  )

  await t.test(
    'edge case #24: a connect by io_uring is captured',
    { skip: uringMissing() },
    async (t) => {
      await agent.enrol(world.pod('a'))
      const program = `${mkdtempSync(`${tmpdir()}/ambit-uring-`)}/uring-connect`
      t.teardown(() => rmSync(dirname(program), { recursive: true }))
      execFileSync('gcc', ['-O1', '-o', program, URING_SOURCE])
      for (const mode of ['plain', 'poll'])
        t.equal(
          world.inside('a', `exec timeout 5 ${program} ${SERVICE.address} 80 ${mode}`),
          CAPTURED,
        )
      await agent.withdraw('uid-a')
    },
  )

  await t.test("edge case #28: a client's ports are used again within seconds", async (t) => {
    // The pod's own range says nothing about what the agent may use.
    world.inside('a', 'echo 40001 40020 > /proc/sys/net/ipv4/ip_local_port_range')
    await agent.enrol(world.pod('a'))
    const app = world.app('a')
    await app.serve('0.0.0.0', 8080)
    // Each with the same first port: that of the one before waits in TIME_WAIT, on the agent's side or on the app's.
    for (const closeFirst of [true, false])
      for (let each = 0; each < 30; each += 1)
        t.match(
          await agent.process.ask('upstream', {
            uid: 'uid-a',
            address: ADDRESS.aV4,
            port: 8080,
            sourceIp: ADDRESS.remoteV4,
            sourcePort: closeFirst ? 40_000 : 50_000,
            closeFirst,
          }),
          /^app saw/,
        )
    await app.process.stop()
    await agent.withdraw('uid-a')
    world.inside('a', 'echo 32768 60999 > /proc/sys/net/ipv4/ip_local_port_range')
  })

  await t.test(
    'edge case #40: a pod in a user namespace of its own is enrolled and captured',
    async (t) => {
      const holder = spawn(
        'unshare',
        [
          '--user',
          '--map-root-user',
          '--net',
          'sh',
          '-c',
          'ip link set lo up && ip addr add 10.98.7.7/32 dev lo && ip route add default dev lo && echo ready && exec sleep 60',
        ],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      )
      t.teardown(() => holder.kill())
      await once(holder.stdout, 'data')
      const pod = world.pod('a', {
        uid: 'uid-userns',
        netnsPath: `/proc/${holder.pid}/ns/net`,
        addresses: [...world.pod('a').addresses.slice(0, 1)],
      })
      t.match(await agent.enrol(pod), { listeners: 6 })
      const app = world.app('a', 'a', [
        'nsenter',
        `--user=/proc/${holder.pid}/ns/user`,
        `--net=/proc/${holder.pid}/ns/net`,
      ])
      t.equal((await app.connect(SERVICE)).received, CAPTURED)
      await app.process.stop()
      await agent.withdraw('uid-userns')
    },
  )
})
