// SPDX-License-Identifier: Apache-2.0
// Pods and connections that end while they are still being made: nothing of them is left.

import { once } from 'node:events'
import { connect, Socket } from 'node:net'
import t from 'tap'
import type { IpAddress } from '../../mesh/model/types.ts'
import { addressBytes } from '../../native/libc.ts'
import { openSocket } from '../../native/socket-spec.ts'
import { resetOf } from './conversation.ts'
import { newAddress, startAgent, testPod } from './loopback-world.ts'

await t.test('a call that gives way while it waits for the mesh is told so, at once', async (t) => {
  const agent = await startAgent(t, { maxConnectionsPerPod: 3, judge: () => undefined })
  const { call, plaintext } = await agent.servePod(testPod('frontend'))
  const destination = { address: newAddress(), port: 80 }
  const calls = [await call(destination), await call(destination), await call(destination)]
  const [oldest] = calls
  const ended = oldest && resetOf(oldest)
  const stranger = connect(plaintext.port, plaintext.address).on('error', () => undefined)
  t.teardown(() => stranger.destroy())
  t.equal(await ended, 'ECONNRESET', 'before the first picture of the mesh came')
  agent.send({ kind: 'meshSynced' })
  const line = await agent.line(({ direction, error }) =>
    Boolean(direction === 'outbound' && error),
  )
  t.match(line, { error: 'too many open connections' })
})

await t.test('a pod that is removed while it begins to be served leaves no listener', async (t) => {
  const agent = await startAgent(t)
  const pod = testPod('frontend')
  const [address] = pod.addresses as [IpAddress]
  const listen = (port: number): number =>
    openSocket({
      family: 4,
      kind: 'tcp',
      options: ['reuseAddress'],
      bind: { address: addressBytes(address), port },
      backlog: 8,
    })
  const listeners = { outbound: [listen(15001)], inbound: [listen(15006)], hbone: [listen(15008)] }
  await Promise.allSettled([
    agent.ask({ kind: 'servePod', pod, listeners }),
    agent.ask({ kind: 'stopPod', uid: pod.uid, deadlineMs: 0 }),
  ])
  for (const port of [15001, 15006, 15008]) {
    const socket = new Socket().connect(port, address)
    t.teardown(() => socket.destroy())
    const [error] = (await Promise.race([once(socket, 'error'), once(socket, 'connect')])) as [
      NodeJS.ErrnoException?,
    ]
    t.equal(error?.code, 'ECONNREFUSED', `port ${port}`)
  }
})
