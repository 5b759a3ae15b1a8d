// SPDX-License-Identifier: Apache-2.0
// A server that answers before it has read all, and closes: the kernel resets the connection behind the answer.

import { once } from 'node:events'
import { type AddressInfo, createServer, Socket } from 'node:net'
import t, { type Test } from 'tap'
import { SOCKET_OPTIONS } from '../../agent/proxy/upstream.ts'
import { LastWords } from '../../mesh/relay/last-words.ts'
import { relay } from '../support/relay.ts'
import { readNow } from '../../native/libc.ts'

/** Two ends of a connection over loopback. */
async function pair(t: Test): Promise<readonly [Socket, Socket]> {
  const server = createServer({ ...SOCKET_OPTIONS, pauseOnConnect: true })
  t.teardown(() => server.close())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const near = new Socket(SOCKET_OPTIONS)
  near.connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [far] = await accepted
  if (near.connecting) await once(near, 'connect')
  for (const socket of [near, far]) t.teardown(() => socket.destroy())
  return [near, far]
}

/** What the client hears when the server answers and resets, and the relay writes before it has read. */
async function heard(
  t: Test,
  { answer, turns }: { readonly answer: Buffer; readonly turns: number },
): Promise<{ readonly text: Buffer; readonly error: string | undefined; readonly end: string }> {
  const [client, downstream] = await pair(t)
  const [upstream, server] = await pair(t)
  const words = new LastWords(readNow)
  for (const leg of [downstream, upstream]) words.heed(leg)
  const result = relay(downstream, upstream)
  // After a few chunks the relay reads in another way.
  for (let turn = 0; turn < turns; turn += 1) {
    server.write('.')
    await once(client, 'data')
  }
  const chunks: Buffer[] = []
  client.on('data', (chunk: Buffer) => chunks.push(chunk))
  const failed = once(client, 'error') as Promise<[NodeJS.ErrnoException]>
  // All in one turn, so nothing of the answer is read before the write fails.
  server.write(answer)
  server.resetAndDestroy()
  upstream.write('the rest of the request')
  const [{ code }] = await failed
  return { text: Buffer.concat(chunks), error: code, end: (await result).end }
}

for (const turns of [0, 8])
  void t.test(`an answer before a reset is heard, after ${turns} chunks`, async (t) => {
    const { text, ...ended } = await heard(t, { answer: Buffer.from('413 too large'), turns })
    t.equal(text.toString(), '413 too large')
    t.strictSame(ended, { error: 'ECONNRESET', end: 'serverReset' })
  })

void t.test('an answer of many reads arrives whole and in order', async (t) => {
  const answer = Buffer.from(Array.from({ length: 40_000 }, (_, place) => place % 251))
  t.ok((await heard(t, { answer, turns: 8 })).text.equals(answer))
})

void t.test('what a peer can make the relay hold is bounded', async (t) => {
  const { text, error } = await heard(t, { answer: Buffer.alloc(120_000, 'x'), turns: 0 })
  t.ok(text.length >= 64 * 1024 && text.length <= 80 * 1024, `${text.length} bytes were held`)
  t.equal(error, 'ECONNRESET')
})
