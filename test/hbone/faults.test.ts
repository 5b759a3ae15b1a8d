// SPDX-License-Identifier: Apache-2.0
// What may knock at 15008 besides honest peers, and that it is refused, reported and gone.

import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { type Socket, connect } from 'node:net'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import t, { type Test } from 'tap'
import { FLAG, FRAME, H2_CODE, PREFACE } from '../../mesh/http2/protocol.ts'
import type { HboneTunnel } from '../../mesh/hbone/types.ts'
import * as x509 from '../../mesh/identity/x509.ts'
import {
  clientTlsOptions,
  type TestRoot,
  makeCertificate,
  makeRoot,
  testIdentity,
} from './certs.ts'
import { type World, makeWorld } from './harness.ts'
import { CONNECT, frame, goAwayCode, headers, rawPeer } from './raw-peer.ts'
import { stopTime } from '../support/stop-time.ts'

/** `:status: 400`, the twelfth field of HPACK's static table. */
const STATUS_400 = 0x8c

const HOUR_MS = 3_600_000
const DIGITAL_SIGNATURE = x509.KeyUsageFlags.digitalSignature
const KEY_CERT_SIGN = x509.KeyUsageFlags.keyCertSign
const CRL_SIGN = x509.KeyUsageFlags.cRLSign
const SERVER_AUTHENTICATION = '1.3.6.1.5.5.7.3.1'
const CODE_SIGNING = '1.3.6.1.5.5.7.3.3'
/** Short enough for a test. */
const SHORT_DEADLINE = { deadlineMs: 700 }

function knock(t: Test, port: number): Socket {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  t.teardown(() => socket.destroy())
  return socket
}

/** Resolves when the socket is closed, however it came to it. */
function gone(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve()
    else socket.once('close', () => resolve())
  })
}

/** The server still serves: a tunnel opens. */
async function stillServes(t: Test, world: World): Promise<void> {
  const { tunnel } = await world.open()
  t.ok(tunnel, 'honest peers are served')
  tunnel.reset()
}

await t.test('garbage instead of TLS is refused and the connection closed', async (t) => {
  const world = await makeWorld(t)
  const socket = knock(t, world.port)
  socket.write('GET / HTTP/1.1\r\n\r\n')
  t.match(await world.refusal((event) => event.reason === 'tlsFailure'), {
    peer: { address: '127.0.0.1' },
    message: /^the peer/,
  })
  await gone(socket)
  await stillServes(t, world)
})

await t.test('a slow-loris is cut at the deadline however often it sends a byte', async (t) => {
  const world = await makeWorld(t, { limits: SHORT_DEADLINE })
  const socket = knock(t, world.port)
  // The beginning of a TLS record that announces 512 bytes, then one byte at a time.
  socket.write(Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]))
  const drip = setInterval(() => socket.write(Buffer.from([0])), 100)
  t.teardown(() => clearInterval(drip))
  const event = await world.refusal(() => true)
  t.match(event, { reason: 'tlsFailure', message: /not finished within 700 ms/ })
  await gone(socket)
})

await t.test('half a TLS hello and then nothing is cut at the deadline', async (t) => {
  const world = await makeWorld(t, { limits: SHORT_DEADLINE })
  const socket = knock(t, world.port)
  socket.write(Buffer.from([22, 3, 1, 2, 0, 1, 0]))
  t.match(await world.refusal(() => true), { message: /not finished within/ })
  await gone(socket)
})

await t.test(
  'a peer that is authenticated but says no HTTP/2 is cut at the same deadline',
  async (t) => {
    const world = await makeWorld(t, { limits: SHORT_DEADLINE })
    // No time passes before it is authenticated.
    const tick = stopTime(t)
    const peer = await rawPeer(t, world.port, world.clientCertificate, false)
    await peer.frame((seen) => seen.type === FRAME.settings)
    tick(SHORT_DEADLINE.deadlineMs)
    t.match(await world.refusal(() => true), { reason: 'h2HandshakeFailure', message: /SETTINGS/ })
    await gone(peer.socket)
  },
)

await t.test('a call from inside the pod is reset before a byte of TLS', async (t) => {
  const world = await makeWorld(t, {
    isFromOutside: (peer, local) => peer.address !== local.address,
  })
  const socket = connect(world.port, '127.0.0.1')
  const heard: Buffer[] = []
  socket.on('data', (chunk: Buffer) => heard.push(chunk))
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException]
  t.equal(error.code, 'ECONNRESET')
  t.same(heard, [])
  t.match(await world.refusal(() => true), { reason: 'selfCall', message: /none from outside/ })
})

await t.test('one source has so many connections and no more, until it closes one', async (t) => {
  const world = await makeWorld(t, { maxConnectionsPerSource: 2 })
  const peers = [
    await rawPeer(t, world.port, world.clientCertificate),
    await rawPeer(t, world.port, world.clientCertificate),
  ]
  const third = await rawPeer(t, world.port, world.clientCertificate, false)
  t.match(await world.refusal(() => true), {
    reason: 'tooManyConnections',
    message: /127\.0\.0\.1 has 2 HBONE connections/,
  })
  await gone(third.socket)
  t.equal(world.server.connectionCount(), 2)
  for (const { socket } of peers) {
    socket.destroy()
    await gone(socket)
  }
  while (world.server.connectionCount() > 0) await setImmediate()
  t.ok((await world.open()).tunnel, 'there is room again')
})

const strangers: readonly {
  readonly what: string
  readonly message: RegExp
  readonly client: Parameters<typeof makeWorld>[1]
}[] = [
  {
    what: 'an expired certificate',
    message: /certificate has expired/,
    client: {
      clientCertificate: (root) =>
        makeCertificate(root, testIdentity('client'), {
          notBefore: new Date(Date.now() - 2 * HOUR_MS),
          notAfter: new Date(Date.now() - HOUR_MS),
        }),
    },
  },
  {
    what: 'a certificate of another trust domain',
    message: /of another trust domain than this workload \(cluster\.local\)/,
    client: {
      clientCertificate: (root) => makeCertificate(root, testIdentity('client', 'evil.example')),
    },
  },
  {
    what: 'a certificate of another root',
    message: /not signed by|does not trust|does not match|unknown to this workload/,
    client: {
      clientCertificate: async (root) =>
        makeCertificate(await makeRoot(), testIdentity('client'), { trusts: root }),
    },
  },
  {
    what: 'a certificate with two identities',
    message: /2 URI SANs/,
    client: {
      clientCertificate: (root) =>
        makeCertificate(root, testIdentity('client'), {
          names: [
            { type: 'url', value: testIdentity('client') },
            { type: 'url', value: testIdentity('admin') },
          ],
        }),
    },
  },
  ...Object.entries({
    'that of an authority (CA:true)': { isAuthority: true },
    'that of an authority (CA:true) ': { isAuthority: true, keyUsage: DIGITAL_SIGNATURE },
    'allows signing certificates': { keyUsage: DIGITAL_SIGNATURE | KEY_CERT_SIGN },
    'allows signing certificates or revocation lists': { keyUsage: DIGITAL_SIGNATURE | CRL_SIGN },
    'is not meant for this side of TLS': { purposes: [SERVER_AUTHENTICATION] },
    'is not meant for this side of TLS ': { purposes: [CODE_SIGNING] },
  }).map(([says, options]) => ({
    what: `a certificate with ${JSON.stringify(options)}`,
    message: new RegExp(says.trim().replaceAll(/[()]/g, '.')),
    client: {
      clientCertificate: (root: TestRoot) => makeCertificate(root, testIdentity('client'), options),
    },
  })),
  ...[
    'spiffe://cluster.local/ns/../sa/admin',
    'spiffe://cluster.local/ns/shop/sa/.',
    'spiffe://cluster.local/ns//sa/client',
    'spiffe://cluster.local/ns/shop/sa/client/',
    'spiffe://cluster.local/ns/shop/sa/cl%69ent',
    'spiffe://CLUSTER.local/ns/shop/sa/client',
    'spiffe://cluster.local:80/ns/shop/sa/client',
    'spiffe://cluster.local/ns/shop/sa/client?x',
    `spiffe://cluster.local/ns/shop/sa/${'a'.repeat(2048)}`,
  ].map((value) => ({
    what: `the name ${value.slice(0, 60)}`,
    message: /is not a SPIFFE ID of the form/,
    client: {
      clientCertificate: (root: TestRoot) =>
        makeCertificate(root, testIdentity('client'), { names: [{ type: 'url', value }] }),
    },
  })),
  {
    what: 'a certificate that hides an identity in a DNS name',
    message: /no URI SAN/,
    client: {
      clientCertificate: (root) =>
        makeCertificate(root, testIdentity('client'), {
          names: [{ type: 'dns', value: `a, URI:${testIdentity('client')}` }],
        }),
    },
  },
]
for (const { what, message, client } of strangers)
  await t.test(`a client with ${what} gets no tunnel`, async (t) => {
    const world = await makeWorld(t, client)
    const opened = await world.pool.open(
      world.target,
      '10.0.0.1:80',
      {},
      AbortSignal.timeout(5_000),
    )
    t.equal(opened.ok, false)
    t.match(await world.refusal(() => true), { reason: 'tlsFailure', message })
    t.equal(world.server.connectionCount(), 0)
  })

await t.test('a certificate that says nothing of its purposes is as good', async (t) => {
  const world = await makeWorld(t, {
    clientCertificate: (root) => makeCertificate(root, testIdentity('client'), { purposes: [] }),
    serverCertificate: (root) => makeCertificate(root, testIdentity('server'), { purposes: [] }),
  })
  await stillServes(t, world)
})

await t.test('a client without a certificate gets no tunnel', async (t) => {
  const world = await makeWorld(t)
  const { ca, ALPNProtocols } = {
    ...clientTlsOptions(world.clientCertificate),
  }
  const socket = tlsConnect({
    port: world.port,
    host: '127.0.0.1',
    ...(ca && { ca }),
    ...(ALPNProtocols && { ALPNProtocols }),
    checkServerIdentity: () => undefined,
  })
  t.teardown(() => socket.destroy())
  socket.on('error', () => undefined)
  t.match(await world.refusal(() => true), { reason: 'tlsFailure', message: /no certificate/ })
  t.equal(world.server.connectionCount(), 0)
})

await t.test('a peer that only speaks TLS 1.2, or no h2, gets no tunnel', async (t) => {
  const world = await makeWorld(t)
  for (const change of [
    { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2', ciphers: 'ALL' },
    { ALPNProtocols: ['http/1.1'] },
  ] as const) {
    const before = world.refused.length
    const socket = tlsConnect({
      ...clientTlsOptions(world.clientCertificate),
      ...change,
      ...('ALPNProtocols' in change && { ALPNProtocols: ['http/1.1'] }),
      port: world.port,
      host: '127.0.0.1',
    })
    t.teardown(() => socket.destroy())
    socket.on('error', () => undefined)
    await world.refusal((event) => world.refused.indexOf(event) >= before)
    t.match(world.refused.at(-1), { reason: 'tlsFailure', message: /TLS 1\.3|HTTP\/2/ })
  }
})

await t.test(
  'a session is never resumed: each connection proves its certificate anew',
  async (t) => {
    const world = await makeWorld(t)
    const dial = async (
      session?: Buffer,
    ): Promise<{ socket: TLSSocket; session: Buffer | undefined }> => {
      const socket = tlsConnect({
        ...clientTlsOptions(world.clientCertificate),
        secureOptions: 0,
        port: world.port,
        host: '127.0.0.1',
        ...(session && { session }),
      })
      t.teardown(() => socket.destroy())
      await once(socket, 'secureConnect')
      const offered = once(socket, 'session').then(([ticket]) => ticket as Buffer)
      const settings = once(socket, 'data').then(() => undefined)
      return { socket, session: await Promise.race([offered, settings]) }
    }
    const first = await dial()
    const second = await dial(first.session ?? first.socket.getSession())
    t.notOk(second.socket.isSessionReused())
  },
)

await t.test('a server of the wrong identity is not spoken to', async (t) => {
  const world = await makeWorld(t, { expected: [testIdentity('somebody-else')] })
  const opened = await world.pool.open(world.target, '10.0.0.1:80', {}, AbortSignal.timeout(5_000))
  t.match(opened, {
    ok: false,
    error: {
      reason: 'peerIdentityMismatch',
      message: /the server is .*\/sa\/server, expected .*somebody-else/,
    },
  })
})

await t.test('a server with an expired certificate or another root is not spoken to', async (t) => {
  const expired = await makeWorld(t, {
    serverCertificate: (root) =>
      makeCertificate(root, testIdentity('server'), {
        notBefore: new Date(Date.now() - 2 * HOUR_MS),
        notAfter: new Date(Date.now() - HOUR_MS),
      }),
  })
  const stranger = await makeWorld(t, {
    serverCertificate: async (root) =>
      makeCertificate(await makeRoot(), testIdentity('server'), { trusts: root }),
  })
  const open = (world: World): ReturnType<World['pool']['open']> =>
    world.pool.open(world.target, '10.0.0.1:80', {}, AbortSignal.timeout(5_000))
  t.match(await open(expired), {
    ok: false,
    error: { reason: 'tlsFailure', message: /has expired/ },
  })
  t.match(await open(stranger), { ok: false, error: { reason: 'tlsFailure' } })
})

await t.test(
  'a method other than CONNECT is answered 400, and the connection goes on',
  async (t) => {
    const world = await makeWorld(t)
    const peer = await rawPeer(t, world.port, world.clientCertificate)
    peer.send(
      headers(
        1,
        [
          [':method', 'GET'],
          [':scheme', 'https'],
          [':path', '/'],
          [':authority', 'a'],
        ],
        FLAG.endStream,
      ),
    )
    const answer = await peer.frame((seen) => seen.type === FRAME.headers && seen.streamId === 1)
    t.equal(answer.payload[0], STATUS_400)
    peer.send(headers(3, CONNECT))
    t.equal(
      (await peer.frame((seen) => seen.type === FRAME.headers && seen.streamId === 3)).payload[0],
      0x88,
    )
    t.match(world.refused, [{ reason: 'hboneBadRequest', message: /GET is not CONNECT/ }])
  },
)

const malformed: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  ['CONNECT with :path', [...CONNECT, [':path', '/']]],
  ['extended CONNECT', [...CONNECT, [':protocol', 'websocket']]],
  ['an upper-case field', [...CONNECT, ['Baggage', 'x']]],
  [
    'a pseudo-header after a field',
    [
      [':method', 'CONNECT'],
      ['a', 'b'],
      [':authority', 'x:1'],
    ],
  ],
  ['two authorities', [...CONNECT, [':authority', 'y:1']]],
  ['a connection field', [...CONNECT, ['connection', 'close']]],
  ['a line feed in a value', [...CONNECT, ['baggage', 'a\nb']]],
]
for (const [what, list] of malformed)
  await t.test(`${what} is malformed and reset`, async (t) => {
    const world = await makeWorld(t)
    const peer = await rawPeer(t, world.port, world.clientCertificate)
    peer.send(headers(1, list))
    const reset = await peer.frame((seen) => seen.type === FRAME.rstStream)
    t.equal(reset.payload.readUInt32BE(0), H2_CODE.protocolError)
  })

await t.test(
  'a header list over the limit is answered 431, a header block over it ends the connection',
  async (t) => {
    const world = await makeWorld(t)
    const large = await rawPeer(t, world.port, world.clientCertificate)
    // 40 bytes that enter the table, and references to them, each counting 4,000 bytes.
    const bomb = Buffer.concat([encodeIndexed('x', 'y'.repeat(3_900)), Buffer.alloc(60, 0xbe)])
    large.send(frame(FRAME.headers, FLAG.endHeaders, 1, bomb))
    const answer = await large.frame((seen) => seen.type === FRAME.headers)
    t.match(answer.payload.toString('latin1'), /431/)

    const flood = await rawPeer(t, world.port, world.clientCertificate)
    flood.send(frame(FRAME.headers, 0, 1, Buffer.alloc(16_000)))
    for (let count = 0; count < 8; count += 1)
      flood.send(frame(FRAME.continuation, 0, 1, Buffer.alloc(16_000)))
    t.equal(
      goAwayCode(await flood.frame((seen) => seen.type === FRAME.goAway)),
      H2_CODE.enhanceYourCalm,
    )
  },
)

/** A literal that enters the dynamic table. */
function encodeIndexed(name: string, value: string): Buffer {
  const length = Buffer.from([
    0x7f,
    ((value.length - 127) & 0x7f) | 0x80,
    (value.length - 127) >> 7,
  ])
  return Buffer.concat([
    Buffer.from([0x40, name.length]),
    Buffer.from(name),
    length,
    Buffer.from(value),
  ])
}

const floods: readonly (readonly [string, (count: number) => Buffer])[] = [
  ['PING', () => frame(FRAME.ping, 0, 0, Buffer.alloc(8))],
  ['SETTINGS', () => frame(FRAME.settings, 0, 0)],
  ['PRIORITY', (count) => frame(FRAME.priority, 0, 2 * count + 1, Buffer.alloc(5))],
  ['unknown frame', () => frame(0xfa, 0, 0, Buffer.alloc(3))],
  [
    'rapid reset',
    (count) =>
      Buffer.concat([
        headers(2 * count + 1, CONNECT),
        frame(FRAME.rstStream, 0, 2 * count + 1, Buffer.from([0, 0, 0, 8])),
      ]),
  ],
  ['stream over the limit', (count) => headers(2 * count + 1, CONNECT)],
]
for (const [what, make] of floods)
  await t.test(`a ${what} flood ends the connection and is reported`, async (t) => {
    const held: unknown[] = []
    const world = await makeWorld(t, { onTunnel: (incoming) => held.push(incoming.signal) })
    const peer = await rawPeer(t, world.port, world.clientCertificate)
    for (let count = 0; count < 1_200; count += 1) peer.send(make(count))
    const goAway = await peer.frame((seen) => seen.type === FRAME.goAway)
    t.equal(goAwayCode(goAway), H2_CODE.enhanceYourCalm)
    t.match(await world.refusal(() => true), { reason: 'hboneBadRequest', message: /flood/ })
    t.ok(
      held.every((signal) => (signal as AbortSignal).aborted),
      'work under way was given up',
    )
  })

const violations: readonly (readonly [string, number, Buffer])[] = [
  ['DATA on an idle stream', H2_CODE.protocolError, frame(FRAME.data, 0, 1, Buffer.alloc(1))],
  ['an even stream', H2_CODE.protocolError, headers(2, CONNECT)],
  ['HEADERS on stream 0', H2_CODE.protocolError, headers(0, CONNECT)],
  ['PUSH_PROMISE', H2_CODE.protocolError, frame(FRAME.pushPromise, 4, 1, Buffer.alloc(4))],
  [
    'RST_STREAM on an idle stream',
    H2_CODE.protocolError,
    frame(FRAME.rstStream, 0, 1, Buffer.alloc(4)),
  ],
  [
    'WINDOW_UPDATE on an idle stream',
    H2_CODE.protocolError,
    frame(FRAME.windowUpdate, 0, 1, Buffer.from([0, 0, 0, 1])),
  ],
  ['WINDOW_UPDATE of 0', H2_CODE.protocolError, frame(FRAME.windowUpdate, 0, 0, Buffer.alloc(4))],
  [
    'a window over 2^31-1',
    H2_CODE.flowControlError,
    frame(FRAME.windowUpdate, 0, 0, Buffer.from([127, 255, 255, 255])),
  ],
  ['a PING of 7 bytes', H2_CODE.frameSizeError, frame(FRAME.ping, 0, 0, Buffer.alloc(7))],
  ['SETTINGS of 5 bytes', H2_CODE.frameSizeError, frame(FRAME.settings, 0, 0, Buffer.alloc(5))],
  [
    'a frame size setting of 1',
    H2_CODE.protocolError,
    frame(FRAME.settings, 0, 0, Buffer.from([0, 5, 0, 0, 0, 1])),
  ],
  ['a frame over 1 MiB', H2_CODE.frameSizeError, Buffer.from([0x20, 0, 0, 0, 0, 0, 0, 0, 1])],
  ['a lone CONTINUATION', H2_CODE.protocolError, frame(FRAME.continuation, 4, 1, Buffer.alloc(1))],
  [
    'an interrupted header block',
    H2_CODE.protocolError,
    Buffer.concat([frame(FRAME.headers, 0, 1), frame(FRAME.ping, 0, 0, Buffer.alloc(8))]),
  ],
  [
    'a corrupt header block',
    H2_CODE.compressionError,
    frame(FRAME.headers, 4, 1, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
  ],
]
for (const [what, code, bytes] of violations)
  await t.test(`${what} ends the connection with the code of RFC 9113`, async (t) => {
    const world = await makeWorld(t)
    const peer = await rawPeer(t, world.port, world.clientCertificate)
    peer.send(bytes)
    t.equal(goAwayCode(await peer.frame((seen) => seen.type === FRAME.goAway)), code)
    await gone(peer.socket)
    t.equal(world.server.connectionCount(), 0)
  })

await t.test('a connection that does not begin with the preface is refused', async (t) => {
  const world = await makeWorld(t)
  const peer = await rawPeer(t, world.port, world.clientCertificate, false)
  peer.send(Buffer.from(PREFACE.toString('latin1').replace('2.0', '2.1'), 'latin1'))
  t.match(await world.refusal(() => true), { reason: 'h2HandshakeFailure', message: /preface/ })
})

await t.test('DATA beyond the stream window resets the stream', async (t) => {
  // Nobody reads the tunnel, so no window is ever given back.
  const world = await makeWorld(t, { onTunnel: (incoming) => void incoming.accept({}) })
  const peer = await rawPeer(t, world.port, world.clientCertificate)
  peer.send(headers(1, CONNECT))
  for (let count = 0; count < 5; count += 1)
    peer.send(frame(FRAME.data, 0, 1, Buffer.alloc(1024 * 1024)))
  const reset = await peer.frame((seen) => seen.type === FRAME.rstStream)
  t.equal(reset.payload.readUInt32BE(0), H2_CODE.flowControlError)
})

await t.test(
  'a peer that takes window back in the middle gets every byte all the same',
  async (t) => {
    const accepted = Promise.withResolvers<HboneTunnel>()
    const world = await makeWorld(t, {
      onTunnel: (incoming) => accepted.resolve(incoming.accept({})),
    })
    const peer = await rawPeer(t, world.port, world.clientCertificate)
    peer.send(headers(1, CONNECT))
    const tunnel = await accepted.promise
    tunnel.on('error', () => undefined)
    const received = (): Buffer =>
      Buffer.concat(
        peer.seen.filter(({ type }) => type === FRAME.data).map(({ payload }) => payload),
      )
    const window = 65_535
    tunnel.write(Buffer.alloc(window, 'a'))
    while (received().length < window) await setImmediate()
    // The window of every stream shrinks by 5 (RFC 9113 6.9.2): this one is below 0.
    peer.send(frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0xff, 0xfa])))
    // Ours, and the acknowledgements of both of the peer's.
    while (peer.seen.filter(({ type }) => type === FRAME.settings).length < 3) await setImmediate()
    tunnel.end('hello world')
    const more = Buffer.from([0, 1, 0, 0])
    peer.send(frame(FRAME.windowUpdate, 0, 0, more), frame(FRAME.windowUpdate, 0, 1, more))
    await peer.frame(({ type, flags }) => type === FRAME.data && flags === FLAG.endStream)
    t.equal(received().subarray(window).toString(), 'hello world')
  },
)
