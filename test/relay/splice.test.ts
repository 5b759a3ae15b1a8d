// SPDX-License-Identifier: Apache-2.0
// What an application and its client see of the mesh between them: nothing.

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setImmediate as eventLoopTurn, setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { ThinSocket } from '../../mesh/relay/thin-socket.ts'
import { KINDS } from '../support/plain-sockets.ts'
import { readInPlace, sharedReadBuffer } from '../../mesh/relay/read-in-place.ts'
import { FLUSH_BEFORE_RESET_MS } from '../../mesh/relay/reset-socket.ts'
import { readAll, relayApp } from '../hbone/relayed-app.ts'

const MIB = 1024 * 1024

function closed(socket: ThinSocket): Promise<void> {
  return new Promise((resolve) => socket.onceClosed(resolve))
}

for (const kind of KINDS)
  await t.test(`with ${kind} sockets`, async (t) => {
    await t.test(
      'a client that half-closes still gets the answer, and the server sees its FIN first',
      async (t) => {
        const app = await relayApp(
          t,
          (socket) => {
            void readAll(socket).then((request) => socket.end(`got ${request.length}`))
          },
          {},
          kind,
        )
        const socket = await app.connect()
        socket.end('question')
        t.equal((await readAll(socket)).toString(), 'got 8')
        t.same(await app.outbound[0], { sent: 8, received: 5, end: 'ok' })
        t.same(await app.inbound[0], { sent: 5, received: 8, end: 'ok' })
      },
    )

    await t.test(
      'a server that speaks first and half-closes first still hears the client',
      async (t) => {
        const heard = Promise.withResolvers<string>()
        const app = await relayApp(
          t,
          (socket) => {
            socket.end('220 ready')
            void readAll(socket).then((rest) => heard.resolve(rest.toString()))
          },
          {},
          kind,
        )
        const socket = await app.connect()
        t.equal((await readAll(socket)).toString(), '220 ready')
        socket.end('late words')
        t.equal(await heard.promise, 'late words')
        t.match(await app.outbound[0], { end: 'ok' })
      },
    )

    await t.test('64 MiB each way at once arrive unharmed', async (t) => {
      const sendAndHash = async (
        socket: Socket,
        seed: number,
      ): Promise<readonly [string, string]> => {
        const sent = createHash('sha256')
        const got = createHash('sha256')
        const reading = once(socket, 'end')
        socket.on('data', (chunk) => got.update(chunk))
        for (let index = 0; index < 64; index += 1) {
          const block = Buffer.alloc(MIB - index, seed + index) // not a multiple of any buffer
          sent.update(block)
          if (!socket.write(block)) await once(socket, 'drain')
        }
        socket.end()
        await reading
        return [sent.digest('hex'), got.digest('hex')]
      }
      const far = Promise.withResolvers<readonly [string, string]>()
      const app = await relayApp(
        t,
        (socket) => void sendAndHash(socket, 100).then(far.resolve),
        {},
        kind,
      )
      const [sent, got] = await sendAndHash(await app.connect(), 1)
      const [farSent, farGot] = await far.promise
      t.equal(farGot, sent)
      t.equal(got, farSent)
    })

    await t.test('small and large writes to a reader that lags arrive unharmed, too', async (t) => {
      const sent = createHash('sha256')
      const app = await relayApp(
        t,
        (socket) => {
          const write = (length: number, fill: number): Promise<void> => {
            const block = Buffer.alloc(length, fill)
            sent.update(block)
            return new Promise((resolve) => void socket.write(block, () => resolve()))
          }
          void (async () => {
            await write(6 * MIB, 1) // what the kernel takes for a reader that does not read
            for (let index = 0; index < 400; index += 1)
              await Promise.all([1, 700, 8 * 1024, 30_000, 3].map((length) => write(length, index)))
            socket.end()
          })()
        },
        {},
        kind,
      )
      const socket = await app.connect()
      const got = createHash('sha256')
      socket.on('data', (chunk) => {
        got.update(chunk)
        socket.pause()
        setImmediate(() => socket.resume())
      })
      await once(socket, 'end')
      socket.end()
      t.equal(got.digest('hex'), sent.digest('hex'))
    })

    await t.test('RST of the client reaches the server as RST', async (t) => {
      const failure = Promise.withResolvers<NodeJS.ErrnoException>()
      const app = await relayApp(
        t,
        (socket) => {
          socket.on('error', (error) => failure.resolve(error))
          socket.write('x')
        },
        {},
        kind,
      )
      const socket = await app.connect()
      await once(socket, 'data')
      socket.resetAndDestroy()
      t.equal((await failure.promise).code, 'ECONNRESET')
      t.match(await app.outbound[0], { end: 'clientReset' })
      t.match(await app.inbound[0], { end: 'clientReset' })
    })

    await t.test('RST of the server reaches the client as RST', async (t) => {
      const app = await relayApp(
        t,
        (socket) => socket.once('data', () => socket.resetAndDestroy()),
        {},
        kind,
      )
      const socket = await app.connect()
      socket.write('x')
      const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
      t.equal(error.code, 'ECONNRESET')
      t.match(await app.outbound[0], { end: 'serverReset' })
      t.match(await app.inbound[0], { end: 'serverReset' })
    })

    await t.test(
      'a client that has stopped reading hears a RST when the connection is lost, never an end',
      async (t) => {
        const memory = new HeldMemory(256 * MIB)
        const app = await relayApp(
          t,
          (socket) => void socket.on('error', () => undefined).write(Buffer.alloc(64 * MIB)),
          { memory },
          kind,
        )
        const socket = await app.connect()
        socket.pause()
        while (memory.total < 3 * MIB) await eventLoopTurn()
        app.world.dialled[0]?.resetAndDestroy()
        t.match(await app.outbound[0], { end: 'serverReset' })
        t.equal(memory.total, 0)
        const failure = once(socket, 'error')
        socket.resume()
        t.match(await failure, [{ code: 'ECONNRESET' }])
      },
    )

    await t.test('what the server sent before its RST still arrives', async (t) => {
      const app = await relayApp(
        t,
        (socket) => {
          socket.once('data', () => socket.write('last words', () => socket.resetAndDestroy()))
        },
        {},
        kind,
      )
      const socket = await app.connect()
      const words = once(socket, 'data')
      const failure = once(socket, 'error').catch((error: unknown) => [error])
      socket.write('x')
      t.equal(String((await words)[0]), 'last words')
      t.match(await failure, [{ code: 'ECONNRESET' }])
    })

    await t.test(
      'what the client sent before its RST still arrives where the server lags, and holds nothing where it does not read',
      async (t) => {
        for (const lags of [true, false]) {
          const accepted = Promise.withResolvers<Socket>()
          const app = await relayApp(
            t,
            (socket) => {
              socket.pause()
              accepted.resolve(socket)
            },
            {},
            kind,
          )
          const client = await app.connect()
          client.on('error', () => undefined)
          client.write(Buffer.alloc(64 * MIB))
          const server = await accepted.promise
          // Until the whole way is full: nothing more leaves the client.
          const [near] = app.near
          for (let still = 0, left = -1; still < 20; still += 1) {
            if (near === undefined || client.bytesWritten !== left) still = 0
            left = client.bytesWritten
            await delay(50)
          }
          const failure = new Promise<NodeJS.ErrnoException>((resolve) =>
            server.once('error', resolve),
          )
          const resetAt = performance.now()
          const broken =
            near instanceof ThinSocket
              ? closed(near)
              : once(near ?? client, 'close').catch(() => undefined)
          client.resetAndDestroy()
          // A relay that does not read hears of it when it writes.
          server.write('x')
          await broken
          if (lags) {
            let received = 0
            server.on('data', (chunk: Buffer) => (received += chunk.length)).resume()
            t.equal((await failure).code, 'ECONNRESET')
            const tookMs = performance.now() - resetAt
            const outcome = await app.outbound[0]
            t.match(outcome, { end: 'clientReset' })
            // All that the tunnel had taken; but where the machine took longer than the words may take, only a part is promised.
            if (tookMs < FLUSH_BEFORE_RESET_MS) t.equal(received, outcome?.sent)
            t.ok(received > MIB)
          } else {
            t.match(await app.outbound[0], { end: 'clientReset' })
            t.ok(performance.now() - resetAt < 10_000, 'after a second or so')
            server.destroy()
          }
        }
      },
    )

    await t.test('a lost HBONE connection is a RST on both sides', async (t) => {
      const failure = Promise.withResolvers<NodeJS.ErrnoException>()
      const app = await relayApp(
        t,
        (socket) => {
          socket.on('error', (error) => failure.resolve(error))
          socket.write('x')
        },
        {},
        kind,
      )
      const socket = await app.connect()
      await once(socket, 'data')
      app.world.dialled[0]?.resetAndDestroy()
      const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
      t.equal(error.code, 'ECONNRESET')
      t.equal((await failure.promise).code, 'ECONNRESET')
    })

    await t.test(
      'a reader that stops stops the far writer, and what waits between them is bounded',
      async (t) => {
        const stuck = Promise.withResolvers<number>()
        const total = 96 * MIB
        const app = await relayApp(
          t,
          (socket) => {
            const block = Buffer.alloc(MIB, 7)
            let written = 0
            // Settled when a write has not drained within a second: the whole path is full.
            const pump = (): void => {
              const deadline = setTimeout(() => stuck.resolve(written), 1_000)
              socket.write(block, () => {
                clearTimeout(deadline)
                written += MIB
                if (written < total) pump()
                else {
                  stuck.resolve(written)
                  socket.end()
                }
              })
            }
            pump()
          },
          {},
          kind,
        )
        const socket = await app.connect()
        socket.pause()
        const written = await stuck.promise
        t.ok(written < 32 * MIB, `the writer stopped after ${written / MIB} MiB`)
        let received = 0
        socket.on('data', (chunk: Buffer) => {
          received += chunk.length
        })
        socket.resume()
        await once(socket, 'end')
        t.equal(received, total)
      },
    )

    await t.test('2,000 tunnels at once echo, each its own bytes', async (t) => {
      const app = await relayApp(t, (socket) => socket.pipe(socket), {}, kind)
      const talk = async (index: number): Promise<boolean> => {
        const socket = await app.connect()
        const text = `tunnel ${index} `.repeat(20)
        socket.end(text)
        return (await readAll(socket)).toString() === text
      }
      const open = await Promise.all(Array.from({ length: 2_000 }, (_, index) => talk(index)))
      t.equal(open.filter(Boolean).length, 2_000)
      t.ok(app.world.dials() <= 40, `${app.world.dials()} connections`)
    })

    await t.test('a drain without patience resets what is under way', async (t) => {
      const app = await relayApp(
        t,
        (socket) => socket.on('error', () => undefined).write('x'),
        {},
        kind,
      )
      const socket = await app.connect()
      await once(socket, 'data')
      const error = once(socket, 'error')
      await app.world.pool.drain(0)
      t.match(await error, [{ code: 'ECONNRESET' }])
    })
  })

await t.test('reads use one buffer again and again on this version of Node', async (t) => {
  const app = await relayApp(t, (socket) => {
    t.ok(
      readInPlace(socket, sharedReadBuffer(), () => false),
      'see read-in-place.ts',
    )
    socket.end()
  })
  const socket = await app.connect()
  await once(socket.resume(), 'end')
  socket.end()
})
