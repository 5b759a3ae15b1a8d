// SPDX-License-Identifier: Apache-2.0
// Sockets of the native engine where relay.test.ts and splice.test.ts do not reach: crowds that open, break and are cut in any order,
// peers that are gone, words before a reset, threads that end.

import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'
import t, { type Test } from 'tap'
import { Cut } from '../../mesh/async/cut.ts'
import { relay } from '../support/relay.ts'
import { resetSocket } from '../../mesh/relay/reset-socket.ts'
import type { RelayResult } from '../../mesh/relay/relay-result.ts'
import { relayApp } from '../hbone/relayed-app.ts'
import { connectPlain, listenPlain } from '../support/plain-sockets.ts'
import { until } from '../support/until.ts'

const LOOPBACK = '127.0.0.1'
const AT_ONCE = 100

/** The same dice in every run (mulberry32). */
function dice(seed: number): (sides: number) => number {
  let state = seed
  return (sides) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % sides
  }
}

async function serve(t: Test, onSocket: (socket: Socket) => void): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined)
    onSocket(socket)
  })
  t.teardown(() => server.close())
  server.listen({ port: 0, host: LOOPBACK, backlog: 4096 })
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

function open(port: number): Socket {
  const socket = connect({ host: LOOPBACK, port, allowHalfOpen: true })
  socket.on('error', () => undefined)
  return socket
}

/** What one client of a crowd does; whether it was served, where it did not break anything itself. */
async function misbehave(port: number, roll: (sides: number) => number): Promise<boolean> {
  const socket = open(port)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  const sent = Buffer.alloc(1 + roll(64 * 1024), roll(256))
  const chunks: Buffer[] = []
  const how = roll(8)
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    if (how === 4) socket.resetAndDestroy()
  })
  if (how === 0) socket.once('connect', () => socket.resetAndDestroy())
  else if (how === 1) socket.write(sent, () => socket.resetAndDestroy())
  else if (how === 2) {
    socket.pause()
    socket.write(sent, () => setImmediate(() => socket.destroy()))
  } else socket.end(sent)
  socket.once('end', () => {
    if (!socket.writableEnded) socket.end()
  })
  await closed
  return how < 5 || Buffer.concat(chunks).equals(sent)
}

/** Runs so many, some at once; how many of those that did nothing wrong were not served. */
async function crowd(
  port: number,
  count: number,
  roll: (sides: number) => number,
): Promise<number> {
  let left = count
  let unserved = 0
  const one = async (): Promise<void> => {
    for (; left > 0; ) {
      left -= 1
      if (!(await misbehave(port, roll))) unserved += 1
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, one))
  return unserved
}

const descriptors = (): number => readdirSync('/proc/self/fd').length

void t.test('3,000 connections that break at random leave nothing behind', async (t) => {
  const roll = dice(7)
  const before = descriptors()
  const port = await serve(t, (socket) => {
    const how = roll(20)
    if (how === 0) socket.resetAndDestroy()
    else if (how === 1) socket.once('data', () => socket.resetAndDestroy())
    else if (how === 2) socket.end('too early').resume()
    else socket.pipe(socket)
  })
  const results: Promise<RelayResult>[] = []
  const front = await listenPlain(t, 'native', (downstream) => {
    connectPlain(t, 'native', port).then(
      (upstream) => {
        const cut = new Cut()
        results.push(relay(downstream, upstream, cut))
        // What is cut may be over already, or have much to say yet.
        const how = roll(20)
        const reason = how === 0 ? 'tooManyConnections' : 'drained'
        if (how < 3) setImmediate(() => cut.abort(reason))
      },
      // Reset before it was seen to be connected.
      () => resetSocket(downstream),
    )
  })
  await crowd(front, 3_000, roll)
  const ends = new Map<string, number>()
  for (const { end } of await Promise.all(results)) ends.set(end, (ends.get(end) ?? 0) + 1)
  for (const end of ['ok', 'clientReset', 'serverReset', 'drained'])
    t.ok((ends.get(end) ?? 0) > 10, `${end}: ${ends.get(end)}`)
  await until(
    () => descriptors() <= before + 8,
    () => `${descriptors()} descriptors to become ${before}`,
  )
})

void t.test('among clients that break at random every other is served', async (t) => {
  const port = await serve(t, (socket) => socket.pipe(socket))
  const front = await listenPlain(t, 'native', (downstream) => {
    void connectPlain(t, 'native', port).then((upstream) => relay(downstream, upstream))
  })
  t.equal(await crowd(front, 2_000, dice(11)), 0)
})

void t.test('the same over HBONE', async (t) => {
  const app = await relayApp(
    t,
    (socket) => socket.on('error', () => undefined).pipe(socket),
    {},
    'native',
  )
  const roll = dice(13)
  t.equal(await crowd(app.port, 1_000, roll), 0)
  await Promise.all([...app.outbound, ...app.inbound])
})

/** A relayed connection of which the client has half-closed, and the server goes on. */
async function halfClosed(t: Test): Promise<{ client: Socket; result: Promise<RelayResult> }> {
  const accepted = Promise.withResolvers<Socket>()
  const port = await serve(t, accepted.resolve)
  const result = Promise.withResolvers<RelayResult>()
  const front = await listenPlain(t, 'native', (downstream) => {
    void connectPlain(t, 'native', port).then((upstream) =>
      result.resolve(relay(downstream, upstream)),
    )
  })
  const client = open(front)
  client.end('question')
  const server = await accepted.promise
  t.teardown(() => server.destroy())
  await once(server.resume(), 'end')
  return { client, result: result.promise }
}

void t.test(
  'a peer that resets after its FIN is noticed, and nothing is written to it',
  async (t) => {
    const { client, result } = await halfClosed(t)
    client.resetAndDestroy()
    t.match(await result, { end: 'clientReset', bytesToUpstream: 8, bytesToDownstream: 0 })
  },
)

void t.test(
  'the answer of a server that does not wait for the end of the request is heard',
  async (t) => {
    const answer = '413 too large'
    const accepted: Socket[] = []
    const port = await serve(t, (socket) => accepted.push(socket))
    const front = await listenPlain(t, 'native', (downstream) => {
      void connectPlain(t, 'native', port).then((upstream) => relay(downstream, upstream))
    })
    let unheard = 0
    for (let turn = 0; turn < 50; turn += 1) {
      const client = open(front)
      client.write('question')
      await until(() => accepted.length > turn, 'the server to be called')
      const server = accepted[turn]
      if (server === undefined) throw new Error('not called')
      await once(server, 'data')
      let heard = ''
      client.on('data', (chunk: Buffer) => (heard += chunk.toString()))
      const failed = once(client, 'error') as Promise<[NodeJS.ErrnoException]>
      // All in one turn: the relay has the rest of the request to write before it has seen the answer.
      client.write('the rest')
      server.write(answer)
      server.resetAndDestroy()
      const [{ code }] = await failed
      if (heard !== answer || code !== 'ECONNRESET') unheard += 1
    }
    t.equal(unheard, 0)
  },
)

void t.test('a thread that ends takes its sockets along', async (t) => {
  const port = await serve(t, (socket) => socket.resume())
  for (let turn = 0; turn < 5; turn += 1) {
    const worker = new Worker(new URL('./thin-worker.ts', import.meta.url), { workerData: port })
    const [front] = (await once(worker, 'message')) as [number]
    const clients = Array.from({ length: 20 }, () => open(front))
    await once(worker, 'message')
    const closed = clients.map((each) => once(each.resume(), 'close').catch(() => undefined))
    if (turn % 2 === 0) await worker.terminate()
    else worker.postMessage('exit')
    for (const client of clients) client.end()
    await Promise.all(closed)
  }
  t.pass('five times')
})
