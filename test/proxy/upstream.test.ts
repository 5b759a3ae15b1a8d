// SPDX-License-Identifier: Apache-2.0
// Connecting on behalf of a pod: what is tried again, and what is not.

import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import t from 'tap'
import { connectUpstream } from '../../agent/proxy/upstream.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { ok } from '../../mesh/result.ts'
import { addressBytes } from '../../native/libc.ts'
import { openSocket } from '../../native/socket-spec.ts'

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

await t.test('a refusal is not tried again', async (t) => {
  const server = createServer().listen(0, LOOPBACK)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  let opened = 0
  const outcome = await connectUpstream(
    {
      originalDestination: () => undefined,
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
