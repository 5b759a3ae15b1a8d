// SPDX-License-Identifier: Apache-2.0
// The clients of the waypoint's bench, a process of its own: requests through tunnels, so many on each of so many connections, as fast as
// they are answered or at a rate. Reads its settings as JSON from argv[2]; prints what came of it as JSON.

import { once } from 'node:events'
import { connect as connectTls } from 'node:tls'
import { createHbonePool } from '../../mesh/hbone/pool.ts'
import { HELD_LIMIT_BYTES } from '../../mesh/hbone/limits.ts'
import type { Pipe, PipeSink } from '../../mesh/http/pipe.ts'
import { HeldMemory } from '../../mesh/http2/held-memory.ts'
import type { WorkloadCertificate } from '../../mesh/identity/types.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { IpAddress, SpiffeId } from '../../mesh/model/types.ts'
import { StreamPipe } from '../../mesh/relay/stream-pipe.ts'
import { ok } from '../../mesh/result.ts'
import { quantile } from '../statistics.ts'
import { dialLoopback } from '../dial.ts'
import { GrpcCalls } from './grpc-calls.ts'
import { HTTP1_REQUEST, type Protocol, TARGET } from './parties.ts'
import { TLS } from './tls.ts'

export interface ClientSettings {
  readonly certificate: WorkloadCertificate
  readonly waypointIdentity: SpiffeId
  readonly port: number
  /** `tls`: no tunnels, a connection of mutual TLS for each. */
  readonly kind: Protocol | 'tls'
  readonly connections: number
  /** Of each connection. */
  readonly tunnels: number
  /** Calls of gRPC at a time on each tunnel. */
  readonly streams: number
  /** At least. */
  readonly seconds: number
  /** Of the answer's body. */
  readonly bytes: number
  /** Requests a second, sent when they are due; undefined: each when the one before it is answered. */
  readonly rate?: number
}

export interface ClientReport {
  readonly requests: number
  readonly seconds: number
  readonly failed: number
  /** From when it was due, milliseconds. */
  readonly p50: number
  readonly p99: number
}

const settings = JSON.parse(process.argv[2] ?? '{}') as ClientSettings
const LOOPBACK = '127.0.0.1' as IpAddress
const OPEN_MS = 20_000
/** How often it is looked what is due, and whether it was enough. */
const TICK_MS = 1
const LOOK_MS = 20
/** However long that takes on a busy machine: of less nothing can be told. */
const LEAST_REQUESTS = 50
const memory = new HeldMemory(HELD_LIMIT_BYTES)

const latencies: number[] = []
let failed = 0
let isOver = false

/** Takes one request at a time. */
interface Seat {
  send(dueAt: number): void
}

/** Seats without a request, where there is a rate. */
const free: Seat[] = []
/** When those were due that no seat was free for. */
const late: number[] = []

function answered(seat: Seat, dueAt: number): void {
  const now = performance.now()
  latencies.push(now - dueAt)
  if (isOver) return
  if (settings.rate === undefined) return seat.send(now)
  const due = late.shift()
  if (due === undefined) free.push(seat)
  else seat.send(due)
}

function broken(): void {
  if (!isOver) failed += 1
}

/** One connection of HTTP/1.1. Knows how long answers are; reads no more of a head than its end and its status. */
class Http1Seat implements PipeSink, Seat {
  readonly #pipe: Pipe
  #dueAt = 0
  /** Bytes of the answer that are to come; below 0: its head has not ended. */
  #left = -1
  #head: Buffer | undefined

  constructor(pipe: Pipe) {
    this.#pipe = pipe
    pipe.sink = this
  }

  send(dueAt: number): void {
    this.#dueAt = dueAt
    this.#left = -1
    this.#pipe.write(HTTP1_REQUEST, 0, HTTP1_REQUEST.length)
  }

  receive(chunk: Buffer, from: number, to: number): void {
    this.#pipe.consume(to - from)
    let bytes = chunk.subarray(from, to)
    if (this.#left < 0) {
      if (this.#head !== undefined) bytes = Buffer.concat([this.#head, bytes])
      const end = bytes.indexOf('\r\n\r\n')
      this.#head = end < 0 ? Buffer.from(bytes) : undefined
      if (end < 0) return
      if (bytes.toString('latin1', 9, 12) !== '200') failed += 1
      this.#left = end + 4 + settings.bytes
    }
    this.#left -= bytes.length
    if (this.#left <= 0) answered(this, this.#dueAt)
  }

  ended(): void {
    broken()
  }

  broken(): void {
    broken()
  }

  drained(): void {
    // One request is under way.
  }
}

/** One call of gRPC after another on a connection that it shares. */
class GrpcSeat implements Seat {
  readonly #calls: GrpcCalls

  constructor(calls: GrpcCalls) {
    this.#calls = calls
  }

  send(dueAt: number): void {
    this.#calls.call((isOk) => {
      if (!isOk) broken()
      answered(this, dueAt)
    })
  }
}

async function grpcSeats(pipe: StreamPipe): Promise<readonly Seat[]> {
  const calls = new GrpcCalls(pipe, memory)
  pipe.start()
  await calls.ready
  return Array.from({ length: settings.streams }, () => new GrpcSeat(calls))
}

/** The tunnels of one connection. */
async function overHbone(): Promise<readonly Seat[]> {
  const { certificate, waypointIdentity, port, tunnels, kind } = settings
  const pool = createHbonePool({
    certificate: () => Promise.resolve(ok(certificate)),
    dial: () => dialLoopback(port),
    memory,
  })
  const target = {
    sourceIdentity: certificate.identity,
    sourceIp: LOOPBACK,
    destination: { address: LOOPBACK, port },
    expectedIdentities: [waypointIdentity],
  }
  const seats: Seat[] = []
  for (let count = 0; count < tunnels; count += 1) {
    const opened = await pool.open(
      target,
      formatSocketAddress(TARGET),
      { baggage: 'k8s.namespace.name=shop' },
      AbortSignal.timeout(OPEN_MS),
    )
    if (!opened.ok) throw new Error(`Cannot open a tunnel: ${opened.error.message}`)
    const pipe = new StreamPipe(opened.value.bare, 'server')
    if (kind === 'grpc') seats.push(...(await grpcSeats(pipe)))
    else {
      seats.push(new Http1Seat(pipe))
      pipe.start()
    }
  }
  return seats
}

/** One connection of TLS alone. */
async function overTls(): Promise<readonly Seat[]> {
  const { certificate, port } = settings
  const socket = connectTls({
    ...TLS,
    port,
    host: LOOPBACK,
    cert: certificate.chainPem,
    key: certificate.privateKeyPem,
    ca: certificate.rootsPem,
    checkServerIdentity: () => undefined,
  }).setNoDelay(true)
  await once(socket, 'secureConnect')
  const seat = new Http1Seat({
    sink: undefined as unknown as PipeSink,
    write: (chunk) => socket.write(chunk),
    end: () => void socket.end(),
    reset: () => void socket.destroy(),
    consume: () => undefined,
  })
  socket.on('data', (chunk: Buffer) => seat.receive(chunk, 0, chunk.length))
  socket.on('error', () => undefined)
  socket.on('close', broken)
  return [seat]
}

const seats: Seat[] = []
for (let count = 0; count < settings.connections; count += 1)
  seats.push(...(await (settings.kind === 'tls' ? overTls() : overHbone())))

/** Sends what is due, a tick's worth at once. */
function atRate(rate: number, startedAt: number): NodeJS.Timeout {
  let sent = 0
  free.push(...seats)
  return setInterval(() => {
    const due = ((performance.now() - startedAt) / 1000) * rate
    for (; sent < due; sent += 1) {
      const dueAt = startedAt + (sent / rate) * 1000
      const seat = free.pop()
      if (seat === undefined) late.push(dueAt)
      else seat.send(dueAt)
    }
  }, TICK_MS)
}

// Idle: what the tunnels alone cost is looked at meanwhile; goes on when it hears a word.
console.log('open')
await once(process.stdin, 'data')
const startedAt = performance.now()
const ticks = settings.rate === undefined ? undefined : atRate(settings.rate, startedAt)
if (settings.rate === undefined) for (const seat of seats) seat.send(startedAt)
const enough = setInterval(() => {
  const seconds = (performance.now() - startedAt) / 1000
  if (seconds < settings.seconds || latencies.length < LEAST_REQUESTS) return
  clearInterval(enough)
  clearInterval(ticks)
  isOver = true
  const report: ClientReport = {
    requests: latencies.length,
    seconds,
    failed,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
  }
  console.log(JSON.stringify(report))
  process.exit(0)
}, LOOK_MS)
