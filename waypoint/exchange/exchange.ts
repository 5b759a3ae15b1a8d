// SPDX-License-Identifier: Apache-2.0
// One request and its answer: routed, sent to an endpoint, tried again where nothing can have happened twice, and told of when it is
// over. It stands between the client's codec and the app's, and knows neither's framing: one may be HTTP/1.1 and the other HTTP/2. Used
// again for the next request of the connection. Hot: bench/http-exchange.ts watches it.

import { isAuthority } from '../../mesh/http/http1/authority.ts'
import { KeptBytes } from '../../mesh/http/http1/kept-bytes.ts'
import type { HttpProblem } from '../../mesh/http/http1/problem.ts'
import { keptFields } from '../../mesh/http/field-list.ts'
import { addedBy, type HeaderEdits } from '../../mesh/http/header-edits.ts'
import type { Fields, RequestMessage, ResponseMessage } from '../../mesh/http/message.ts'
import { isTarget } from '../../mesh/http/octets.ts'
import { formatSocketAddress } from '../../mesh/model/address.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { type HttpVersion, versionFor } from './app-protocol.ts'
import { Deadline } from './deadline-wheel.ts'
import { failureAnswer, ownAnswer, withUsedUp } from './failure-answer.ts'
import {
  CONTENT_TYPE,
  grpcStatusIn,
  grpcStatusOf,
  isGrpc,
  ownGrpcTrailers,
  UNAVAILABLE,
} from './grpc.ts'
import { OutgoingRequest } from './outgoing-request.ts'
import { isIdempotent, mayTryAgain } from './retry.ts'
import type {
  AnswerOutcome,
  CallOff,
  ConnectFailure,
  ConnectionWaiter,
  ForwardOutcome,
  RequestCopies,
  ResponseFlag,
  RouteOutcome,
  ServeContext,
} from './types.ts'
import type { Upstream, UpstreamUser } from './upstream.ts'

/** What of a request is kept so that it can be sent again. */
const MOST_REPLAYED_BYTES = 64 * 1024

/** What a call of gRPC is told that had begun. */
const BROKEN_OFF = 'the upstream ended the call before it was complete'

const NOT_CALLED_OFF: CallOff = () => undefined

/** The client's side, as the exchange uses it. */
export interface ExchangeClient {
  interim(head: ResponseMessage): void
  answer(head: ResponseMessage, edits: HeaderEdits | undefined): void
  switched(head: ResponseMessage, edits: HeaderEdits | undefined): void
  /** False: the client is slow; clientDrained() comes. */
  answerData(bytes: Buffer, from: number, to: number): boolean
  /** After switched(): half-closes. */
  answerEnd(trailers: Fields | undefined): void
  /** An answer of our own, whole. `grpcStatus`: to a call of gRPC, as which it is to be read. */
  answerHere(answer: AnswerOutcome, grpcStatus: number | undefined): void
  /** The answer cannot be completed: the client must not take it for whole. */
  cut(reason: EndReason): void
  /** So many bytes of the request's body have gone on. */
  credit(bytes: number): void
}

export class Exchange implements UpstreamUser, ConnectionWaiter {
  readonly #context: ServeContext
  #client: ExchangeClient
  #isRunning = false
  #protocol: RequestMessage['protocol'] = 'HTTP/1.1'
  #isGrpc = false
  #grpcStatus: number | undefined
  #version: HttpVersion = 'http1'
  #method = ''
  #target = ''
  #authority = ''
  #outcome: RouteOutcome | undefined
  #forward: ForwardOutcome | undefined
  #isSwitched = false
  #isRequestEnded = false
  #startedAt = 0
  #startedMs = 0
  #requestBytes = 0
  #responseBytes = 0
  #status = 0
  /** Of an answer of the app's that is complete. */
  #answerFlag: ResponseFlag = '-'
  #attempts = 0
  #isStaleRetried = false
  #upstream: Upstream | undefined
  #endpoint: Upstream['endpoint'] | undefined
  #callOff: CallOff = NOT_CALLED_OFF
  /** Of all requests, so that a call which returns late is not taken for the present one. */
  #tries = 0
  #isWaiting = false
  /** What an upstream that is yet to come, or another one, is to get: the head, what came of the body, and its end. */
  readonly #request = new OutgoingRequest()
  readonly #kept = new KeptBytes()
  #trailers: Fields | undefined
  #isKeeping = false
  /** Whether something was sent that is not kept. */
  #isBeyondReplay = false
  /** Bytes of the body that wait for the upstream to take more. */
  #owedToClient = 0
  #owedToUpstream = 0
  #copies: RequestCopies | undefined
  readonly #whole = new Deadline(() =>
    this.#timedOut('the request took longer than its route allows'),
  )
  readonly #try = new Deadline(() => this.#tryTimedOut())
  readonly #pause = new Deadline(() => this.#connect())

  constructor(context: ServeContext, client: ExchangeClient) {
    this.#context = context
    this.#client = client
  }

  /** Is another client's from now on, of the same connection; nothing may be under way. */
  serve(client: ExchangeClient): void {
    this.#client = client
  }

  /** Whether a request is under way. */
  get isRunning(): boolean {
    return this.#isRunning
  }

  /** A request was read; its body follows by data(), unless `hasBody` is false, and then requestEnd(). */
  begin(head: RequestMessage, hasBody: boolean): void {
    this.#start(head)
    const outcome = this.#context.route(head)
    this.#outcome = outcome
    this.#isRequestEnded = !hasBody
    if (outcome.kind === 'answer') return this.#answerHere(outcome, undefined)
    const target = outcome.target ?? head.target
    // A router must not, but what it lets by would be a request of its own.
    if (target !== head.target && !isTarget(target))
      return this.#answerHere(ownAnswer(500, '-', 'the rewritten path is no request target'))
    if (outcome.authority !== undefined && !isAuthority(outcome.authority))
      return this.#answerHere(ownAnswer(500, '-', 'the rewritten host is no host'))
    this.#forward = outcome
    if (outcome.requestMs > 0) this.#context.deadlines.set(this.#whole, outcome.requestMs)
    this.#takeHead(head, target, outcome, hasBody)
    // A switched connection is a conversation, which nobody can have with a copy.
    if (outcome.mirrors.length > 0 && !head.isWebSocket)
      this.#copies = this.#context.mirror(head, outcome, hasBody)
    this.#connect()
  }

  /**
   * What was read is no request, of which the client is told, 0: or is not. Gives the status that it is told where it is a call of gRPC;
   * `isGrpcElse`: what it is where it does not say.
   */
  refused(
    head: RequestMessage,
    status: number,
    message: string,
    isGrpcElse = false,
  ): number | undefined {
    this.#start(head)
    this.#isGrpc ||= isGrpcElse && head.value(CONTENT_TYPE) === undefined
    const isTold = this.#isGrpc && status > 0
    this.#grpcStatus = isTold ? grpcStatusOf(status) : undefined
    this.#status = isTold ? 200 : status
    this.#finish('DPE', message)
    return this.#grpcStatus
  }

  /** What follows the head is no body: the upstream is cut, so that it takes nothing for whole, and the client is told or cut. */
  badBody({ status, text }: HttpProblem): void {
    this.#dropUpstream('clientReset')
    if (this.#status === 0) return this.#answerHere(ownAnswer(status, 'DPE', text), text)
    this.#finish('DPE', text)
    this.#client.cut('clientReset')
  }

  /** Payload of the request's body; after onSwitch, bytes. Credited when they have gone on. */
  data(bytes: Buffer, from: number, to: number): void {
    this.#requestBytes += to - from
    this.#copies?.data(bytes, from, to)
    if (this.#send(bytes, from, to)) this.#client.credit(to - from)
    else this.#owedToClient += to - from
  }

  /** The request is complete; after onSwitch, the client half-closed. */
  requestEnd(trailers: Fields | undefined): void {
    this.#copies?.requestEnd(trailers)
    this.#isRequestEnded = true
    // The client's codec has them for this call only.
    this.#trailers = trailers && keptFields(trailers)
    this.#upstream?.end(trailers)
  }

  /** The client takes more. */
  clientDrained(): void {
    const owed = this.#owedToUpstream
    this.#owedToUpstream = 0
    if (owed > 0) this.#upstream?.credit(owed)
  }

  /** The client is gone, or is cut by us: nobody waits for the answer. */
  abandon(reason: EndReason, flag: ResponseFlag, message?: string): void {
    if (!this.#isRunning) return
    this.#dropUpstream(reason)
    this.#finish(flag, message)
  }

  connected(upstream: Upstream): void {
    this.#arrived()
    this.#upstream = upstream
    this.#endpoint = upstream.endpoint
    const request = this.#request
    const kept = this.#kept
    const retry = this.#forward?.retry
    let hasRoom = upstream.begin(this, request)
    if (kept.length > 0) hasRoom = upstream.data(kept.bytes, kept.start, kept.end)
    const isReplayable =
      (retry !== undefined ||
        upstream.mayRefuse ||
        (upstream.isReused && isIdempotent(this.#method))) &&
      this.#keptBytes <= MOST_REPLAYED_BYTES
    if (!isReplayable) this.#stopKeeping()
    if (this.#isRequestEnded) upstream.end(this.#trailers)
    if (hasRoom) this.onRoom()
  }

  failed({ flag, reason, message }: ConnectFailure): void {
    this.#arrived()
    this.#recover(flag, reason, message, true)
  }

  onInterim(head: ResponseMessage): void {
    this.#client.interim(head)
  }

  onAnswer(head: ResponseMessage): void {
    const { status } = head
    if (this.#forward?.retry?.codes.includes(status) === true) {
      if (this.#canReplay()) {
        this.#dropUpstream('ok')
        return this.#tryAgain(false)
      }
      if (this.#isUsedUp) this.#answerFlag = 'URX'
    }
    // From here on the client has seen an answer, and there is no second try.
    this.#stopKeeping()
    this.#status = status
    if (this.#isGrpc) this.#grpcStatus = grpcStatusIn(head)
    this.#client.answer(head, this.#answerEdits())
  }

  onSwitch(head: ResponseMessage): void {
    this.#stopKeeping()
    this.#clearDeadlines()
    this.#status = head.status
    this.#isSwitched = true
    this.#isRequestEnded = false
    this.#client.switched(head, this.#answerEdits())
  }

  onAnswerData(bytes: Buffer, from: number, to: number): void {
    const length = to - from
    this.#responseBytes += length
    if (this.#client.answerData(bytes, from, to)) this.#upstream?.credit(length)
    else this.#owedToUpstream += length
  }

  onAnswerEnd(trailers: Fields | undefined): void {
    if (this.#isSwitched) return this.#client.answerEnd(undefined)
    // The client's pipe has taken all of it; before the next request it waits until the client has, too.
    this.clientDrained()
    this.#upstream = undefined
    if (this.#isGrpc) this.#grpcStatus ??= grpcStatusIn(trailers)
    this.#finish(this.#answerFlag, undefined)
    this.#client.answerEnd(trailers)
  }

  /** Both ends of a switched connection have closed. */
  bytesEnded(): void {
    this.#dropUpstream('ok')
    this.#finish('-', undefined)
  }

  onFailed(
    flag: ResponseFlag,
    reason: EndReason,
    message: string | undefined,
    isUnprocessed: boolean,
  ): void {
    this.#recover(flag, reason, message, isUnprocessed && !this.#isBeyondReplay)
  }

  onRoom(): void {
    const owed = this.#owedToClient
    this.#owedToClient = 0
    if (owed > 0) this.#client.credit(owed)
  }

  get #keptBytes(): number {
    return this.#request.bytes.length + this.#kept.length
  }

  #answerEdits(): HeaderEdits | undefined {
    const { session, responseEdits } = this.#forward ?? {}
    const endpoint = this.#endpoint?.address
    return session === undefined || endpoint === undefined
      ? responseEdits
      : session.editsFor(endpoint)
  }

  #start(head: RequestMessage): void {
    this.#isRunning = true
    this.#protocol = head.protocol
    this.#method = head.method
    this.#target = head.target
    this.#authority = head.authority
    // Whoever calls by HTTP/1.1 could not read an answer of gRPC.
    this.#isGrpc = head.protocol === 'HTTP/2' && isGrpc(head)
    this.#grpcStatus = undefined
    this.#answerFlag = '-'
    this.#startedAt = Date.now()
    this.#startedMs = performance.now()
    this.#outcome = this.#forward = this.#endpoint = undefined
    this.#isSwitched = this.#isStaleRetried = this.#isBeyondReplay = this.#isKeeping = false
    this.#requestBytes = this.#responseBytes = this.#status = this.#attempts = 0
    this.#owedToClient = this.#owedToUpstream = 0
    this.#trailers = undefined
  }

  #takeHead(
    head: RequestMessage,
    target: string,
    { authority, backend, requestEdits }: ForwardOutcome,
    hasBody: boolean,
  ): void {
    // HTTP/1.0 may name no host; HTTP/1.1 must.
    const fallback =
      backend.kind === 'workload' ? formatSocketAddress(backend.target) : hostOf(backend.service)
    const host = authority ?? (head.authority === '' ? fallback : head.authority)
    this.#version = versionFor(this.#context.appProtocol(backend), head, this.#isGrpc)
    const request = this.#request
    if (this.#version === 'http1') request.asHttp1(head, target, host, requestEdits)
    else request.asHttp2(head, target, host, requestEdits, hasBody)
    this.#isKeeping = true
  }

  #connect(): void {
    const forward = this.#forward
    if (forward === undefined) return
    this.#tries += 1
    const serial = this.#tries
    const attempt = {
      forward,
      version: this.#version,
      number: this.#attempts,
      avoid: this.#endpoint,
      mustBeFresh: this.#isStaleRetried,
      isIdempotent: isIdempotent(this.#method),
    }
    this.#attempts += 1
    this.#isWaiting = true
    // A connection that does not come is as late as an answer that does not.
    if (forward.backendRequestMs > 0)
      this.#context.deadlines.set(this.#try, forward.backendRequestMs)
    const callOff = this.#context.connect(attempt, this)
    // It may have come, or failed and been tried again, within the call.
    if (this.#isWaiting && serial === this.#tries) this.#callOff = callOff
  }

  /** Sends to the upstream, or keeps for the one that is to come; false: it does not go on yet. */
  #send(bytes: Buffer, from: number, to: number): boolean {
    const upstream = this.#upstream
    if (this.#isKeeping) {
      if (upstream !== undefined && this.#keptBytes + to - from > MOST_REPLAYED_BYTES)
        this.#stopKeeping()
      else this.#kept.append(bytes, from, to)
    }
    return upstream !== undefined && upstream.data(bytes, from, to)
  }

  #arrived(): void {
    this.#isWaiting = false
    this.#callOff = NOT_CALLED_OFF
  }

  #stopKeeping(): void {
    if (this.#isBeyondReplay) return
    this.#isKeeping = false
    this.#isBeyondReplay = true
    this.#kept.rewind()
    this.#request.forget()
  }

  /** There is no upstream any more, and the answer is not complete. */
  #recover(
    flag: ResponseFlag,
    reason: EndReason,
    message: string | undefined,
    isUnsent: boolean,
  ): void {
    const upstream = this.#upstream
    this.#upstream = undefined
    this.#context.deadlines.clear(this.#try)
    if (this.#status !== 0) return this.#breakOff(flag, reason, message)
    const isStale = upstream?.isReused === true && !upstream.hasAnswerBytes && !this.#isStaleRetried
    if (isStale && isIdempotent(this.#method) && !this.#isBeyondReplay) return this.#tryAgain(true)
    // As Envoy has it: where no endpoint is fit, the next try finds none either, and nobody is to wait for it.
    const isHopeless = flag === 'UH'
    const mayTry = isUnsent ? mayTryAgain(this.#attempts, this.#forward?.retry) : this.#canReplay()
    if (!isHopeless && mayTry) return this.#tryAgain(false)
    const isRetried = this.#attempts > 1 && !isStale
    this.#answerHere(
      this.#failure(this.#isUsedUp ? withUsedUp(flag) : flag, message),
      isRetried ? `${message ?? reason}, in ${this.#attempts} tries` : (message ?? reason),
    )
  }

  /** Whether the route wants another try, and all that was sent is there to be sent again. */
  #canReplay(): boolean {
    const retry = this.#forward?.retry
    return retry !== undefined && this.#attempts <= retry.attempts && !this.#isBeyondReplay
  }

  /** Whether the route asked for tries, and had them all. */
  get #isUsedUp(): boolean {
    const attempts = this.#forward?.retry?.attempts ?? 0
    return attempts > 0 && this.#attempts > attempts
  }

  #tryAgain(isStale: boolean): void {
    this.#context.deadlines.clear(this.#try)
    if (isStale) {
      this.#isStaleRetried = true
      // A dead idle connection says nothing of the endpoint, and was no try.
      this.#endpoint = undefined
      this.#attempts -= 1
      return this.#connect()
    }
    const backoffMs = this.#forward?.retry?.backoffMs ?? 0
    if (backoffMs > 0) this.#context.deadlines.set(this.#pause, backoffMs)
    else this.#connect()
  }

  #tryTimedOut(): void {
    this.#dropUpstream('connectTimeout')
    if (this.#status === 0 && this.#canReplay()) return this.#tryAgain(false)
    this.#timedOut('a try took longer than its route allows', this.#isUsedUp)
  }

  #timedOut(message: string, isUsedUp = false): void {
    this.#dropUpstream('connectTimeout')
    if (this.#status === 0)
      return this.#answerHere(this.#failure(isUsedUp ? 'URX,UT' : 'UT', message), message)
    this.#breakOff('UT', 'connectTimeout', message)
  }

  /** The answer has begun and will not be whole. A call of gRPC is told so in its own way, as if the connection had ended; all others are cut. */
  #breakOff(flag: ResponseFlag, reason: EndReason, message: string | undefined): void {
    if (this.#isGrpc) this.#grpcStatus = UNAVAILABLE
    this.#finish(flag, message)
    if (this.#isGrpc) this.#client.answerEnd(ownGrpcTrailers(UNAVAILABLE, message ?? BROKEN_OFF))
    else this.#client.cut(reason)
  }

  #dropUpstream(reason: EndReason): void {
    const callOff = this.#callOff
    this.#arrived()
    callOff(reason)
    const upstream = this.#upstream
    this.#upstream = undefined
    upstream?.cut(reason)
  }

  /** An answer in the place of the app's, with what its route adds to those: what lets a browser's page read it, for one. */
  #failure(flag: ResponseFlag, message: string | undefined): AnswerOutcome {
    return { ...failureAnswer(flag, message), headers: addedBy(this.#forward?.responseEdits) }
  }

  #answerHere(answer: AnswerOutcome, message?: string): void {
    // As Envoy has it: the status of a call of gRPC is not HTTP's.
    this.#grpcStatus = this.#isGrpc ? grpcStatusOf(answer.status) : undefined
    this.#status = this.#isGrpc ? 200 : answer.status
    if (!this.#isGrpc && this.#method !== 'HEAD')
      this.#responseBytes = Buffer.byteLength(answer.body)
    this.#finish(answer.flag, message)
    this.#client.answerHere(answer, this.#grpcStatus)
  }

  #clearDeadlines(): void {
    const { deadlines } = this.#context
    deadlines.clear(this.#whole)
    deadlines.clear(this.#try)
    deadlines.clear(this.#pause)
  }

  #finish(flag: ResponseFlag, message: string | undefined): void {
    this.#isRunning = false
    this.#clearDeadlines()
    this.#stopKeeping()
    this.#copies?.originalEnded()
    this.#copies = undefined
    // What waited to be sent goes nowhere now: the client may go on, if only for the rest to be skipped.
    this.onRoom()
    this.#context.record({
      startedAt: this.#startedAt,
      durationMs: performance.now() - this.#startedMs,
      protocol: this.#protocol,
      method: this.#method,
      target: this.#target,
      authority: this.#authority,
      status: this.#status,
      isGrpc: this.#isGrpc,
      grpcStatus: this.#grpcStatus,
      flag,
      message,
      requestBytes: this.#requestBytes,
      responseBytes: this.#responseBytes,
      attempts: this.#attempts,
      endpoint: this.#endpoint,
      outcome: this.#outcome,
    })
    this.#outcome = this.#forward = this.#trailers = undefined
  }
}

/** Of a key `namespace/hostname`. */
function hostOf(service: string): string {
  return service.slice(service.indexOf('/') + 1)
}
