// SPDX-License-Identifier: Apache-2.0
// TLS that a waypoint speaks to pods whose clients do not, as a BackendTLSPolicy says: within the pod's tunnel, or straight to what is
// outside the mesh. What cannot be trusted gets nothing of a request.

import { once } from 'node:events'
import { createSecureServer as createHttp2, type ServerHttp2Stream } from 'node:http2'
import type { RequestListener } from 'node:http'
import { createServer as createHttp1 } from 'node:https'
import type { Duplex } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { connect, createServer, type TLSSocket, type TlsOptions } from 'node:tls'
import t, { type Test } from 'tap'
import type { BackendTls } from '../../mesh/model/backend-tls.ts'
import type { MeshChange } from '../../mesh/model/types.ts'
import {
  makeCertificate,
  makeRoot,
  type TestCertificateOptions,
  type TestRoot,
} from '../hbone/certs.ts'
import { until } from '../support/until.ts'
import { makeWaypointWorld, SHOP_KEY, type World } from './world.ts'

const HOSTNAME = 'catalog.example'

/** A policy of the Service that the tests call. */
function policy(overrides: Partial<BackendTls> = {}): MeshChange {
  const tls: BackendTls = {
    key: SHOP_KEY,
    service: SHOP_KEY,
    port: undefined,
    policy: 'shop/p',
    hostname: HOSTNAME,
    subjectAltNames: [],
    authorities: undefined,
    fault: undefined,
    ...overrides,
  }
  return { kind: 'backendTls', tls }
}

/** What a server of TLS needs to be `HOSTNAME`, or whatever is said. */
async function serving(root: TestRoot, options: TestCertificateOptions = {}): Promise<TlsOptions> {
  const names = [{ type: 'dns' as const, value: HOSTNAME }]
  const { chainPem, privateKeyPem } = await makeCertificate(root, 'none', { names, ...options })
  return { cert: chainPem, key: privateKeyPem }
}

/** Whoever takes connections. */
interface Taker {
  emit(event: 'connection', connection: Duplex): boolean
}

/** Adds a pod of the mesh, or an endpoint outside of it, whose connections go to `server`. */
async function addEndpoint(world: World, isInMesh: boolean, server: Taker): Promise<void> {
  const take = (connection: Duplex): void => {
    connection.on('error', () => undefined)
    server.emit('connection', connection)
  }
  if (isInMesh) await world.addPod('catalog', (incoming) => take(incoming.accept({})))
  else await world.addPlain('catalog', take)
}

/** Asks by HTTP/1.1 over a tunnel of its own; gives the status line and body. */
async function ask(world: World): Promise<string> {
  const tunnel = await world.tunnel()
  tunnel.end('GET /price HTTP/1.1\r\nhost: catalog\r\nconnection: close\r\n\r\n')
  const answer = (await buffer(tunnel)).toString()
  return [
    answer.slice(0, answer.indexOf('\r\n')),
    answer.slice(answer.indexOf('\r\n\r\n') + 4),
  ].join(' | ')
}

function lastRecord(world: World): string {
  const { status, flag, message } = world.requests.at(-1) ?? {}
  return `${status} ${flag} ${message}`
}

for (const isInMesh of [true, false]) {
  const where = isInMesh ? 'in its tunnel' : 'outside the mesh'

  void t.test(`a pod ${where} is spoken to by TLS, and its client is not`, async (t) => {
    const world = await makeWaypointWorld(t, { protocol: 'http1' })
    const root = await makeRoot('CN=of the apps')
    const sockets = new Set<TLSSocket>()
    const listener: RequestListener = ({ socket, url }, response) => {
      sockets.add(socket as TLSSocket)
      response.end(`price of ${url}`)
    }
    const server = createHttp1(
      { ...(await serving(root)), ALPNProtocols: ['http/1.1'], keepAliveTimeout: 60_000 },
      listener,
    )
    await addEndpoint(world, isInMesh, server)
    world.apply(policy({ authorities: root.pem }))
    t.equal(await ask(world), 'HTTP/1.1 200 OK | price of /price')
    t.equal(await ask(world), 'HTTP/1.1 200 OK | price of /price')
    const [socket, ...others] = sockets
    t.strictSame(others, [], 'the connection is used again')
    t.equal(socket?.servername, HOSTNAME, 'by SNI it says whom it wants')
    t.equal(socket?.alpnProtocol, 'http/1.1')

    const another = await makeRoot('CN=of others')
    world.apply(policy({ authorities: another.pem }))
    t.equal(
      await ask(world),
      'HTTP/1.1 503 Service Unavailable | no connection to the upstream',
      'trust that has ended',
    )
    world.apply(policy({ authorities: `${another.pem}\n${root.pem}` }))
    t.equal(await ask(world), 'HTTP/1.1 200 OK | price of /price', 'one of several authorities')
  })

  void t.test(`bytes of a connection go to a pod ${where}, too`, async (t) => {
    const world = await makeWaypointWorld(t)
    const root = await makeRoot('CN=of the apps')
    const heard = Promise.withResolvers<Buffer>()
    const sent = Buffer.alloc(3 * 1024 * 1024, 'ambit')
    const server = createServer({ ...(await serving(root)), allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined)
      const chunks: Buffer[] = []
      socket.on('data', (chunk: Buffer) => chunks.push(chunk))
      socket.once('end', () => {
        heard.resolve(Buffer.concat(chunks))
        socket.end(sent)
      })
    })
    await addEndpoint(world, isInMesh, server)
    world.apply(policy({ authorities: root.pem }))
    const tunnel = await world.tunnel()
    tunnel.end(sent)
    t.ok((await heard.promise).equals(sent), 'all of it, and its end')
    t.ok((await buffer(tunnel)).equals(sent))
    await world.told.until(() => world.ended.length === 1)
    t.match(world.ended[0]?.end, { end: 'ok', bytesToUpstream: sent.length })
  })
}

interface BadServer {
  readonly what: string
  readonly why: RegExp
  readonly options?: (root: TestRoot) => Promise<TlsOptions>
  readonly tls?: (root: TestRoot) => Partial<BackendTls>
}

const DAY_MS = 86_400_000
const BAD: readonly BadServer[] = [
  {
    what: 'of another authority',
    why: /unable to (?:verify|get)/,
    options: async () => serving(await makeRoot('CN=of others')),
  },
  {
    what: 'of nobody that is well known',
    why: /unable to (?:verify|get)/,
    tls: () => ({ authorities: undefined }),
  },
  {
    what: 'for another name',
    why: /the certificate is not for catalog\.example/,
    options: (root) => serving(root, { names: [{ type: 'dns', value: 'other.example' }] }),
  },
  {
    what: 'that has ended',
    why: /certificate has expired/,
    options: (root) =>
      serving(root, {
        notBefore: new Date(Date.now() - 3 * DAY_MS),
        notAfter: new Date(Date.now() - DAY_MS),
      }),
  },
  {
    what: 'for the host name, where other names are asked for',
    why: /for none of a\.example, spiffe:\/\/x\/y/,
    tls: (root) => ({
      authorities: root.pem,
      subjectAltNames: [
        { kind: 'dns', value: 'a.example' },
        { kind: 'uri', value: 'spiffe://x/y' },
      ],
    }),
  },
  {
    what: 'that nobody has looked at, for the policy has a fault',
    why: /spec\.validation\.caCertificateRefs\[0\] names nothing/,
    tls: () => ({ fault: 'spec.validation.caCertificateRefs[0] names nothing' }),
  },
]

void t.test('a pod with a certificate', async (t) => {
  for (const { what, why, options, tls } of BAD)
    await t.test(`${what} gets no request: 503, and the line says why`, async (t) => {
      const world = await makeWaypointWorld(t, { protocol: 'http1' })
      const root = await makeRoot('CN=of the apps')
      let asked = 0
      const server = createHttp1(await (options ?? serving)(root), (_request, response) => {
        asked += 1
        response.end()
      })
      server.on('tlsClientError', () => undefined)
      await addEndpoint(world, true, server)
      world.apply(policy(tls?.(root) ?? { authorities: root.pem }))
      t.match(await ask(world), /^HTTP\/1\.1 503 /)
      t.match(lastRecord(world), /^503 UF TLS of catalog\.example by BackendTLSPolicy shop\/p: /)
      t.match(lastRecord(world), why)
      t.equal(asked, 0)
    })
})

void t.test('a server that speaks no TLS gets no request, and a port may differ', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  const heard: Buffer[] = []
  await world.addPod('catalog', (incoming) => {
    const tunnel = incoming.accept({})
    tunnel.on('error', () => undefined)
    tunnel.on('data', (chunk: Buffer) => {
      heard.push(chunk)
      tunnel.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok')
    })
  })
  world.apply(policy())
  t.match(await ask(world), /^HTTP\/1\.1 503 /)
  t.match(lastRecord(world), /^503 UF TLS of catalog\.example by BackendTLSPolicy shop\/p: /)
  t.notMatch(Buffer.concat(heard).toString('latin1'), /GET \/price/)
  // The port's own policy counts before the Service's.
  const ofPort = { key: `${SHOP_KEY}:80`, port: 80, policy: 'shop/of-the-port', fault: 'it is bad' }
  world.apply(policy(ofPort))
  await ask(world)
  t.match(lastRecord(world), /BackendTLSPolicy shop\/of-the-port: it is bad/)
  world.apply(
    { kind: 'backendTlsRemoved', key: ofPort.key },
    { kind: 'backendTlsRemoved', key: SHOP_KEY },
  )
  t.equal(await ask(world), 'HTTP/1.1 200 OK | ok', 'without a policy it is called in plain')
})

void t.test('one of the names that are asked for is enough', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http1' })
  const root = await makeRoot('CN=of the apps')
  const names = [
    { type: 'url' as const, value: 'spiffe://x/y' },
    { type: 'dns' as const, value: '*.apps.example' },
  ]
  const options = await serving(root, { names })
  await addEndpoint(
    world,
    true,
    createHttp1(options, (_request, response) => response.end()),
  )
  for (const [kind, value, status] of [
    ['uri', 'spiffe://x/y', 200],
    ['uri', 'spiffe://x/', 503],
    ['dns', 'a.apps.example', 200],
    ['dns', '*.apps.example', 200],
    ['dns', 'a.b.apps.example', 503],
    ['dns', 'apps.example', 503],
  ] as const) {
    const wanted = [{ kind: 'dns', value: 'absent.example' } as const, { kind, value }]
    world.apply(policy({ authorities: root.pem, subjectAltNames: wanted }))
    t.match(await ask(world), new RegExp(`^HTTP/1.1 ${status} `), value)
  }
})

/** An app of HTTP/2 over TLS, or of what it agrees to. */
async function startHttp2(root: TestRoot, ALPNProtocols: readonly string[]): Promise<Taker> {
  const server = createHttp2({ ...(await serving(root)), ALPNProtocols: [...ALPNProtocols] })
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => undefined)
    stream.respond({ ':status': 200 })
    stream.end('by h2')
  })
  server.on('sessionError', () => undefined)
  return server
}

void t.test('an app of HTTP/2 has to agree to it', async (t) => {
  const world = await makeWaypointWorld(t, { protocol: 'http2' })
  const root = await makeRoot('CN=of the apps')
  await addEndpoint(world, true, await startHttp2(root, ['h2']))
  world.apply(policy({ authorities: root.pem }))
  t.match(await ask(world), /^HTTP\/1\.1 200 OK [^]*by h2/)

  const silent = await makeWaypointWorld(t, { protocol: 'http2' })
  const server = createServer(await serving(root))
  await addEndpoint(silent, true, server)
  silent.apply(policy({ authorities: root.pem }))
  t.match(await ask(silent), /^HTTP\/1\.1 503 /)
  t.match(lastRecord(silent), /does not agree to HTTP\/2 \(ALPN\)/)
})

/** What a client of TLS is sent that speaks to the app itself, through the waypoint. */
async function askByTls(t: Test, world: World, root: TestRoot): Promise<string> {
  const tunnel = await world.tunnel()
  const client = connect({ socket: tunnel, servername: HOSTNAME, ca: root.pem })
  t.teardown(() => client.destroy())
  await once(client, 'secureConnect')
  let said = ''
  client.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  client.write('GET / HTTP/1.1\r\nhost: catalog\r\n\r\n')
  await until(() => said.includes('\r\n\r\n'), 'the answer')
  return said.slice(0, said.indexOf('\r\n'))
}

for (const protocol of ['tls', 'unknown'] as const)
  void t.test(
    `to a port whose protocol is ${protocol} clients may speak TLS themselves, which is let be`,
    async (t) => {
      const world = await makeWaypointWorld(t, { protocol })
      const root = await makeRoot('CN=of the apps')
      const server = createHttp1(await serving(root), (_request, response) => response.end('here'))
      await addEndpoint(world, true, server)
      world.apply(policy({ authorities: root.pem }))
      t.equal(await askByTls(t, world, root), 'HTTP/1.1 200 OK')
      t.strictSame(world.requests, [], 'nobody has looked into it')
      t.equal(await ask(world), 'HTTP/1.1 200 OK | here')
      t.equal(world.requests.length, 1)
    },
  )
