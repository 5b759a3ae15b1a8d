// SPDX-License-Identifier: Apache-2.0
// The client's side of unary calls of gRPC on one connection, as the benches have it.

import type { Pipe } from '../../mesh/http/pipe.ts'
import { H2Connection } from '../../mesh/http2/connection.ts'
import type { HeldMemory } from '../../mesh/http2/held-memory.ts'
import type { HeaderList } from '../../mesh/http2/hpack.ts'
import { PipeWire } from '../../mesh/http2/pipe-wire.ts'
import type { H2Stream, StreamSink } from '../../mesh/http2/stream.ts'
import { CLIENT_SETTINGS } from '../../waypoint/exchange/http2-limits.ts'
import { GRPC_MESSAGE_BYTES, GRPC_REQUEST } from './parties.ts'

const SETTINGS_MS = 60_000
const PING_INTERVAL_MS = 10_000
const MESSAGE = Buffer.alloc(GRPC_MESSAGE_BYTES, 'x')

/** Told whether the call was answered with status 0. */
type Answered = (isOk: boolean) => void

export class GrpcCalls {
  /** The app's SETTINGS are there. */
  readonly ready: Promise<void>
  readonly #connection: H2Connection

  constructor(pipe: Pipe, memory: HeldMemory) {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    this.ready = promise
    this.#connection = new H2Connection({
      role: 'client',
      wire: new PipeWire(pipe),
      settings: CLIENT_SETTINGS,
      settingsDeadlineMs: SETTINGS_MS,
      pingIntervalMs: PING_INTERVAL_MS,
      pingTimeoutMs: undefined,
      memory,
      onReady: () => resolve(undefined),
      onRequest: () => undefined,
      onStreamClosed: () => undefined,
      onClosed: () => undefined,
    })
  }

  /** Makes one call. */
  call(answered: Answered): void {
    const call = new Call(answered)
    const stream = this.#connection.openStream(GRPC_REQUEST, call)
    call.stream = stream
    stream.write(MESSAGE, true)
    stream.end()
  }

  /** Makes so many, never more than `atATime` at once; rejects when one fails. */
  async make(calls: number, atATime: number): Promise<void> {
    let left = calls
    let done = 0
    const { promise, resolve, reject } = Promise.withResolvers<undefined>()
    const next = (): void => {
      if (left === 0) return
      left -= 1
      this.call((isOk) => {
        done += 1
        if (!isOk) reject(new Error('a call failed'))
        else if (done === calls) resolve(undefined)
        else next()
      })
    }
    for (let count = 0; count < atATime; count += 1) next()
    await promise
  }
}

class Call implements StreamSink {
  stream: H2Stream | undefined
  readonly #answered: Answered
  #isOk = false

  constructor(answered: Answered) {
    this.#answered = answered
  }

  onHeaders(): void {
    // What counts is in the trailers.
  }

  onData(chunk: Buffer): boolean {
    this.stream?.consume(chunk.length)
    return false
  }

  onTrailers(headers: HeaderList): void {
    this.#isOk = headers.some(([name, value]) => name === 'grpc-status' && value === '0')
  }

  onEnd(): void {
    // The status decides.
  }

  onReset(): boolean {
    this.#isOk = false
    return false
  }

  onWritable(): void {
    // A message fits into every window.
  }

  onClosed(): void {
    // Not before: until then the stream counts.
    this.#answered(this.#isOk)
  }
}
