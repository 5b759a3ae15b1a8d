// SPDX-License-Identifier: Apache-2.0
// Runs inside a pod and knocks at others' ports in ways that a well-behaved peer would not. Reads a list of knocks as JSON
// from standard input, makes them all at once, and prints what came of each, in order, as one line of JSON.

import { text } from 'node:stream/consumers'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2'
import { Duplex } from 'node:stream'

/** Key, chain and roots of a peer, PEM. */
export interface PeerCertificate {
  readonly key: string
  readonly chain: string
  readonly roots: string
}

export type Knock =
  | {
      /** One HTTP/2 request over TLS on port 15008. */
      readonly kind: 'request'
      readonly host: string
      readonly certificate?: PeerCertificate
      readonly method: string
      readonly authority: string
      /** How many header fields of 100 bytes to add. */
      readonly floodHeaders?: number
      /** What to send through the tunnel once it is open. */
      readonly body?: string
    }
  | {
      /** Bytes over TCP, then silence, or one more byte every `everyMs`. */
      readonly kind: 'raw'
      readonly host: string
      readonly port: number
      readonly send: 'garbage' | 'hello' | 'halfHello' | 'http' | 'nothing'
      readonly everyMs?: number
    }

export interface Outcome {
  /** Of a request: the answer, if there was one. */
  readonly status?: number
  readonly body?: string
  readonly error?: string
  /** Of a raw knock: how the connection ended, when, and how many bytes came back. */
  readonly ended?: 'end' | 'reset' | 'refused' | 'open'
  readonly afterMs?: number
  readonly received?: number
}

const HBONE_PORT = 15008
/** Longer than any deadline of the mesh for a connection that says nothing. Milliseconds. */
const PATIENCE_MS = 60_000
const FLOOD_VALUE = 'x'.repeat(90)

async function request(knock: Extract<Knock, { kind: 'request' }>): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>()
  const { certificate } = knock
  const socket = connectTls({
    host: knock.host,
    port: HBONE_PORT,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    // Whom we knock at does not matter here; what it makes of us does.
    rejectUnauthorized: false,
    ...(certificate === undefined
      ? {}
      : { key: certificate.key, cert: certificate.chain, ca: certificate.roots }),
  })
  let session: ClientHttp2Session | undefined
  const fail = (error: NodeJS.ErrnoException): void =>
    resolve({ error: error.code ?? error.message })
  socket.on('error', fail)
  socket.once('close', () => resolve({ error: 'closed' }))
  socket.once('secureConnect', () => {
    session = connectHttp2('https://peer', {
      createConnection: () => socket,
      maxSendHeaderBlockLength: 8 * 1024 * 1024,
    })
    session.on('error', fail)
    const extra: Record<string, string> = {}
    for (let at = 0; at < (knock.floodHeaders ?? 0); at += 1) extra[`x-flood-${at}`] = FLOOD_VALUE
    const stream = session.request({
      ':method': knock.method,
      ':authority': knock.authority,
      ...(knock.method === 'CONNECT' ? {} : { ':path': '/', ':scheme': 'https' }),
      ...extra,
    })
    let status: number | undefined
    let body = ''
    stream.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
    stream.on('error', fail)
    stream.once('response', (headers) => {
      status = headers[':status']
      if (knock.method === 'CONNECT' && status === 200) stream.end(knock.body ?? '')
    })
    stream.once('close', () =>
      resolve(status === undefined ? { error: 'stream closed' } : { status, body }),
    )
    if (knock.method !== 'CONNECT') stream.end()
  })
  const patience = setTimeout(() => resolve({ error: 'no answer' }), PATIENCE_MS)
  try {
    return await promise
  } finally {
    clearTimeout(patience)
    session?.destroy()
    socket.destroy()
  }
}

async function raw(knock: Extract<Knock, { kind: 'raw' }>): Promise<Outcome> {
  const bytes = await bytesOf(knock.send)
  const startedAt = Date.now()
  const { promise, resolve } = Promise.withResolvers<Outcome>()
  let received = 0
  const done = (ended: Outcome['ended']): void =>
    resolve({ ended: ended ?? 'open', afterMs: Date.now() - startedAt, received })
  const socket: Socket = connectTcp({ host: knock.host, port: knock.port, noDelay: true })
  socket.on('data', (chunk) => (received += chunk.length))
  socket.once('error', (error: NodeJS.ErrnoException) =>
    done(error.code === 'ECONNRESET' || error.code === 'EPIPE' ? 'reset' : 'refused'),
  )
  socket.once('end', () => done('end'))
  let sent = 0
  socket.once('connect', () => {
    if (knock.everyMs === undefined) socket.write(bytes)
  })
  const drip = setInterval(() => {
    // Byte by byte, and never the last one: always about to say something.
    if (knock.everyMs !== undefined && sent < bytes.length - 1)
      socket.write(bytes.subarray(sent, (sent += 1)))
  }, knock.everyMs ?? PATIENCE_MS)
  const patience = setTimeout(() => done('open'), PATIENCE_MS)
  try {
    return await promise
  } finally {
    clearInterval(drip)
    clearTimeout(patience)
    socket.destroy()
  }
}

async function bytesOf(what: Extract<Knock, { kind: 'raw' }>['send']): Promise<Buffer> {
  if (what === 'garbage') return Buffer.from('\x00\xff\x13garbage\r\n\r\n'.repeat(100), 'latin1')
  if (what === 'http') return Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
  if (what === 'nothing') return Buffer.alloc(0)
  const hello = await clientHello()
  return what === 'hello' ? hello : hello.subarray(0, hello.length >> 1)
}

/** The first flight of a TLS client, as it would stand on the wire. */
async function clientHello(): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>()
  const wire = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, callback) {
      resolve(chunk)
      callback()
    },
  })
  const client: TLSSocket = connectTls({ socket: wire, ALPNProtocols: ['h2'] })
  client.on('error', () => undefined) // ended below, before any answer
  const hello = await promise
  client.destroy()
  return hello
}

// This file's types are imported by tests; only its program part reads standard input.
if (import.meta.main) {
  const knocks = JSON.parse(await text(process.stdin)) as readonly Knock[]
  const outcomes = await Promise.all(
    knocks.map((knock) => (knock.kind === 'request' ? request(knock) : raw(knock))),
  )
  process.stdout.write(`${JSON.stringify(outcomes)}\n`)
}
