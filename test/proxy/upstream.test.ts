// SPDX-License-Identifier: Apache-2.0
// Connecting on behalf of a pod: what is tried again, and what is not.

import { once } from 'node:events'
import { fstatSync, openSync, readdirSync, statSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import {
  type ClientSource,
  connectUpstream,
  serveListeningFd,
  type UpstreamRequest,
  type UpstreamSockets,
} from '../../agent/proxy/upstream.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { socketFd } from '../../mesh/relay/last-descriptors.ts'
import { ok } from '../../mesh/result.ts'
import { addressBytes, closeFd } from '../../native/libc.ts'
import { openSocket } from '../../native/socket-spec.ts'
import { socketOptions } from '../support/socket-options.ts'
import { newAddress } from './loopback-world.ts'

const LOOPBACK = '127.0.0.1' as IpAddress

const boundTo = (port: number): number =>
  openSocket({
    family: 4,
    kind: 'tcp',
    options: ['reuseAddress', 'noDelay'],
    bind: { address: addressBytes(LOOPBACK), port },
  })

const asClient = (ports: ClientSource['ports']): ClientSource => ({
  whose: 'client',
  address: LOOPBACK,
  ports,
  clientPort: undefined,
})

await t.test('a source port that is taken is chosen anew', async (t) => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    t.teardown(() => socket.destroy())
  }).listen(0, LOOPBACK)
  t.teardown(() => server.close())
  await once(server, 'listening')
  const destination = { address: LOOPBACK, port: (server.address() as AddressInfo).port }
  const ports: number[] = []
  const sockets: UpstreamSockets = {
    setOptions: () => undefined,
    openUpstream: ({ from }) => {
      ports.push(from?.port ?? 0)
      return ok(boundTo(from?.port ?? 0))
    },
  }
  const connect = (from: UpstreamRequest['from']) =>
    connectUpstream(sockets, { netnsFd: -1, destination, from }, AbortSignal.timeout(5_000))
  const held: number[] = []
  for (let each = 0; each < 4; each += 1) {
    const outcome = await connect(undefined)
    if (!outcome.ok) throw new Error(outcome.error.message)
    t.teardown(() => outcome.value.destroy())
    held.push(outcome.value.localPort ?? 0)
  }
  const [first = 0, second = 0, third = 0, fourth = 0] = held

  await t.test(
    "as a client: until one is free, for the app must see the client's address",
    async (t) => {
      ports.length = 0
      const choices = [first, second, third, fourth, 0]
      const again = await connect(asClient({ next: () => choices.shift() ?? 0 }))
      if (!again.ok) throw new Error(again.error.message)
      t.teardown(() => again.value.destroy())
      t.same(ports, [...held, 0])
      const hopeless = await connect(asClient({ next: () => first }))
      t.match(hopeless, { ok: false, error: { reason: 'connectFailed' } }, 'and yet not for ever')
    },
  )

  await t.test(
    'as the pod: the port that the app chose, and any where that is kept from us',
    async (t) => {
      ports.length = 0
      const again = await connect({ whose: 'pod', address: LOOPBACK, port: first })
      if (!again.ok) throw new Error(again.error.message)
      t.teardown(() => again.value.destroy())
      t.same(ports, [first, 0])
    },
  )
})

await t.test('a SYN into the pod that is not answered is sent from another port', async (t) => {
  const destination = { address: newAddress(), port: 8080 }
  const listener = openSocket({
    family: 4,
    kind: 'tcp',
    bind: { address: addressBytes(destination.address), port: destination.port },
    backlog: 1,
  })
  t.teardown(() => closeFd(listener))
  // Nobody accepts: with these two the queue is full, and what comes now is not answered.
  for (let each = 0; each < 2; each += 1) {
    const waiting = connect(destination.port, destination.address)
    t.teardown(() => waiting.destroy())
    await once(waiting, 'connect')
  }
  const dial = async (from: UpstreamRequest['from'], timeoutMs: number | undefined) => {
    let opened = 0
    const given = new AbortController()
    const outcome = await connectUpstream(
      {
        setOptions: () => undefined,
        openUpstream: () => {
          opened += 1
          // The second has no end of its own: given up here once it is under way.
          if (timeoutMs === undefined && opened === 2) setTimeout(() => given.abort(), 300)
          return ok(boundTo(0))
        },
      },
      { netnsFd: -1, destination, timeoutMs, from },
      given.signal,
    )
    return { opened, outcome }
  }
  const client = asClient({ next: () => 0 })
  t.match(await dial(client, 400), { opened: 2, outcome: { error: { message: /timed out/ } } })
  t.match(await dial(undefined, 400), { opened: 1, outcome: { error: { message: /timed out/ } } })
  t.match(
    await dial(client, undefined),
    { opened: 2, outcome: { error: { reason: 'drained' } } },
    "with the kernel's own patience it goes on until it is given up",
  )
})

await t.test('a refusal is not tried again', async (t) => {
  const server = createServer().listen(0, LOOPBACK)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  let opened = 0
  const outcome = await connectUpstream(
    {
      setOptions: () => undefined,
      openUpstream: () => {
        opened += 1
        return ok(boundTo(0))
      },
    },
    { netnsFd: -1, destination: { address: LOOPBACK, port } },
    AbortSignal.timeout(5_000),
  )
  t.notOk(outcome.ok)
  t.equal(opened, 1)
})

await t.test('an fd that Node does not take is closed, not lost', async (t) => {
  // A file: Node makes no socket of it.
  const fd = openSync(join(t.testdir({ file: '' }), 'file'), 'r')
  const { dev, ino } = fstatSync(fd)
  const outcome = await connectUpstream(
    {
      setOptions: () => undefined,
      openUpstream: () => ok(fd),
    },
    { netnsFd: -1, destination: { address: LOOPBACK, port: 1 } },
    AbortSignal.timeout(5_000),
  )
  t.match(outcome, { ok: false, error: { reason: 'internal' } })
  // Told by its file, for the number may be another's by now.
  const stillOpen = readdirSync('/proc/self/fd').filter((each) => {
    const file = statSync(`/proc/self/fd/${each}`, { throwIfNoEntry: false })
    return file?.dev === dev && file.ino === ino
  })
  t.same(stillOpen, [])
})

await t.test(
  "a leg's options are the kernel's from the first, and cost Node nothing",
  async (t) => {
    const options = ['noDelay', 'keepAlive', 'urgentInline'] as const
    const fd = openSocket({
      family: 4,
      kind: 'tcp',
      options: ['reuseAddress', ...options],
      bind: { address: addressBytes(LOOPBACK), port: 0 },
      backlog: 8,
    })
    const accepted = Promise.withResolvers<Socket>()
    const server = await serveListeningFd(fd, accepted.resolve)
    t.teardown(() => server.close())
    const { port } = server.address() as AddressInfo
    const upstream = await connectUpstream(
      {
        setOptions: () => undefined,
        openUpstream: () => ok(openSocket({ family: 4, kind: 'tcp', options })),
      },
      { netnsFd: -1, destination: { address: LOOPBACK, port } },
      AbortSignal.timeout(5_000),
    )
    if (!upstream.ok) throw new Error(upstream.error.message)
    const downstream = await accepted.promise
    t.teardown(() => {
      upstream.value.destroy()
      downstream.destroy()
    })
    for (const socket of [upstream.value, downstream])
      t.match(socketOptions(socketFd(socket) ?? -1), {
        noDelay: true,
        keepAlive: { idleS: 180, intervalS: 10, probes: 6 },
      })
  },
)
