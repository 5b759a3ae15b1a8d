// SPDX-License-Identifier: Apache-2.0
// A client that has sent its FIN and is gone is noticed, although nothing is written to it any more; one that only listens is not hurt.

import { once } from 'node:events'
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { HalfClosed } from '../../mesh/relay/half-closed.ts'
import { isTcpClosed } from '../../native/tcp-state.ts'
import { peerProbe } from '../../agent/proxy/peer-probe.ts'

/** Our side of a connection whose client has sent its FIN, and the client. */
async function halfClosed(
  t: Test,
  watch: HalfClosed,
): Promise<{ ours: Socket; client: Socket; closed: Promise<void> }> {
  const server = createServer({ allowHalfOpen: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const client = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
  const [ours] = (await once(server, 'connection')) as [Socket]
  t.teardown(() => {
    client.destroy()
    ours.destroy()
    server.close()
  })
  watch.watch(ours)
  ours.resume()
  client.end()
  await once(ours, 'end')
  const { promise: closed, resolve } = Promise.withResolvers<void>()
  // After whoever watches, who must have forgotten it by then.
  ours.once('close', () => setImmediate(resolve))
  return { ours, client, closed }
}

void t.test('a peer that resets after its FIN is noticed at the next look', async (t) => {
  const watch = new HalfClosed(peerProbe, 5)
  const { ours, client, closed } = await halfClosed(t, watch)
  const failed = once(ours, 'error')
  client.resetAndDestroy()
  const [error] = (await failed) as [NodeJS.ErrnoException]
  t.equal(error.code, 'ECONNRESET')
  await closed
  t.equal(watch.size, 0, 'forgotten with it')
})

void t.test('a peer that only listens goes on being served', async (t) => {
  const watch = new HalfClosed(peerProbe)
  const { ours, client, closed } = await halfClosed(t, watch)
  t.equal(watch.size, 1)
  watch.look()
  watch.look()
  t.equal(ours.destroyed, false)
  const arrived = once(client, 'data')
  ours.end('the answer')
  t.equal(String((await arrived)[0]), 'the answer')
  client.destroy()
  await closed
  t.equal(watch.size, 0)
})

void t.test('what is no TCP socket is an error, not dead', (t) => {
  t.throws(() => isTcpClosed(0), { message: /TCP_INFO/ })
  t.end()
})
