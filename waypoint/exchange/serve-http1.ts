// SPDX-License-Identifier: Apache-2.0
// A client's connection of HTTP/1.1: requests are read one after the other, answers go back in their order, and a connection that
// cannot be understood for certain is told so and closed. Hot: bench/http-exchange.ts watches it.

import { CHUNKED } from '../../mesh/http/http1/body-length.ts'
import { ChunkedReader } from '../../mesh/http/http1/chunked-reader.ts'
import { ChunkWriter, HeadWriter, type ResponseHop } from '../../mesh/http/http1/head-writer.ts'
import type { HeaderBlock } from '../../mesh/http/http1/header-block.ts'
import { KeptBytes } from '../../mesh/http/http1/kept-bytes.ts'
import { LARGEST_HEAD_BYTES } from '../../mesh/http/http1/limits.ts'
import { BAD, type HttpProblem, INCOMPLETE, PROBLEM } from '../../mesh/http/http1/problem.ts'
import { Http1RequestHead } from '../../mesh/http/http1/request-head.ts'
import type { HeaderEdits } from '../../mesh/http/header-edits.ts'
import type { Fields, ResponseMessage } from '../../mesh/http/message.ts'
import type { Pipe, PipeSink } from '../../mesh/http/pipe.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { Deadline } from './deadline-wheel.ts'
import { Exchange, type ExchangeClient } from './exchange.ts'
import { mayEndHead } from './head-end.ts'
import { BODY_MS } from './open-bodies.ts'
import { answerBytes, problemAnswer } from './own-answer.ts'
import type { AnswerOutcome, ServeContext, ServedConnection } from './types.ts'

/** Between requests: as long as Envoy waits. */
const IDLE_MS = 3_600_000
/** From the first byte of a head to its end, and for the rest of a body that nobody wants. */
const HEAD_MS = 60_000
/** After the last answer, for the client to close. */
const LINGER_MS = 5_000
/** Of a body that nobody wants any more, what is read so that the connection can go on. */
const MOST_SKIPPED_BYTES = 64 * 1024

/** One for the thread: what they hold is read, routed by and written on within one call. */
const head = new Http1RequestHead()
const writer = new HeadWriter()

const CR = 0x0d
const LF = 0x0a

type State = 'head' | 'body' | 'answer' | 'bytes' | 'closing' | 'over'

/** Serves one connection from its first byte on. */
export function serveHttp1(pipe: Pipe, context: ServeContext): ServedConnection {
  return new ServedHttp1(pipe, context)
}

class ServedHttp1 implements PipeSink, ExchangeClient, ServedConnection {
  readonly #pipe: Pipe
  readonly #context: ServeContext
  readonly #exchange: Exchange
  readonly #wait = new Deadline(() => this.#waitedTooLong())
  #state: State = 'head'
  /** What is read is being acted on: who ends a request within it does not go on to the next by itself. */
  #isReading = false
  readonly #kept = new KeptBytes()
  #scanned = 0
  /** The client has had what is owed to it before it drained(). */
  #isBlocked = false
  #isDraining = false
  /** The connection closes after this answer. */
  #isLast = false
  #isHead = false
  #isOld = false
  #takesTrailers = false
  #isExpectant = false
  /** Of the request's body: bytes that are left, or CHUNKED. */
  #left = 0
  #chunks: ChunkedReader | undefined
  /** Something of the body came since it was last looked. */
  #isBodyMoving = false
  /** Bytes of the body that the app has not taken yet. */
  #untaken = 0
  #isAnswerBegun = false
  /** The answer is over while the body is not: so much of it is skipped yet. */
  #skips = -1
  #isAnswerChunked = false
  #answerChunks: ChunkWriter | undefined
  #hasEnded = false
  #hasAnswerEnded = false

  constructor(pipe: Pipe, context: ServeContext) {
    this.#pipe = pipe
    this.#context = context
    this.#exchange = new Exchange(context, this)
    pipe.sink = this
    context.deadlines.set(this.#wait, IDLE_MS)
  }

  drain(): void {
    this.#isDraining = true
    if (this.#state === 'head' && this.#kept.length === 0) this.#close()
  }

  cut(reason: EndReason, message?: string): void {
    if (this.#state === 'over') return
    this.#over()
    this.#pipe.reset(reason)
    this.#exchange.abandon(reason, reason === 'policyChanged' ? 'RBAC' : 'DC', message)
  }

  receive(chunk: Buffer, from: number, to: number): void {
    if (this.#kept.length === 0) {
      const at = this.#read(chunk, from, to)
      if (at < to) this.#kept.append(chunk, at, to)
      return
    }
    this.#kept.append(chunk, from, to)
    this.#readKept()
  }

  ended(): void {
    this.#hasEnded = true
    switch (this.#state) {
      case 'head':
      case 'closing':
        this.#pipe.end()
        return this.#over()
      case 'bytes':
        this.#exchange.requestEnd(undefined)
        return this.#bytesEnded()
      case 'answer':
        // Who asked for the last answer may say that nothing follows; whoever else closes is gone, and would not hear of it.
        if (this.#isLast) return
        return this.cut('clientReset')
      case 'body':
        return this.cut('clientReset')
      case 'over':
        return
    }
  }

  broken(reason: EndReason): void {
    if (this.#state === 'over') return
    this.#over()
    this.#exchange.abandon(reason, 'DC')
  }

  drained(): void {
    this.#isBlocked = false
    this.#exchange.clientDrained()
    if (this.#state === 'head') this.#readKept()
  }

  interim(answer: ResponseMessage): void {
    if (answer.status === 100) this.#isExpectant = false
    // RFC 9110 15.2: HTTP/1.0 knows none.
    if (!this.#isOld) this.#writeHead(answer, 'plain', undefined)
  }

  answer(answer: ResponseMessage, edits: HeaderEdits | undefined): void {
    this.#isAnswerBegun = true
    this.#leaveBody()
    const isUnknown = answer.bodyLength < 0
    this.#isAnswerChunked = isUnknown && !this.#isOld
    if (isUnknown && this.#isOld) this.#isLast = true
    if (this.#isAnswerChunked) this.#answerChunks?.reset()
    this.#writeHead(answer, this.#hop(), edits)
  }

  switched(answer: ResponseMessage, edits: HeaderEdits | undefined): void {
    this.#state = 'bytes'
    this.#isAnswerChunked = false
    this.#writeHead(answer, 'websocket', edits)
    if (!this.#isReading) this.#readKept()
    if (this.#hasEnded) this.#exchange.requestEnd(undefined)
  }

  answerData(bytes: Buffer, from: number, to: number): boolean {
    return this.#isAnswerChunked
      ? this.#answerChunkWriter.data(bytes, from, to)
      : this.#write(bytes, from, to)
  }

  answerEnd(trailers: Fields | undefined): void {
    if (this.#state === 'bytes') {
      this.#hasAnswerEnded = true
      this.#pipe.end()
      return this.#bytesEnded()
    }
    if (this.#isAnswerChunked)
      this.#answerChunkWriter.end(this.#takesTrailers ? trailers : undefined)
    this.#answered()
  }

  answerHere(answer: AnswerOutcome): void {
    this.#leaveBody()
    const bytes = answerBytes(answer, this.#isHead, this.#isLast)
    this.#write(bytes, 0, bytes.length)
    this.#answered()
  }

  credit(bytes: number): void {
    this.#untaken -= bytes
    this.#pipe.consume(bytes)
  }

  get #answerChunkWriter(): ChunkWriter {
    return (this.#answerChunks ??= new ChunkWriter((bytes, from, to) =>
      this.#write(bytes, from, to),
    ))
  }

  #write(bytes: Buffer, from: number, to: number): boolean {
    const hasRoom = this.#pipe.write(bytes, from, to)
    if (!hasRoom) this.#isBlocked = true
    return hasRoom
  }

  #writeHead(answer: ResponseMessage, hop: ResponseHop, edits: HeaderEdits | undefined): void {
    writer.response(answer, hop, edits, this.#isHead)
    this.#write(writer.bytes, 0, writer.length)
  }

  #hop(): ResponseHop {
    if (this.#isAnswerChunked) return this.#isLast ? 'chunkedLast' : 'chunked'
    if (this.#isLast) return 'last'
    return this.#isOld ? 'keepAlive' : 'plain'
  }

  #readKept(): void {
    if (this.#kept.length === 0 || this.#isReading) return
    const { bytes, start, end } = this.#kept
    const at = this.#read(bytes, start, end)
    if (this.#kept.length > 0) this.#kept.drop(at - start)
  }

  /** Reads what is there; gives the offset of what has to wait. */
  #read(bytes: Buffer, start: number, end: number): number {
    this.#isReading = true
    let at = start
    let next = start
    do {
      at = next
      next = at < end ? this.#step(bytes, at, end) : at
    } while (next > at)
    this.#isReading = false
    if (this.#state === 'body' && this.#wait.slot < 0)
      this.#context.deadlines.set(this.#wait, BODY_MS)
    return at
  }

  /** Reads one thing; the same offset when that has to wait. */
  #step(bytes: Buffer, at: number, end: number): number {
    switch (this.#state) {
      case 'head':
        return this.#isBlocked ? at : this.#readHead(bytes, at, end)
      case 'body':
        return this.#left === CHUNKED
          ? this.#readChunks(bytes, at, end)
          : this.#readBody(bytes, at, end)
      case 'bytes':
        this.#exchange.data(bytes, at, end)
        return end
      case 'answer':
        return at
      case 'closing':
      case 'over':
        this.#pipe.consume(end - at)
        return end
    }
  }

  #readHead(bytes: Buffer, at: number, end: number): number {
    // RFC 9112 2.2: an empty line before a request is skipped.
    if (bytes[at] === CR && at + 1 < end && bytes[at + 1] === LF && this.#scanned <= 1) {
      this.#scanned = 0
      this.#pipe.consume(2)
      return at + 2
    }
    const length = end - at
    if (
      this.#scanned > 0 &&
      length < LARGEST_HEAD_BYTES &&
      !mayEndHead(bytes, at + this.#scanned, end, at)
    )
      return this.#headWaits(at, length)
    const read = bytes[at] === CR && length === 1 ? INCOMPLETE : head.parse(bytes, at, end)
    if (read === INCOMPLETE) return this.#headWaits(at, length)
    this.#scanned = 0
    if (read === BAD) {
      this.#pipe.consume(length)
      this.#refuse(head.problem ?? PROBLEM.requestLine)
      return end
    }
    this.#pipe.consume(read - at)
    this.#begin()
    return read
  }

  #headWaits(at: number, length: number): number {
    if (this.#scanned === 0) this.#context.deadlines.set(this.#wait, HEAD_MS)
    this.#scanned = length
    return at
  }

  #begin(): void {
    this.#context.deadlines.clear(this.#wait)
    this.#isHead = head.method === 'HEAD'
    this.#isOld = head.protocol === 'HTTP/1.0'
    this.#isLast = !head.isPersistent || this.#isDraining
    this.#takesTrailers = head.takesTrailers
    this.#isExpectant = head.isExpectant
    this.#left = head.bodyLength
    this.#skips = -1
    this.#untaken = 0
    this.#isAnswerBegun = false
    if (this.#left === CHUNKED) (this.#chunks ??= new ChunkedReader()).reset()
    const hasBody = this.#left !== 0
    this.#state = hasBody ? 'body' : 'answer'
    this.#exchange.begin(head, hasBody)
  }

  #readBody(bytes: Buffer, at: number, end: number): number {
    const to = Math.min(end, at + this.#left)
    this.#left -= to - at
    this.#payload(bytes, at, to)
    if (this.#left === 0) this.#bodyEnded(undefined)
    return to
  }

  #readChunks(bytes: Buffer, at: number, end: number): number {
    const chunks = (this.#chunks ??= new ChunkedReader())
    const read = chunks.read(bytes, at, end)
    if (read === BAD) {
      this.#pipe.consume(end - at)
      this.#badBody(chunks.problem ?? PROBLEM.chunk)
      return end
    }
    const { payloadStart, payloadEnd } = chunks
    this.#pipe.consume(read - at - (payloadEnd - payloadStart))
    this.#payload(bytes, payloadStart, payloadEnd)
    if (chunks.isDone) this.#bodyEnded(chunks.trailers)
    return read
  }

  #payload(bytes: Buffer, from: number, to: number): void {
    if (to === from) return
    this.#isExpectant = false
    this.#isBodyMoving = true
    if (this.#exchange.isRunning) {
      this.#untaken += to - from
      return this.#exchange.data(bytes, from, to)
    }
    this.#pipe.consume(to - from)
    this.#skips -= to - from
    if (this.#skips < 0 && this.#state === 'body') this.#close()
  }

  #bodyEnded(trailers: HeaderBlock | undefined): void {
    if (this.#state !== 'body') return
    this.#state = 'answer'
    this.#context.deadlines.clear(this.#wait)
    if (this.#exchange.isRunning) this.#exchange.requestEnd(trailers)
    else this.#next()
  }

  /** An answer begins: if the body is not here yet, the connection goes on only when the rest is short and sure to come. */
  #leaveBody(): void {
    if (this.#state === 'body' && (this.#isExpectant || this.#left > MOST_SKIPPED_BYTES))
      this.#isLast = true
    // The client is told while it can be, so that it sends no other request that would meet the end.
    if (this.#isDraining) this.#isLast = true
  }

  /** The answer is over. */
  #answered(): void {
    if (this.#state !== 'body' || this.#isLast) return this.#next()
    this.#skips = MOST_SKIPPED_BYTES
    this.#context.deadlines.set(this.#wait, HEAD_MS)
  }

  /** Both request and answer are over. */
  #next(): void {
    if (this.#state === 'over' || this.#state === 'closing') return
    if (this.#isLast || this.#isDraining) return this.#close()
    this.#state = 'head'
    this.#context.deadlines.set(this.#wait, IDLE_MS)
    if (!this.#isReading && !this.#isBlocked) this.#readKept()
  }

  /** What came is no request: whoever sent it hears why, and no more is read. */
  #refuse(problem: HttpProblem): void {
    this.#isLast = true
    this.#isHead = false
    this.#exchange.refused(head, problem.status, problem.text)
    this.answerHere(problemAnswer(problem))
  }

  #badBody(problem: HttpProblem): void {
    if (!this.#exchange.isRunning) return this.cut('clientReset')
    this.#isLast = true
    this.#exchange.badBody(problem)
  }

  #bytesEnded(): void {
    if (!this.#hasEnded || !this.#hasAnswerEnded) return
    this.#over()
    this.#exchange.bytesEnded()
  }

  /** Half-closes, and gives the client a while to do the same: bytes it has sent meanwhile would else reset what it has not read. */
  #close(): void {
    this.#pipe.end()
    this.#kept.clear()
    if (this.#hasEnded) return this.#over()
    this.#state = 'closing'
    this.#context.deadlines.set(this.#wait, LINGER_MS)
  }

  #waitedTooLong(): void {
    if (this.#state === 'closing') {
      this.#over()
      return this.#pipe.reset('ok')
    }
    if (this.#state === 'body' && this.#exchange.isRunning) return this.#lookAtBody()
    if (this.#state === 'head' && this.#kept.length > 0) return this.#refuseSlowHead()
    this.#close()
  }

  #refuseSlowHead(): void {
    const { bytes, start, end } = this.#kept
    // What there is of it: others have been read since.
    head.parse(bytes, start, end)
    this.#pipe.consume(end - start)
    this.#refuse(PROBLEM.slowHead)
  }

  /** Ends a request whose body has stopped, unless it is the app that takes nothing, or the client gets its answer meanwhile. */
  #lookAtBody(): void {
    const isStopped = !this.#isBodyMoving && this.#untaken === 0 && !this.#isAnswerBegun
    if (isStopped) return this.#badBody(PROBLEM.slowBody)
    this.#isBodyMoving = false
    this.#context.deadlines.set(this.#wait, BODY_MS)
  }

  #over(): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    this.#kept.clear()
    this.#context.deadlines.clear(this.#wait)
    this.#context.closed()
  }
}
