// SPDX-License-Identifier: Apache-2.0
// A client's connection of HTTP: its first bytes say which version, whatever is declared of the port, for with prior knowledge a client
// begins with the preface of HTTP/2 (RFC 9113 3.4), and no request of HTTP/1.1 begins so.

import { PREFACE } from '../../mesh/http2/protocol.ts'
import type { Pipe, PipeSink } from '../../mesh/http/pipe.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { Deadline } from './deadline-wheel.ts'
import { serveHttp1 } from './serve-http1.ts'
import { type Http2Serving, serveHttp2 } from './serve-http2.ts'
import type { ServeContext, ServedConnection } from './types.ts'

/** `PRI `: no other request has that method. */
const TELLING_BYTES = 4
/** For the first byte: as long as between requests. */
const IDLE_MS = 3_600_000

/** Serves one connection from its first byte on. */
export function serveHttp(
  pipe: Pipe,
  context: ServeContext,
  serving: () => Http2Serving,
): ServedConnection {
  return new Beginning(pipe, context, serving)
}

class Beginning implements PipeSink, ServedConnection {
  readonly #pipe: Pipe
  readonly #context: ServeContext
  readonly #serving: () => Http2Serving
  readonly #idle = new Deadline(() => this.drain())
  /** What came, of which nothing can be said yet. */
  #first: Buffer = Buffer.alloc(0)
  #served: ServedConnection | undefined
  #isOver = false

  constructor(pipe: Pipe, context: ServeContext, serving: () => Http2Serving) {
    this.#pipe = pipe
    this.#context = context
    this.#serving = serving
    pipe.sink = this
    context.deadlines.set(this.#idle, IDLE_MS)
  }

  drain(): void {
    if (this.#served !== undefined) return this.#served.drain()
    if (this.#isOver) return
    this.#pipe.end()
    this.#over()
  }

  cut(reason: EndReason, message?: string): void {
    if (this.#served !== undefined) return this.#served.cut(reason, message)
    if (this.#isOver) return
    this.#pipe.reset(reason)
    this.#over()
  }

  receive(chunk: Buffer, from: number, to: number): void {
    if (this.#isOver) return this.#pipe.consume(to - from)
    if (this.#first.length === 0) {
      if (chunk[from] !== PREFACE[0]) return this.#hand(1, chunk, from, to)
      if (to - from >= TELLING_BYTES) return this.#hand(versionOf(chunk, from), chunk, from, to)
    }
    const first = Buffer.concat([this.#first, chunk.subarray(from, to)])
    this.#first = first
    const isTold = first.length >= TELLING_BYTES || versionOf(first, 0) === 1
    if (isTold) this.#hand(versionOf(first, 0), first, 0, first.length)
  }

  ended(): void {
    if (this.#isOver) return
    if (this.#first.length > 0) this.#hand(1, this.#first, 0, this.#first.length)
    if (this.#served !== undefined) return this.#pipe.sink.ended()
    this.#pipe.end()
    this.#over()
  }

  broken(): void {
    if (!this.#isOver) this.#over()
  }

  drained(): void {
    // Nothing is written meanwhile.
  }

  #hand(version: 1 | 2, bytes: Buffer, from: number, to: number): void {
    this.#serve(version)
    this.#pipe.sink.receive(bytes, from, to)
  }

  #serve(version: 1 | 2): ServedConnection {
    this.#context.deadlines.clear(this.#idle)
    this.#served =
      version === 1
        ? serveHttp1(this.#pipe, this.#context)
        : serveHttp2(this.#pipe, this.#context, this.#serving())
    return this.#served
  }

  #over(): void {
    this.#isOver = true
    this.#context.deadlines.clear(this.#idle)
    this.#context.closed()
  }
}

/** By as much as there is, up to what tells. */
function versionOf(bytes: Buffer, from: number): 1 | 2 {
  const to = Math.min(bytes.length, from + TELLING_BYTES)
  return bytes.compare(PREFACE, 0, to - from, from, to) === 0 ? 2 : 1
}
