// SPDX-License-Identifier: Apache-2.0
// Ours against other implementations of HTTP/2: Node's (nghttp2 inside) on either side, and the nghttp client.

import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import {
  type ClientHttp2Session,
  type ServerHttp2Stream,
  connect as http2Connect,
  constants,
  createSecureServer,
} from 'node:http2'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { createHbonePool } from '../../mesh/hbone/pool.ts'
import { serverTlsOptions } from '../../mesh/hbone/tls.ts'
import type { OpenedTunnel } from '../../mesh/hbone/types.ts'
import type { IpAddress } from '../../mesh/model/types.ts'
import { ok } from '../../mesh/result.ts'
import { clientTlsOptions, makeCertificate, makeRoot, testIdentity } from './certs.ts'
import { type World, makeWorld } from './harness.ts'

const MIB = 1024 * 1024

async function nodeClient(t: Test, world: World): Promise<ClientHttp2Session> {
  const session = http2Connect(`https://127.0.0.1:${world.port}`, {
    ...clientTlsOptions(world.clientCertificate),
    settings: { initialWindowSize: 1 * MIB },
    maxSessionMemory: 100, // MB: else Node itself resets streams with so much unsent
  })
  t.teardown(() => session.destroy())
  await once(session, 'remoteSettings')
  return session
}

await t.test(
  "Node's client tunnels 8 MiB through our server and back, on three streams at once",
  async (t) => {
    const world = await makeWorld(t)
    const session = await nodeClient(t, world)
    t.match(session.remoteSettings, {
      initialWindowSize: 4 * MIB,
      maxFrameSize: 1 * MIB,
      maxConcurrentStreams: 200,
      maxHeaderListSize: 65_536,
    })
    const talk = async (seed: number): Promise<boolean> => {
      const stream = session.request(
        {
          ':method': 'CONNECT',
          ':authority': `10.0.0.${seed}:80`,
          baggage: 'k8s.namespace.name=shop',
        },
        { endStream: false },
      )
      const [response] = await once(stream, 'response')
      t.equal(response[':status'], 200)
      const body = Buffer.alloc(8 * MIB + seed, seed)
      stream.end(body)
      return (await buffer(stream)).equals(body)
    }
    t.same(await Promise.all([1, 2, 3].map(talk)), [true, true, true])
  },
)

await t.test("Node's client gets 400 for GET, and a reset when the tunnel is reset", async (t) => {
  const world = await makeWorld(t, {
    onTunnel: (incoming) => {
      const tunnel = incoming.accept({})
      tunnel.once('data', () => tunnel.reset())
    },
  })
  const session = await nodeClient(t, world)
  const get = session.request({ ':path': '/' })
  const [response] = await once(get, 'response')
  t.equal(response[':status'], 400)
  const stream = session.request(
    { ':method': 'CONNECT', ':authority': 'a:1' },
    { endStream: false },
  )
  stream.on('error', () => undefined)
  stream.write('x')
  await once(stream, 'close')
  t.equal(stream.rstCode, constants.NGHTTP2_CANCEL)
})

/** Node's server, and our pool in front of it. */
async function nodeServer(
  t: Test,
  onStream: (stream: ServerHttp2Stream) => void,
): Promise<() => Promise<OpenedTunnel>> {
  const root = await makeRoot()
  const server = createSecureServer({
    ...serverTlsOptions(await makeCertificate(root, testIdentity('server'))),
    settings: { initialWindowSize: 100_000 },
  })
  server.on('stream', onStream)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const certificate = await makeCertificate(root, testIdentity('client'))
  const pool = createHbonePool({
    certificate: () => Promise.resolve(ok(certificate)),
    dial: async () => {
      const socket = connect(port, '127.0.0.1')
      await once(socket, 'connect')
      return ok(socket)
    },
    memory: new HeldMemory(HELD_LIMIT_BYTES),
  })
  t.teardown(async () => {
    await pool.drain(0)
    server.close()
  })
  return async () => {
    const opened = await pool.open(
      {
        sourceIdentity: certificate.identity,
        sourceIp: '127.0.0.1' as IpAddress,
        destination: { address: '127.0.0.1' as IpAddress, port },
        expectedIdentities: [testIdentity('server')],
      },
      '10.0.0.1:80',
      { baggage: 'k8s.namespace.name=shop', traceparent: '00-1-2-00' },
      AbortSignal.timeout(10_000),
    )
    if (!opened.ok) throw new Error(opened.error.message)
    return opened.value
  }
}

await t.test(
  "our client tunnels 8 MiB through Node's server and back, in small windows",
  async (t) => {
    const open = await nodeServer(t, (stream) => {
      stream.respond({ ':status': 200, baggage: 'k8s.namespace.name=far' })
      stream.pipe(stream)
    })
    const { tunnel, responseBaggage } = await open()
    t.equal(responseBaggage, 'k8s.namespace.name=far', 'Huffman coded by the witness')
    const body = Buffer.alloc(8 * MIB, 'interop')
    tunnel.end(body)
    t.ok((await buffer(tunnel)).equals(body))
  },
)

await t.test("our client hears the reset of Node's server", async (t) => {
  const open = await nodeServer(t, (stream) => {
    stream.on('error', () => undefined)
    stream.respond({ ':status': 200 })
    stream.write('x')
    stream.close(constants.NGHTTP2_CONNECT_ERROR)
  })
  const { tunnel } = await open()
  tunnel.resume()
  await once(tunnel, 'close')
  t.ok(tunnel.wasReset)
})

await t.test(
  'every octet that a header can hold arrives through the Huffman code of the witness',
  async (t) => {
    const visible = String.fromCharCode(...Array.from({ length: 94 }, (_, index) => 33 + index))
    const open = await nodeServer(t, (stream) => {
      stream.respond({ ':status': 200, baggage: visible.repeat(3) })
      stream.end()
    })
    const { tunnel, responseBaggage } = await open()
    t.equal(responseBaggage, visible.repeat(3))
    tunnel.resume().end()
  },
)

const run = promisify(execFile)
const hasNghttp = await run('nghttp', ['--version']).then(
  () => true,
  () => false,
)

await t.test('nghttp gets 400 for GET', { skip: hasNghttp ? false : 'needs nghttp' }, async (t) => {
  const world = await makeWorld(t)
  const folder = mkdtempSync(join(tmpdir(), 'ambit-nghttp-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  writeFileSync(cert, world.clientCertificate.chainPem)
  writeFileSync(key, world.clientCertificate.privateKeyPem, { mode: 0o600 })
  const { stdout } = await run('nghttp', [
    '-nv',
    '--timeout=5',
    `--cert=${cert}`,
    `--key=${key}`,
    `https://127.0.0.1:${world.port}/`,
  ])
  t.match(stdout, /:status: 400/)
})
