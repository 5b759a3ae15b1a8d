// SPDX-License-Identifier: Apache-2.0
// What a call of gRPC costs a waypoint that speaks HTTP/2 on both sides, beyond routing, TLS and the kernel: 32 at a time over one connection,
// between pipes that only copy. Client and app are our HTTP/2 as well, and in the figure. By itself: node bench/http2-exchange.ts

import { HELD_LIMIT_BYTES } from '../mesh/hbone/limits.ts'
import type { Pipe, PipeSink } from '../mesh/http/pipe.ts'
import { H2Connection } from '../mesh/http2/connection.ts'
import { HeldMemory } from '../mesh/http2/held-memory.ts'
import { PipeWire } from '../mesh/http2/pipe-wire.ts'
import type { IpAddress } from '../mesh/model/types.ts'
import { DeadlineWheel } from '../waypoint/exchange/deadline-wheel.ts'
import { CLIENT_SETTINGS, SERVER_SETTINGS, SHRINK_MS } from '../waypoint/exchange/http2-limits.ts'
import { Http2Upstream } from '../waypoint/exchange/http2-upstream.ts'
import { serveHttp2 } from '../waypoint/exchange/serve-http2.ts'
import type { ForwardOutcome } from '../waypoint/exchange/types.ts'
import { GrpcAnswer } from './waypoint/grpc-answer.ts'
import { GrpcCalls } from './waypoint/grpc-calls.ts'

const CALLS = 60_000
const WARM_UP = 30_000
const ROUNDS = 5
const AT_A_TIME = 32
const SETTINGS_MS = 60_000

const memory = new HeldMemory(HELD_LIMIT_BYTES)

/** One end of a connection: what is written is copied, and comes to the other end when the caller is done. */
class End implements Pipe {
  sink: PipeSink = undefined as unknown as PipeSink
  other: End = this
  #waiting = Buffer.allocUnsafeSlow(64 * 1024)
  #spare = Buffer.allocUnsafeSlow(64 * 1024)
  #length = 0
  readonly #deliver = (): void => {
    const bytes = this.#waiting
    const length = this.#length
    this.#waiting = this.#spare
    this.#spare = bytes
    this.#length = 0
    this.other.sink.receive(bytes, 0, length)
  }

  write(chunk: Buffer, from: number, to: number): boolean {
    if (this.#length === 0) queueMicrotask(this.#deliver)
    if (this.#length + to - from > this.#waiting.length) throw new Error('a turn brought too much')
    chunk.copy(this.#waiting, this.#length, from, to)
    this.#length += to - from
    return true
  }

  end(): void {
    throw new Error('a connection ended')
  }

  reset(): void {
    throw new Error('a connection was reset')
  }

  consume(): void {
    // Nobody sends faster than we read.
  }
}

function pair(): readonly [End, End] {
  const [one, other] = [new End(), new End()]
  one.other = other
  other.other = one
  return [one, other]
}

const FORWARD: ForwardOutcome = {
  kind: 'forward',
  backend: { kind: 'service', service: 'shop/prices.shop.svc.cluster.local', port: 9000 },
  target: undefined,
  authority: undefined,
  requestEdits: undefined,
  responseEdits: undefined,
  requestMs: 15_000,
  backendRequestMs: 0,
  retry: undefined,
  mirrors: [],
  session: undefined,
}
const ENDPOINT = {
  address: { address: '10.0.0.9' as IpAddress, port: 9000 },
  workload: undefined,
}
const COMMON = {
  settingsDeadlineMs: SETTINGS_MS,
  pingIntervalMs: SHRINK_MS,
  pingTimeoutMs: undefined,
  memory,
  onStreamClosed: () => undefined,
  onClosed: () => undefined,
}

/** Microseconds of CPU of one call. */
async function measure(): Promise<number> {
  const [clientEnd, servedEnd] = pair()
  const [upstreamEnd, appEnd] = pair()
  new H2Connection({
    ...COMMON,
    role: 'server',
    wire: new PipeWire(appEnd),
    settings: SERVER_SETTINGS,
    onReady: () => undefined,
    onRequest: (stream) => {
      stream.sink = new GrpcAnswer(stream)
    },
  })
  const upstream = new H2Connection({
    ...COMMON,
    role: 'client',
    wire: new PipeWire(upstreamEnd),
    settings: CLIENT_SETTINGS,
    onReady: () => undefined,
    onRequest: () => undefined,
  })
  let done = 0
  serveHttp2(
    servedEnd,
    {
      source: { address: undefined, identity: undefined, workload: undefined },
      deadlines: new DeadlineWheel(),
      route: () => FORWARD,
      appProtocol: () => 'grpc',
      connect: (_, waiter) => {
        waiter.connected(
          new Http2Upstream({
            connection: upstream,
            endpoint: ENDPOINT,
            isReused: true,
            onClosed: () => undefined,
          }),
        )
        return () => undefined
      },
      mirror: () => undefined,
      record: ({ grpcStatus }) => {
        if (grpcStatus === 0) done += 1
      },
      closed: () => undefined,
    },
    { memory, accounts: {} },
  )
  const calls = new GrpcCalls(clientEnd, memory)
  await calls.ready
  await calls.make(WARM_UP, AT_A_TIME)
  const started = process.cpuUsage()
  await calls.make(CALLS, AT_A_TIME)
  const { user, system } = process.cpuUsage(started)
  if (done !== WARM_UP + CALLS) throw new Error(`only ${done} calls were answered`)
  return (user + system) / CALLS
}

const rounds: number[] = []
for (let round = 0; round < ROUNDS; round += 1) rounds.push(await measure())
console.log(
  `unary call, ${AT_A_TIME} at a time: ${Math.min(...rounds).toFixed(2)} us (best of ${ROUNDS})`,
)
process.exit(0)
