// SPDX-License-Identifier: Apache-2.0
// Pods and connections that end while they are still being made: nothing of them is left.

import { once } from 'node:events'
import { connect, Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import type { LocalPod } from '../../agent/proxy/local-pod.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { addressBytes } from '../../native/libc.ts'
import { openSocket } from '../../native/socket-spec.ts'
import { clientTlsOptions, makeCertificate, makeRoot } from '../hbone/certs.ts'
import { resetOf } from './conversation.ts'
import { newAddress, startAgent, type TestAgent, testPod } from './loopback-world.ts'

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

/** Serves HBONE alone, for want of a certificate to nobody. */
async function serveUncertified(agent: TestAgent, pod: LocalPod): Promise<IpAddress> {
  const [address] = pod.addresses as [IpAddress]
  const listener = openSocket({
    family: 4,
    kind: 'tcp',
    options: ['reuseAddress'],
    bind: { address: addressBytes(address), port: 15008 },
    backlog: 8,
  })
  const listeners = { outbound: [], inbound: [], hbone: [listener] }
  await agent.ask({ kind: 'servePod', pod, listeners })
  return address
}

await t.test('a pod without a certificate keeps nobody waiting for long', async (t) => {
  const root = await makeRoot()
  const agent = await startAgent(t, { root, certificateWaitMs: 50 })
  const pod = testPod('frontend')
  const address = await serveUncertified(agent, pod)
  const call = async (): Promise<string | undefined> => {
    const caller = connect(15008, address)
    t.teardown(() => caller.destroy())
    return resetOf(caller)
  }
  t.equal(await call(), 'ECONNRESET', 'who has waited')
  t.equal(await call(), 'ECONNRESET', 'and who comes later')
  t.match(await agent.line(({ direction }) => direction === 'inbound'), {
    error: /no certificate for .*frontend/,
  })

  agent.send({ kind: 'certificate', certificate: await makeCertificate(root, pod.identity) })
  const own = await makeCertificate(root, testPod('caller').identity)
  const socket = connectTls({
    ...clientTlsOptions(own),
    port: 15008,
    host: address,
  })
  t.teardown(() => socket.destroy())
  await once(socket, 'secureConnect')
  t.pass('with the first certificate it is served')

  await agent.ask({ kind: 'stopPod', uid: pod.uid, deadlineMs: 0 })
  t.equal(await call(), 'ECONNREFUSED', 'and nothing of it is left at its end')
})

await t.test('nor is anything left of one that never got a certificate', async (t) => {
  const agent = await startAgent(t, { certificateWaitMs: 0 })
  const pod = testPod('frontend')
  const address = await serveUncertified(agent, pod)
  t.equal(await resetOf(connect(15008, address)), 'ECONNRESET')
  await agent.ask({ kind: 'stopPod', uid: pod.uid, deadlineMs: 0 })
  t.equal(await resetOf(connect(15008, address)), 'ECONNREFUSED')
})
