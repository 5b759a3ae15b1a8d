// SPDX-License-Identifier: Apache-2.0
// A client's connection of HTTP/2: each stream is a request with an exchange of its own, and what is malformed is reset, not answered.
// Hot.

import type { Listed } from '../../mesh/async/roster.ts'
import { http } from '../../mesh/node-http.ts'
import { FieldList } from '../../mesh/http/field-list.ts'
import type { HeaderEdits } from '../../mesh/http/header-edits.ts'
import { type HttpProblem, PROBLEM } from '../../mesh/http/http1/problem.ts'
import { fieldsProblem } from '../../mesh/http/http2/check-fields.ts'
import { Http2RequestHead } from '../../mesh/http/http2/request-head.ts'
import { Http2ResponseHead } from '../../mesh/http/http2/response-head.ts'
import { responseFields, trailerFields } from '../../mesh/http/http2/write-head.ts'
import type { Fields, ResponseMessage } from '../../mesh/http/message.ts'
import type { Pipe } from '../../mesh/http/pipe.ts'
import type { H2Accounts } from '../../mesh/http2/budget.ts'
import { H2Connection } from '../../mesh/http2/connection.ts'
import type { HeldMemory } from '../../mesh/http2/held-memory.ts'
import type { HeaderList } from '../../mesh/http2/hpack.ts'
import { PipeWire } from '../../mesh/http2/pipe-wire.ts'
import { H2_CODE } from '../../mesh/http2/protocol.ts'
import type { H2Stream, StreamSink } from '../../mesh/http2/stream.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { Deadline, type DeadlineWheel } from './deadline-wheel.ts'
import { Exchange, type ExchangeClient } from './exchange.ts'
import { isGrpc } from './grpc.ts'
import { SERVER_SETTINGS, SHRINK_MS } from './http2-limits.ts'
import { type OpenBody, OpenBodies } from './open-bodies.ts'
import { ownFields, ownGrpcFields, problemAnswer } from './own-answer.ts'
import type { AnswerOutcome, ServeContext, ServedConnection } from './types.ts'

/** Without a request: as long as Envoy waits. */
const IDLE_MS = 3_600_000
/** After so long without one, what is kept for the next is given back. */
const QUIET_MS = 60_000
/** Exchanges that are kept for the next requests, of 2 KB each. */
const MOST_SPARE = 32
/**
 * For a client that is told to send no more, to have read why: some (curl before 8) take the one for the failure of the other where both come at once.
 * Meanwhile so much of what it sends is skipped.
 */
const STOP_MS = 1_000
const MOST_SKIPPED_BYTES = 64 * 1024
/** For the preface and the first SETTINGS, which a client sends at once. */
const FIRST_SETTINGS_MS = 60_000

/** One for the thread: what it holds is read, routed by and written on within one call. */
const head = new Http2RequestHead()

/** What connections of HTTP/2 share. */
export interface Http2Serving {
  /** The account of what lagging receivers hold. */
  readonly memory: HeldMemory
  /** Who pays for nuisance: whoever is at the far end, over all its connections. */
  readonly accounts: Partial<H2Accounts>
}

/** Serves one connection from its preface on. */
export function serveHttp2(
  pipe: Pipe,
  context: ServeContext,
  serving: Http2Serving,
): ServedConnection {
  return new ServedHttp2(pipe, context, serving)
}

class ServedHttp2 implements ServedConnection {
  readonly #connection: H2Connection
  readonly #context: ServeContext
  readonly #pipe: Pipe
  readonly #idle = new Deadline(() => this.#idled())
  readonly #bodies: OpenBodies
  #cutBy: EndReason | undefined
  /** Calls of gRPC have come by it: so may be what comes and does not say, for it is too large. */
  carriesGrpc = false
  #spare: Exchange[] = []

  constructor(pipe: Pipe, context: ServeContext, { memory, accounts }: Http2Serving) {
    this.#context = context
    this.#pipe = pipe
    context.deadlines.set(this.#idle, IDLE_MS)
    this.#connection = new H2Connection({
      role: 'server',
      wire: new PipeWire(pipe),
      settings: SERVER_SETTINGS,
      settingsDeadlineMs: FIRST_SETTINGS_MS,
      pingIntervalMs: SHRINK_MS,
      // The tunnel's own connection knows whether its client lives.
      pingTimeoutMs: undefined,
      memory,
      caller: context.source.address?.address ?? '',
      accounts,
      onReady: () => undefined,
      onRequest: (stream, headers, isTooLarge) => this.#request(stream, headers, isTooLarge),
      onStreamClosed: () => this.#streamClosed(),
      onClosed: () => this.#closed(),
    })
    const { receiveWindow } = this.#connection
    this.#bodies = new OpenBodies(context.deadlines, () => receiveWindow.open > 0)
  }

  drain(): void {
    this.#connection.leave()
  }

  cut(reason: EndReason): void {
    this.#cutBy ??= reason
    this.#connection.destroy()
    this.#pipe.reset(reason)
  }

  get deadlines(): DeadlineWheel {
    return this.#context.deadlines
  }

  get cutBy(): EndReason | undefined {
    return this.#cutBy
  }

  /** For a request: a new exchange, or one that an earlier request had. */
  exchangeFor(client: ExchangeClient): Exchange {
    const spare = this.#spare.pop()
    if (spare === undefined) return new Exchange(this.#context, client)
    spare.serve(client)
    return spare
  }

  /** Nobody uses it any more. */
  giveBack(exchange: Exchange): void {
    if (this.#spare.length < MOST_SPARE) this.#spare.push(exchange)
  }

  #request(stream: H2Stream, headers: HeaderList, isTooLarge: boolean): void {
    this.#context.deadlines.clear(this.#idle)
    const served = new ServedStream(stream, this, this.#bodies)
    stream.sink = served
    served.begin(headers, isTooLarge)
  }

  #streamClosed(): void {
    if (this.#connection.streamCount === 0) this.#context.deadlines.set(this.#idle, QUIET_MS)
  }

  #idled(): void {
    if (this.#spare.length === 0) return this.#connection.leave()
    this.#spare = []
    this.#context.deadlines.set(this.#idle, IDLE_MS - QUIET_MS)
  }

  #closed(): void {
    this.#context.deadlines.clear(this.#idle)
    this.#context.closed()
  }
}

class ServedStream implements StreamSink, ExchangeClient, OpenBody {
  /** Among the open bodies. */
  listed: Listed | undefined
  readonly #stream: H2Stream
  readonly #connection: ServedHttp2
  readonly #bodies: OpenBodies
  /** Undefined once it was given back: the stream is over. */
  #exchange: Exchange | undefined
  #isToHead = false
  /** Bytes of the request's body that are to come; below 0: unknown. */
  #left = -1
  /** Something of the body came since it was last looked; at first it is new. */
  #isBodyMoving = true
  /** Bytes of the body that the app has not taken yet. */
  #untaken = 0
  #isAnswerBegun = false
  #trailers: FieldList | undefined
  /** The answer is complete, or will not be. */
  #isAnswered = false
  /** Set once the client is to send no more. */
  #stop: Deadline | undefined
  #skipped = 0
  /** What breaks within a call to the stream is told after it. */
  #isCalling = false

  constructor(stream: H2Stream, connection: ServedHttp2, bodies: OpenBodies) {
    this.#stream = stream
    this.#connection = connection
    this.#bodies = bodies
    this.#exchange = connection.exchangeFor(this)
  }

  begin(headers: HeaderList, isTooLarge: boolean): void {
    const isEnd = this.#stream.isEndReceived
    if (isTooLarge) head.take(headers)
    const problem = isTooLarge ? TOO_LARGE : head.parse(headers, isEnd)
    this.#isToHead = head.method === 'HEAD'
    if (problem?.kind === 'malformed') this.#malformed(problem.text)
    else if (problem === undefined) {
      this.#left = head.bodyLength
      // Calls of gRPC may be silent between their messages for as long as they like.
      if (!isEnd) {
        if (isGrpc(head)) this.#connection.carriesGrpc = true
        else this.#bodies.opened(this)
      }
      this.#exchange?.begin(head, !isEnd)
    } else {
      const { status, text } = problem.problem
      const grpcStatus = this.#exchange?.refused(
        head,
        status,
        text,
        isTooLarge && this.#connection.carriesGrpc,
      )
      this.answerHere(problemAnswer(problem.problem), grpcStatus)
    }
    head.forget()
  }

  onHeaders(): void {
    // Those of a request come before the stream has a sink.
  }

  onData(chunk: Buffer): boolean {
    const { length } = chunk
    if (this.#left >= 0) {
      this.#left -= length
      if (this.#left < 0) {
        this.#malformed('the content is longer than its length')
        return false
      }
    }
    if (this.#exchange?.isRunning === true) {
      this.#isBodyMoving = true
      this.#untaken += length
      this.#exchange.data(chunk, 0, length)
    } else {
      this.#stream.consume(length)
      this.#skipped += length
      if (this.#stop !== undefined && this.#skipped > MOST_SKIPPED_BYTES) this.#stopClient()
    }
    return false
  }

  onTrailers(headers: HeaderList, isTooLarge: boolean): void {
    const problem = isTooLarge ? 'the trailers are too large' : fieldsProblem(headers, 0)
    if (problem !== undefined) return this.#malformed(problem)
    this.#trailers = new FieldList(headers)
  }

  onEnd(): void {
    this.#bodies.closed(this)
    if (this.#left > 0) return this.#malformed('the content is shorter than its length')
    if (this.#exchange?.isRunning === true) this.#exchange.requestEnd(this.#trailers)
  }

  onReset(code: number): boolean {
    const isOurs = code === H2_CODE.enhanceYourCalm
    const reason = this.#connection.cutBy ?? (isOurs ? 'tooManyUnreadBytes' : 'clientReset')
    const tell = (): void => this.#exchange?.abandon(reason, 'DC')
    if (this.#isCalling) queueMicrotask(tell)
    else tell()
    return false
  }

  onWritable(): void {
    this.#exchange?.clientDrained()
    this.#leaveRest()
  }

  onClosed(): void {
    this.#bodies.closed(this)
    if (this.#stop !== undefined) this.#connection.deadlines.clear(this.#stop)
    // Whoever waits for the answer was told why, or will be.
    const exchange = this.#exchange
    if (exchange === undefined || exchange.isRunning) return
    this.#exchange = undefined
    this.#connection.giveBack(exchange)
  }

  isMoving(): boolean {
    const isMoving = this.#isBodyMoving || this.#untaken > 0 || this.#isAnswerBegun
    this.#isBodyMoving = false
    return isMoving
  }

  stop(): void {
    this.#exchange?.badBody(PROBLEM.slowBody)
  }

  interim(answer: ResponseMessage): void {
    this.#stream.sendHeaders(responseFields(answer, undefined), false)
  }

  answer(answer: ResponseMessage, edits: HeaderEdits | undefined): void {
    this.#isAnswerBegun = true
    // What is all head, as the answer of a call of gRPC that failed at once, is to be seen to be.
    const isAll = answer instanceof Http2ResponseHead ? answer.isEnd : answer.bodyLength === 0
    this.#stream.sendHeaders(responseFields(answer, edits), isAll)
  }

  switched(): void {
    this.cut('serverReset')
  }

  answerData(bytes: Buffer, from: number, to: number): boolean {
    return this.#write(from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to))
  }

  answerEnd(trailers: Fields | undefined): void {
    this.#stream.end(trailerFields(trailers))
    this.#answered()
  }

  answerHere({ status, headers, body }: AnswerOutcome, grpcStatus: number | undefined): void {
    const text = body === '' ? (http.STATUS_CODES[status] ?? '') : body
    if (grpcStatus !== undefined) {
      const fields = ownGrpcFields({ headers }, grpcStatus, text)
      this.#stream.sendHeaders([[':status', '200'], ...fields], true)
    } else {
      const bytes = Buffer.from(body, 'utf8')
      const isAll = bytes.length === 0 || this.#isToHead || status === 204 || status === 304
      this.#stream.sendHeaders(
        [[':status', `${status}`], ...ownFields({ status, headers }, bytes.length)],
        isAll,
      )
      if (!isAll) this.#write(bytes)
      this.#stream.end()
    }
    this.#answered()
  }

  cut(reason: EndReason): void {
    this.#isAnswered = true
    this.#stream.reset(reason === 'clientReset' ? H2_CODE.protocolError : H2_CODE.internalError)
  }

  credit(bytes: number): void {
    this.#untaken -= bytes
    this.#stream.consume(bytes)
  }

  #write(bytes: Buffer): boolean {
    this.#isCalling = true
    const hasRoom = this.#stream.write(bytes, true)
    this.#isCalling = false
    return hasRoom
  }

  #answered(): void {
    this.#isAnswered = true
    this.#bodies.closed(this)
    this.#leaveRest()
  }

  /** RFC 9113 8.1: nobody wants the rest of a request that is answered; the client hears so a while after it has the answer. */
  #leaveRest(): void {
    const stream = this.#stream
    const isLeft = this.#isAnswered && !stream.isEndReceived && !stream.hasUnsent
    if (!isLeft || this.#stop !== undefined) return
    this.#stop = new Deadline(() => this.#stopClient())
    this.#connection.deadlines.set(this.#stop, STOP_MS)
  }

  #stopClient(): void {
    this.#stream.reset(H2_CODE.noError)
  }

  /** RFC 9113 8.1.1. */
  #malformed(text: string): void {
    if (this.#exchange?.isRunning === true) this.#exchange.abandon('clientReset', 'DPE', text)
    else if (!this.#isAnswered) this.#exchange?.refused(head, 0, text)
    this.#isAnswered = true
    this.#stream.reset(H2_CODE.protocolError)
    this.#stream.wasted('malformed requests')
  }
}

const TOO_LARGE: { readonly kind: 'refused'; readonly problem: HttpProblem } = {
  kind: 'refused',
  problem: PROBLEM.largeHead,
}
