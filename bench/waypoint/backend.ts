// SPDX-License-Identifier: Apache-2.0
// The app behind the waypoint and its agent, in one process: answers requests in tunnels of HBONE, by HTTP/1.1 or as a call of gRPC, or over
// mutual TLS alone. Reads its settings as JSON from argv[2]; prints "ready PORT", and ends when its standard input does.

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:tls'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import { createHboneServer } from '../../mesh/hbone/server.ts'
import { HboneSources } from '../../mesh/hbone/sources.ts'
import type { IncomingTunnel } from '../../mesh/hbone/types.ts'
import type { Pipe, PipeSink } from '../../mesh/http/pipe.ts'
import { H2Connection } from '../../mesh/http2/connection.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import { PipeWire } from '../../mesh/http2/pipe-wire.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import type { StartedPipe } from '../../mesh/relay/started-pipe.ts'
import { StreamPipe } from '../../mesh/relay/stream-pipe.ts'
import { SERVER_SETTINGS } from '../../waypoint/exchange/http2-limits.ts'
import { GrpcAnswer } from './grpc-answer.ts'
import type { Protocol } from './parties.ts'
import { TLS } from './tls.ts'

export interface BackendSettings {
  readonly certificate: WorkloadCertificate
  /** `tls`: no tunnels, HTTP/1.1 over mutual TLS. */
  readonly kind: Protocol | 'tls'
  readonly bytes: number
}

const settings = JSON.parse(process.argv[2] ?? '{}') as BackendSettings
const memory = new HeldMemory(HELD_LIMIT_BYTES)
const PING_INTERVAL_MS = 10_000
const SETTINGS_MS = 60_000

const ANSWER = Buffer.from(
  `HTTP/1.1 200 OK\r\nserver: app\r\ndate: Sat, 28 Nov 2026 04:00:00 GMT\r\ncontent-type: application/json\r\ncache-control: no-store\r\ncontent-length: ${settings.bytes}\r\n\r\n${'x'.repeat(settings.bytes)}`,
)
/** Of a head: its last byte, and that before it. */
const LF = 0x0a
const CR = 0x0d
/** Bytes of `\r\n\r\n`. */
const END_BYTES = 4

/** Answers each head that ends; a client sends one after the other, and no bodies. */
class Http1Answers implements PipeSink {
  readonly #pipe: Pipe
  /** How much of the empty line has come. */
  #matched = 0

  constructor(pipe: Pipe) {
    this.#pipe = pipe
  }

  receive(chunk: Buffer, from: number, to: number): void {
    for (let at = from; at < to; at += 1) {
      const wanted = this.#matched % 2 === 0 ? CR : LF
      const byte = chunk[at]
      if (byte === wanted) this.#matched += 1
      else this.#matched = byte === CR ? 1 : 0
      if (this.#matched !== END_BYTES) continue
      this.#matched = 0
      this.#pipe.write(ANSWER, 0, ANSWER.length)
    }
    this.#pipe.consume(to - from)
  }

  ended(): void {
    this.#pipe.end()
  }

  broken(): void {
    // The round is over.
  }

  drained(): void {
    // One answer is under way for each connection.
  }
}

function serveGrpc(pipe: StartedPipe): void {
  new H2Connection({
    role: 'server',
    wire: new PipeWire(pipe),
    settings: SERVER_SETTINGS,
    settingsDeadlineMs: SETTINGS_MS,
    pingIntervalMs: PING_INTERVAL_MS,
    pingTimeoutMs: undefined,
    memory,
    onReady: () => undefined,
    onRequest: (stream) => {
      stream.sink = new GrpcAnswer(stream)
    },
    onStreamClosed: () => undefined,
    onClosed: () => undefined,
  })
}

function serveTunnel(incoming: IncomingTunnel): void {
  const pipe = new StreamPipe(incoming.acceptBare({}), 'client')
  if (settings.kind === 'grpc') serveGrpc(pipe)
  else pipe.sink = new Http1Answers(pipe)
  pipe.start()
}

async function serveTls(): Promise<number> {
  const { chainPem, privateKeyPem, rootsPem } = settings.certificate
  const server = createServer(
    { ...TLS, cert: chainPem, key: privateKeyPem, ca: rootsPem, requestCert: true, noDelay: true },
    (socket) => {
      const answers = new Http1Answers({
        sink: undefined as unknown as PipeSink,
        write: (chunk) => socket.write(chunk),
        end: () => void socket.end(),
        reset: () => void socket.destroy(),
        consume: () => undefined,
      })
      socket.on('data', (chunk: Buffer) => answers.receive(chunk, 0, chunk.length))
      socket.on('error', () => undefined)
    },
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

async function serveHbone(): Promise<number> {
  const server = createHboneServer({
    certificate: settings.certificate,
    isFromOutside: () => true,
    isKnownSource: () => true,
    sources: new HboneSources(),
    memory,
    onTunnel: serveTunnel,
    onRefused: (event) => console.error(event),
  })
  return await server.listen({ host: '127.0.0.1', port: 0 })
}

console.log(`ready ${await (settings.kind === 'tls' ? serveTls() : serveHbone())}`)
process.stdin.on('end', () => process.exit(0)).resume()
