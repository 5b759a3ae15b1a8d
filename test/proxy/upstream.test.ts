// SPDX-License-Identifier: Apache-2.0
// Connecting on behalf of a pod: what is tried again, and what is not.

import { once } from 'node:events'
import { fstatSync, openSync, readdirSync, statSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { connectUpstream, serveListeningFd } from '../../agent/proxy/upstream.ts'
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

await t.test('a source port that is taken is chosen anew, once', async (t) => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    t.teardown(() => socket.destroy())
  }).listen(0, LOOPBACK)
  t.teardown(() => server.close())
  await once(server, 'listening')
  const destination = { address: LOOPBACK, port: (server.address() as AddressInfo).port }
  const ports: number[] = []
  const sockets = (choices: number[]) => ({
    originalDestination: () => undefined,
    handshakesIn: () => undefined,
    openUpstream: () => {
      const port = choices.shift() ?? 0
      ports.push(port)
      return ok(boundTo(port))
    },
  })
  const connect = (choices: number[]) =>
    connectUpstream(
      sockets(choices),
      { netnsFd: -1, destination, sourceIp: LOOPBACK },
      AbortSignal.timeout(5_000),
    )
  const before = await connect([0])
  if (!before.ok) throw new Error(before.error.message)
  t.teardown(() => before.value.destroy())
  const taken = before.value.localPort ?? 0

  const again = await connect([taken, 0])
  t.ok(again.ok, 'the second choice connected')
  if (again.ok) t.teardown(() => again.value.destroy())

  ports.length = 0
  t.match(await connect([taken, taken, 0]), { ok: false, error: { reason: 'connectFailed' } })
  t.same(ports, [taken, taken], 'not a third time')
})

await t.test('a SYN into the pod that is not answered is sent from another port', async (t) => {
  const destination = { address: newAddress(), port: 8080 }
  const listener = openSocket({
    family: 4,
    kind: 'tcp',
    bind: { address: addressBytes(destination.address), port: destination.port },
    backlog: 1,
  })
  // Nobody accepts: with these two the queue is full, and what comes now is not answered.
  for (let each = 0; each < 2; each += 1) {
    const waiting = connect(destination.port, destination.address)
    t.teardown(() => waiting.destroy())
    await once(waiting, 'connect')
  }
  const dial = async (sourceIp: IpAddress | undefined) => {
    let opened = 0
    const outcome = await connectUpstream(
      {
        originalDestination: () => undefined,
        handshakesIn: () => undefined,
        openUpstream: () => {
          opened += 1
          return ok(boundTo(0))
        },
      },
      {
        netnsFd: -1,
        destination,
        timeoutMs: 400,
        ...(sourceIp === undefined ? {} : { sourceIp }),
      },
      AbortSignal.timeout(5_000),
    )
    t.match(outcome, { ok: false, error: { message: /timed out/ } })
    return opened
  }
  const startedAt = performance.now()
  t.equal(await dial(LOOPBACK), 2, 'as the client itself')
  t.ok(performance.now() - startedAt < 1_000, 'both in the time of one')
  t.equal(await dial(undefined), 1, 'to others once')
  closeFd(listener)
})

await t.test('a refusal is not tried again', async (t) => {
  const server = createServer().listen(0, LOOPBACK)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  let opened = 0
  const outcome = await connectUpstream(
    {
      originalDestination: () => undefined,
      handshakesIn: () => undefined,
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
      originalDestination: () => undefined,
      handshakesIn: () => undefined,
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
    const options = ['noDelay', 'keepAlive'] as const
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
        originalDestination: () => undefined,
        handshakesIn: () => undefined,
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
