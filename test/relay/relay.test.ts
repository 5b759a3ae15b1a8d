// SPDX-License-Identifier: Apache-2.0
// The relay with real sockets, of both kinds: what an app must not notice when a proxy stands between it and its peer.

import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, Socket } from 'node:net'
import { setImmediate as eventLoopTurn, setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { SOCKET_OPTIONS } from '../../agent/proxy/upstream.ts'
import { relay } from '../support/relay.ts'
import type { RelayResult } from '../../mesh/relay/relay-result.ts'
import type { PlainSocket } from '../../mesh/relay/thin-socket.ts'
import { connectPlain, type Kind, KINDS, listenPlain } from '../support/plain-sockets.ts'

interface Relayed {
  /** The app that called. */
  readonly client: Socket
  /** The app that was called. */
  readonly server: Socket
  readonly result: Promise<RelayResult>
  readonly cut: AbortController
  /** The relay's own two sockets. */
  readonly legs: readonly [PlainSocket, PlainSocket]
}

/** client -> relay -> server, all on loopback. */
async function relayed(t: Test, kind: Kind): Promise<Relayed> {
  const cut = new AbortController()
  const app = await listen(t)
  const front = Promise.withResolvers<PlainSocket>()
  const frontPort = await listenPlain(t, kind, front.resolve)
  const serverAccepted = once(app, 'connection') as Promise<[Socket]>
  const client = connect(t, frontPort)
  const downstream = await front.promise
  const upstream = await connectPlain(t, kind, portOf(app))
  const [server] = await serverAccepted
  t.teardown(() => server.destroy())
  client.on('error', () => undefined)
  server.on('error', () => undefined)
  const result = relay(downstream, upstream, cut.signal)
  return { client, server, result, cut, legs: [downstream, upstream] }
}

async function relayedAborted(t: Test, kind: Kind): Promise<RelayResult> {
  const accepted = Promise.withResolvers<PlainSocket>()
  const port = await listenPlain(t, kind, accepted.resolve)
  const client = connect(t, port)
  client.on('error', () => undefined)
  const upstream = await connectPlain(t, kind, portOf(await listen(t)))
  return relay(await accepted.promise, upstream, AbortSignal.abort('drained'))
}

async function listen(t: Test): Promise<Server> {
  const server = createServer(SOCKET_OPTIONS, (socket) => socket.on('error', () => undefined))
  t.teardown(() => server.close())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}

function connect(t: Test, port: number): Socket {
  const socket = new Socket(SOCKET_OPTIONS)
  t.teardown(() => socket.destroy())
  return socket.connect(port, '127.0.0.1')
}

/** Reads to the end without closing the other direction, as `for await` would. */
async function readAll(socket: Socket): Promise<string> {
  let text = ''
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  await once(socket, 'end')
  return text
}

for (const kind of KINDS)
  void t.test(`with ${kind} sockets`, async (t) => {
    await t.test('a request is answered after the client half-closed', async (t) => {
      const { client, server, result } = await relayed(t, kind)
      client.end('question')
      t.equal(await readAll(server), 'question')
      server.end('answer')
      t.equal(await readAll(client), 'answer')
      t.match(await result, { bytesToUpstream: 8, bytesToDownstream: 6, end: 'ok' })
    })

    await t.test('the client may go on sending after the server half-closed', async (t) => {
      const { client, server, result } = await relayed(t, kind)
      server.end('bye')
      t.equal(await readAll(client), 'bye')
      client.end('still here')
      t.equal(await readAll(server), 'still here')
      t.equal((await result).end, 'ok')
    })

    await t.test(
      'a server that speaks first is heard before the client says anything',
      async (t) => {
        const { client, server, result } = await relayed(t, kind)
        server.write('220 ready')
        const [greeting] = (await once(client, 'data')) as [Buffer]
        t.equal(greeting.toString(), '220 ready')
        client.end()
        server.end()
        t.equal((await result).end, 'ok')
      },
    )

    await t.test('a reset by the client reaches the server as a reset', async (t) => {
      const { client, server, result } = await relayed(t, kind)
      client.write('half')
      await once(server, 'data')
      const failed = once(server, 'error') as Promise<[NodeJS.ErrnoException]>
      client.resetAndDestroy()
      t.equal((await failed)[0].code, 'ECONNRESET')
      t.match(await result, { end: 'clientReset', bytesToUpstream: 4 })
    })

    await t.test(
      'a reset by the server reaches the client as a reset, never as an end',
      async (t) => {
        const { client, server, result } = await relayed(t, kind)
        client.write('question')
        await once(server, 'data')
        let sawEnd = false
        client.on('end', () => {
          sawEnd = true
        })
        const failed = once(client, 'error') as Promise<[NodeJS.ErrnoException]>
        client.resume()
        server.resetAndDestroy()
        t.equal((await failed)[0].code, 'ECONNRESET')
        t.equal(sawEnd, false)
        t.equal((await result).end, 'serverReset')
      },
    )

    await t.test('a reset after a half-close is still a reset', async (t) => {
      const { client, server, result } = await relayed(t, kind)
      client.end('question')
      t.equal(await readAll(server), 'question')
      const failed = once(client, 'error') as Promise<[NodeJS.ErrnoException]>
      client.resume()
      server.resetAndDestroy()
      t.equal((await failed)[0].code, 'ECONNRESET')
      t.equal((await result).end, 'serverReset')
    })

    await t.test('cutting resets both ends and tells the given reason', async (t) => {
      const { client, server, result, cut } = await relayed(t, kind)
      client.resume()
      server.resume()
      const failures = Promise.all([once(client, 'error'), once(server, 'error')])
      cut.abort('podRemoved')
      const codes = (await failures).map(([error]) => (error as NodeJS.ErrnoException).code)
      t.same(codes, ['ECONNRESET', 'ECONNRESET'])
      t.equal((await result).end, 'podRemoved')
    })

    await t.test(
      'one that gives way for want of descriptors gives them back at once',
      async (t) => {
        const { client, server, result, cut, legs } = await relayed(t, kind)
        client.pause()
        const chunk = Buffer.alloc(1024 * 1024)
        // Until nothing moves any more: what the client does not read waits in the relay as well.
        for (let still = 0, waiting = 0; still < 50; waiting = server.writableLength) {
          if (server.writableLength < chunk.length) server.write(chunk)
          still = server.writableLength === waiting ? still + 1 : 0
          await eventLoopTurn()
        }
        cut.abort('tooManyConnections')
        t.ok(
          legs.every(({ destroyed }) => destroyed),
          'and not when its peer has read what waits',
        )
        t.equal((await result).end, 'tooManyConnections')
      },
    )

    await t.test('a connection cut before it was joined ends at once', async (t) => {
      const { cut } = await relayed(t, kind)
      cut.abort('drained')
      const again = await relayedAborted(t, kind)
      t.equal(again.end, 'drained')
    })

    await t.test(
      'a reader that does not read holds the writer back, with bounded memory',
      async (t) => {
        const { client, server, legs, result } = await relayed(t, kind)
        server.pause()
        const chunk = randomBytes(64 * 1024)
        // Writes until the whole chain of buffers is full and stays full for a while.
        let accepted = 0
        let stalledTurns = 0
        while (stalledTurns < 20) {
          if (client.writableLength < chunk.length) {
            client.write(chunk)
            accepted += chunk.length
            stalledTurns = 0
          } else stalledTurns += 1
          // No event says that nothing will move any more.
          await delay(5)
        }
        // What the engine holds is bounded by the one buffer that it reads into.
        const buffered = legs.map((leg) =>
          leg instanceof Socket ? leg.readableLength + leg.writableLength : 0,
        )
        t.ok(
          buffered.every((bytes) => bytes <= 256 * 1024),
          `each leg of the relay holds at most 256 KiB, found ${buffered.join(' and ')}`,
        )
        client.end()
        let received = 0
        server.on('data', (part: Buffer) => {
          received += part.length
        })
        server.resume()
        await once(server, 'end')
        t.equal(received, accepted, 'nothing was lost while it waited')
        server.end()
        client.resume()
        t.equal((await result).end, 'ok')
      },
    )

    await t.test('256 MiB arrive unchanged', async (t) => {
      const { client, server, result } = await relayed(t, kind)
      const total = 256 * 1024 * 1024
      const block = randomBytes(1024 * 1024)
      const sent = createHash('sha1')
      const received = createHash('sha1')
      server.on('data', (part: Buffer) => received.update(part))
      const reading = once(server, 'end')
      for (let done = 0; done < total; done += block.length) {
        block.writeUInt32LE(done / block.length, 0)
        const copy = Buffer.from(block)
        sent.update(copy)
        if (!client.write(copy)) await once(client, 'drain')
      }
      client.end()
      await reading
      server.end()
      client.resume()
      t.equal(received.digest('hex'), sent.digest('hex'))
      t.match(await result, { bytesToUpstream: total, end: 'ok' })
    })
  })
