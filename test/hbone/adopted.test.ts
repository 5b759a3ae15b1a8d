// SPDX-License-Identifier: Apache-2.0
// Connections whose bytes the engine moves, after Node has shaken hands for them: nothing is lost on the way from one to the other, TLS goes
// on as it did, and nothing is left behind.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { getHeapSnapshot } from 'node:v8'
import t, { type Test } from 'tap'
import { socketEngine } from '../support/engine.ts'
import { Cut } from '../../mesh/async/cut.ts'
import { clientTlsOptions } from './certs.ts'
import type { HboneTunnel } from '../../mesh/hbone/types.ts'
import { noteMade } from '../../mesh/http2/adopted-wire.ts'
import { FRAME, PREFACE } from '../../mesh/http2/protocol.ts'
import { DeafListener } from '../../mesh/relay/thin-socket.ts'
import { until } from '../support/until.ts'
import { makeWorld, type World } from './harness.ts'
import { frame, rawPeer } from './raw-peer.ts'

const engine = socketEngine()
const skip = engine === undefined && 'native was not built: there is no engine'
const MEGABYTE = 1024 * 1024
const ACK = 0x1

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

async function echoes(t: Test, world: World, bytes: Buffer): Promise<void> {
  const { tunnel } = await world.open()
  tunnel.end(bytes)
  const back = await buffer(tunnel)
  t.equal(back.length, bytes.length)
  t.equal(digest(back), digest(bytes))
}

void t.test('megabytes go both ways unharmed, many at once', { skip }, async (t) => {
  const world = await makeWorld(t)
  const each = Array.from({ length: 6 }, () => randomBytes(3 * MEGABYTE))
  await Promise.all(each.map((bytes) => echoes(t, world, bytes)))
  t.equal(world.dials(), 1, 'on one connection')
})

void t.test('Node alone serves where there is no engine', async (t) => {
  const world = await makeWorld(t, { isWithoutEngine: true })
  await echoes(t, world, randomBytes(3 * MEGABYTE))
})

void t.test(
  'what a peer says before the engine has its connection is heard',
  { skip },
  async (t) => {
    const world = await makeWorld(t)
    const raw = connect({ port: world.port, host: '127.0.0.1' })
    t.teardown(() => raw.destroy())
    const tls = tlsConnect({
      ...clientTlsOptions(world.clientCertificate),
      socket: raw,
    })
    // Queued before the handshake, so that it comes with the last flight of it.
    tls.write(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0), ping('early....')]))
    const seen = await bytesUntil(tls, ping('early....', ACK))
    t.ok(seen)
  },
)

void t.test(
  'a peer that renews its keys is still understood, and understands',
  { skip },
  async (t) => {
    const world = await makeWorld(t)
    const peer = await opensslPeer(t, world)
    for (const round of ['first...', 'second..']) {
      const before = peer.updates()
      // s_client's command: new keys for what it sends, and a request for new ones for what it gets.
      peer.child.stdin.write('K\n')
      await until(() => peer.updates() > before, 'new keys')
      peer.child.stdin.write(ping(round))
      t.ok(await bytesUntil(peer.child.stdout, ping(round, ACK)), round)
    }
  },
)

void t.test('a peer that renews its keys without end is cut', { skip }, async (t) => {
  const world = await makeWorld(t)
  const peer = await opensslPeer(t, world)
  let isOver = false
  peer.child.on('exit', () => (isOver = true))
  for (let round = 0; round < 200 && !isOver; round += 1) {
    const before = peer.updates()
    peer.child.stdin.write('K\n')
    await until(() => isOver || peer.updates() > before, 'new keys, or the end')
  }
  t.ok(isOver, 'it is over')
  await until(() => world.server.connectionCount() === 0, 'the end of the connection')
  await echoes(t, world, randomBytes(1000))
})

void t.test(
  'a record that was tampered with ends its connection, and no other',
  { skip },
  async (t) => {
    const world = await makeWorld(t)
    const bystander = await world.open()
    let isTampering = false
    const port = await proxy(
      t,
      (from, to) => {
        to.pipe(from)
        from.on('data', (chunk: Buffer) => {
          if (isTampering) chunk[chunk.length - 1] = (chunk.at(-1) ?? 0) ^ 1
          to.write(chunk)
        })
      },
      world,
    )
    const peer = await rawPeer(t, port, world.clientCertificate)
    peer.send(ping('honest..'))
    await peer.frame(({ type, flags }) => type === FRAME.ping && flags === ACK)
    isTampering = true
    peer.send(ping('tampered'))
    await new Promise((resolve) => peer.socket.once('close', resolve))
    t.notOk(
      peer.seen.some(({ payload }) => payload.toString() === 'tampered'),
      'nothing of it was acted on',
    )
    bystander.tunnel.end('still here')
    t.equal((await buffer(bystander.tunnel)).toString(), 'still here')
  },
)

void t.test('a peer that does not read for a while gets all of it', { skip }, async (t) => {
  const bytes = randomBytes(3 * MEGABYTE)
  const world = await makeWorld(t, {
    onTunnel: (incoming) => {
      incoming
        .accept({})
        .on('error', () => undefined)
        .end(bytes)
    },
  })
  const stalled: Socket[] = []
  const port = await proxy(
    t,
    (from, to) => {
      from.pipe(to)
      to.pipe(from)
      stalled.push(to)
    },
    world,
  )
  const target = { ...world.target, destination: { ...world.target.destination, port } }
  const open = async (): Promise<HboneTunnel> => {
    const opened = await world.pool.open(target, '10.0.0.1:80', {}, new Cut())
    if (!opened.ok) throw new Error(opened.error.message)
    return opened.value.tunnel
  }
  // More than the kernel's buffers hold.
  const tunnels = await Promise.all(Array.from({ length: 8 }, open))
  const all = Promise.all(tunnels.map((tunnel) => buffer(tunnel)))
  for (const socket of stalled) socket.pause()
  const other = await world.open()
  t.equal(digest(await buffer(other.tunnel)), digest(bytes), 'others are served meanwhile')
  for (const socket of stalled) socket.resume()
  t.same(new Set((await all).map(digest)), new Set([digest(bytes)]))
})

void t.test('connections that came and went leave no descriptor', { skip }, async (t) => {
  const world = await makeWorld(t)
  const open = (): number => readdirSync('/proc/self/fd').length
  await (await rawPeer(t, world.port, world.clientCertificate)).frame(isSettings)
  const before = open()
  for (let round = 0; round < 4; round += 1) {
    const peers = await Promise.all(
      Array.from({ length: 25 }, () => rawPeer(t, world.port, world.clientCertificate)),
    )
    await Promise.all(peers.map((peer) => peer.frame(isSettings)))
    // By turns in good order, by a FIN without a word of TLS, and by a reset.
    for (const [at, { socket }] of peers.entries())
      if (at % 3 === 0) socket.end()
      else if (at % 3 === 1) socket.destroy()
      else (Reflect.get(socket, '_parent') as Socket).resetAndDestroy()
  }
  await until(
    () => world.server.connectionCount() === 1 && open() <= before,
    () =>
      `all but the first to be gone: ${world.server.connectionCount()} are left, ${open()} descriptors, ${before} before`,
  )
  t.equal(world.server.connectionCount(), 1)
})

void t.test('the heap can be looked at meanwhile', { skip }, async (t) => {
  const world = await makeWorld(t)
  await echoes(t, world, randomBytes(1000))
  let length = 0
  for await (const chunk of getHeapSnapshot()) length += (chunk as Buffer).length
  t.ok(length > 0)
  await echoes(t, world, randomBytes(1000))
})

void t.test(
  'a connection is taken over by the name of its own handshake alone',
  { skip },
  async (t) => {
    if (engine === undefined) return
    const world = await makeWorld(t)
    const shake = async (): Promise<{ socket: TLSSocket; made: number }> => {
      const raw = connect({ port: world.port, host: '127.0.0.1' })
      await once(raw, 'connect')
      const tls = {
        ...clientTlsOptions(world.clientCertificate),
        socket: raw,
      }
      const { connection: socket, made } = noteMade(engine, () => tlsConnect(tls))
      t.teardown(() => {
        socket.destroy()
        raw.destroy()
      })
      await once(socket, 'secureConnect')
      return { socket, made }
    }
    const [one, other] = [await shake(), await shake()]
    const fd = Reflect.get(Reflect.get(one.socket, '_handle') as object, 'fd') as number
    const finished = other.socket.getFinished() ?? Buffer.alloc(0)
    const listener = new DeafListener()
    t.ok(engine.adopt(fd, one.made, finished, listener) < 0, 'with the Finished of another')
    t.ok(engine.adopt(fd, one.made, Buffer.alloc(0), listener) < 0, 'with none')
    t.ok(engine.adopt(fd, 0, finished, listener) < 0, 'without its number')
    t.equal(engine.takeMade(), 0, 'a number is given once')
  },
)

interface OpensslPeer {
  readonly child: ChildProcessWithoutNullStreams
  /** How often it has renewed its keys. */
  readonly updates: () => number
}

/** openssl's own client, which has greeted and was answered. */
async function opensslPeer(t: Test, world: World): Promise<OpensslPeer> {
  const files = await mkdtemp(join(tmpdir(), 'ambit-adopted-'))
  t.teardown(() => rm(files, { recursive: true }))
  const { chainPem, privateKeyPem, rootsPem } = world.clientCertificate
  await writeFile(join(files, 'chain.pem'), chainPem)
  await writeFile(join(files, 'key.pem'), privateKeyPem, { mode: 0o600 })
  await writeFile(join(files, 'roots.pem'), rootsPem)
  const options = ['-connect', `127.0.0.1:${world.port}`, '-alpn', 'h2', '-brief']
  const keys = ['-cert', 'chain.pem', '-cert_chain', 'chain.pem', '-key', 'key.pem']
  const child = spawn('openssl', ['s_client', ...options, ...keys, '-CAfile', 'roots.pem'], {
    cwd: files,
  })
  t.teardown(() => child.kill())
  child.stdin.on('error', () => undefined) // of a peer that was cut
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString('latin1')))
  child.stdin.write(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0), ping('before..')]))
  await bytesUntil(child.stdout, ping('before..', ACK))
  return { child, updates: () => said.split('KEYUPDATE').length - 1 }
}

function ping(opaque: string, flags = 0): Buffer {
  return frame(FRAME.ping, flags, 0, Buffer.from(opaque.padEnd(8, '.').slice(0, 8)))
}

/** Between a peer and the server; says its port. */
async function proxy(
  t: Test,
  joinUp: (from: Socket, to: Socket) => void,
  world: World,
): Promise<number> {
  const server = createServer((from) => {
    const to = connect({ port: world.port, host: '127.0.0.1' })
    for (const socket of [from, to]) socket.on('error', () => undefined)
    from.on('close', () => to.destroy())
    to.on('close', () => from.destroy())
    joinUp(from, to)
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

const isSettings = ({ type }: { readonly type: number }): boolean => type === FRAME.settings

/** Whether those bytes come before the end. */
async function bytesUntil(input: NodeJS.ReadableStream, wanted: Buffer): Promise<boolean> {
  let all = Buffer.alloc(0)
  return await new Promise((resolve) => {
    const look = (chunk: Buffer): void => {
      all = Buffer.concat([all, chunk])
      if (all.indexOf(wanted) < 0) return
      input.off('data', look)
      resolve(true)
    }
    input.on('data', look)
    input.on('end', () => resolve(false))
  })
}
