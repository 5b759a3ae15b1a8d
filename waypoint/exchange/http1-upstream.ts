// SPDX-License-Identifier: Apache-2.0
// A connection to an app that speaks HTTP/1.1: sends what an exchange has for it and reads the answer. One exchange at a time; between
// them it is its owner's. Hot: bench/http-exchange.ts watches it.

import { CHUNKED, UNTIL_CLOSE } from '../../mesh/http/http1/body-length.ts'
import { ChunkedReader } from '../../mesh/http/http1/chunked-reader.ts'
import { ChunkWriter } from '../../mesh/http/http1/head-writer.ts'
import { hasToken } from '../../mesh/http/http1/connection-options.ts'
import { KeptBytes } from '../../mesh/http/http1/kept-bytes.ts'
import { LARGEST_HEAD_BYTES } from '../../mesh/http/http1/limits.ts'
import { BAD, INCOMPLETE } from '../../mesh/http/http1/problem.ts'
import { Http1ResponseHead } from '../../mesh/http/http1/response-head.ts'
import { HEADER } from '../../mesh/http/header-names.ts'
import type { Fields } from '../../mesh/http/message.ts'
import type { Pipe, PipeSink } from '../../mesh/http/pipe.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import { Deadline, type DeadlineWheel } from './deadline-wheel.ts'
import { mayEndHead } from './head-end.ts'
import type { OutgoingRequest } from './outgoing-request.ts'
import type { ResponseFlag } from './types.ts'
import type { Upstream, UpstreamUser } from './upstream.ts'
import type { Endpoint, UpstreamConnection, UpstreamOwner } from './upstream-connection.ts'

/** After the last answer, for the far end to close. */
const LINGER_MS = 5_000

/** Before the final answer: they go on at once, whether or not the client reads, and so must not be many. */
const MOST_INTERIM = 64

/** One for the thread: it is read, routed by and written on within one call. */
const head = new Http1ResponseHead()

type State = 'idle' | 'head' | 'body' | 'bytes' | 'over'

export class Http1Upstream implements Upstream, UpstreamConnection, PipeSink {
  readonly endpoint: Endpoint
  isReused = false
  /** RFC 9112 9.3.1: a connection that closes says nothing of what was sent. */
  readonly mayRefuse = false
  readonly #pipe: Pipe
  readonly #owner: UpstreamOwner
  readonly #deadlines: DeadlineWheel
  #state: State = 'idle'
  #user: UpstreamUser | undefined
  #isToHead = false
  #maySwitch = false
  #isChunked = false
  #requestChunks: ChunkWriter | undefined
  #isRequestSent = false
  #interim = 0
  #hasAnswerBytes = false
  #isPersistent = true
  #hasEnded = false
  /** How long the app keeps it when it is idle, in milliseconds, where it says so. */
  keptForMs: number | undefined
  /** Of the body: bytes that are left, CHUNKED or UNTIL_CLOSE. */
  #left = 0
  #chunks: ChunkedReader | undefined
  readonly #kept = new KeptBytes()
  /** Of what is kept, bytes in which no end of the head was found. */
  #scanned = 0
  #linger: Deadline | undefined

  constructor(pipe: Pipe, endpoint: Endpoint, owner: UpstreamOwner, deadlines: DeadlineWheel) {
    this.#pipe = pipe
    this.endpoint = endpoint
    this.#owner = owner
    this.#deadlines = deadlines
    pipe.sink = this
  }

  get hasAnswerBytes(): boolean {
    return this.#hasAnswerBytes
  }

  begin(user: UpstreamUser, { isHead, isWebSocket, bodyLength, bytes }: OutgoingRequest): boolean {
    this.#user = user
    this.#state = 'head'
    this.#isToHead = isHead
    this.#maySwitch = isWebSocket
    this.#isChunked = bodyLength < 0
    if (this.#isChunked) this.#requestChunks?.reset()
    this.#isRequestSent = false
    this.#interim = 0
    this.#hasAnswerBytes = false
    return this.#pipe.write(bytes.bytes, bytes.start, bytes.end)
  }

  data(bytes: Buffer, from: number, to: number): boolean {
    return this.#isChunked
      ? this.#requestChunkWriter.data(bytes, from, to)
      : this.#pipe.write(bytes, from, to)
  }

  end(trailers: Fields | undefined): void {
    if (this.#isChunked && !this.#isRequestSent) this.#requestChunkWriter.end(trailers)
    this.#isRequestSent = true
    if (this.#state === 'bytes') this.#pipe.end()
  }

  credit(bytes: number): void {
    this.#pipe.consume(bytes)
  }

  cut(reason: EndReason): void {
    if (this.#state === 'over') return
    this.#user = undefined
    this.#state = 'over'
    this.#kept.clear()
    this.#clearLinger()
    this.#pipe.reset(reason)
    this.#owner.gone(this, reason)
  }

  receive(chunk: Buffer, from: number, to: number): void {
    if (this.#state === 'over') return this.#pipe.consume(to - from)
    // Nobody asked for it: whatever it is, no later request may take it for its answer (RFC 9112 9.2).
    if (this.#user === undefined) return this.cut('serverReset')
    this.#hasAnswerBytes = true
    if (this.#kept.length === 0) {
      const at = this.#run(chunk, from, to)
      if (at < to && this.#user !== undefined) this.#kept.append(chunk, at, to)
      return
    }
    this.#kept.append(chunk, from, to)
    const { bytes, start, end } = this.#kept
    const at = this.#run(bytes, start, end)
    if (this.#kept.length > 0) this.#kept.drop(at - start)
  }

  ended(): void {
    if (this.#state === 'over') {
      this.#clearLinger()
      return
    }
    if (this.#user === undefined) return this.#leave('serverReset', true)
    if (this.#state === 'bytes') return this.#user.onAnswerEnd(undefined)
    if (this.#state === 'body' && this.#left === UNTIL_CLOSE) {
      this.#isPersistent = false
      this.#hasEnded = true
      return this.#finish(undefined, true)
    }
    this.#fail(
      'UC',
      'serverReset',
      'the server closed the connection before its answer was complete',
    )
  }

  broken(reason: EndReason): void {
    if (this.#state === 'over') return this.#clearLinger()
    const user = this.#user
    this.#user = undefined
    this.#state = 'over'
    this.#kept.clear()
    this.#owner.gone(this, reason)
    user?.onFailed('UC', reason, undefined, false)
  }

  drained(): void {
    this.#user?.onRoom()
  }

  get #requestChunkWriter(): ChunkWriter {
    return (this.#requestChunks ??= new ChunkWriter((bytes, from, to) =>
      this.#pipe.write(bytes, from, to),
    ))
  }

  /** Reads what is there; gives the offset of what has to wait for more. */
  #run(bytes: Buffer, start: number, end: number): number {
    let at = start
    while (at < end && this.#user !== undefined) {
      if (this.#state === 'head') {
        const read = this.#readHead(bytes, at, end)
        if (read === INCOMPLETE) return at
        if (read === BAD) return end
        at = read
      } else if (this.#state === 'body') at = this.#readBody(bytes, at, end)
      else {
        this.#user.onAnswerData(bytes, at, end)
        return end
      }
    }
    return at
  }

  #readHead(bytes: Buffer, at: number, end: number): number {
    const length = end - at
    if (
      this.#scanned > 0 &&
      length < LARGEST_HEAD_BYTES &&
      !mayEndHead(bytes, at + this.#scanned, end, at)
    )
      return this.#incomplete(length)
    const read = head.parse(bytes, at, end, this.#isToHead)
    if (read === INCOMPLETE) return this.#incomplete(length)
    this.#scanned = 0
    if (read === BAD) {
      this.#fail('UPE', 'serverReset', head.problem?.text)
      return BAD
    }
    this.#pipe.consume(read - at)
    const user = this.#user
    if (head.status === 101) {
      if (!this.#maySwitch || !hasToken(head.block, HEADER.upgrade, 'websocket')) {
        this.#fail('UPE', 'serverReset', 'the server switches to a protocol that nobody asked for')
        return BAD
      }
      this.#state = 'bytes'
      user?.onSwitch(head)
    } else if (head.status < 200) {
      this.#interim += 1
      if (this.#interim > MOST_INTERIM) {
        this.#fail('UPE', 'serverReset', 'the server sends interim answers without end')
        return BAD
      }
      user?.onInterim(head)
    } else {
      this.#isPersistent = head.isPersistent
      this.keptForMs = keepAliveMs(head.value(HEADER.keepAlive))
      this.#left = head.bodyLength
      if (this.#left === CHUNKED) (this.#chunks ??= new ChunkedReader()).reset()
      this.#state = 'body'
      user?.onAnswer(head)
      if (this.#left === 0 && this.#user !== undefined) this.#finish(undefined, read === end)
    }
    return read
  }

  #incomplete(length: number): number {
    this.#scanned = length
    return INCOMPLETE
  }

  #readBody(bytes: Buffer, at: number, end: number): number {
    if (this.#left === CHUNKED) return this.#readChunks(bytes, at, end)
    const to = this.#left === UNTIL_CLOSE ? end : Math.min(end, at + this.#left)
    if (this.#left !== UNTIL_CLOSE) this.#left -= to - at
    this.#user?.onAnswerData(bytes, at, to)
    if (this.#left === 0 && this.#user !== undefined) this.#finish(undefined, to === end)
    return to
  }

  #readChunks(bytes: Buffer, at: number, end: number): number {
    const chunks = (this.#chunks ??= new ChunkedReader())
    const read = chunks.read(bytes, at, end)
    if (read === BAD) {
      this.#fail('UPE', 'serverReset', chunks.problem?.text)
      return end
    }
    const { payloadStart, payloadEnd } = chunks
    this.#pipe.consume(read - at - (payloadEnd - payloadStart))
    if (payloadEnd > payloadStart) this.#user?.onAnswerData(bytes, payloadStart, payloadEnd)
    if (chunks.isDone && this.#user !== undefined) this.#finish(chunks.trailers, read === end)
    return read
  }

  /** The answer is complete. `isClean`: nothing came behind it. */
  #finish(trailers: Fields | undefined, isClean: boolean): void {
    const user = this.#user
    this.#user = undefined
    this.#kept.clear()
    if (isClean && this.#isPersistent && this.#isRequestSent) {
      this.#state = 'idle'
      this.isReused = true
      this.#owner.idle(this)
    } else if (isClean && this.#isRequestSent) this.#leave('ok', this.#hasEnded)
    else this.cut('ok')
    user?.onAnswerEnd(trailers)
  }

  /** Closes in peace: the far end is given a while to do the same. */
  #leave(reason: EndReason, hasEnded: boolean): void {
    this.#state = 'over'
    this.#pipe.end()
    if (!hasEnded) {
      this.#linger = new Deadline(() => this.#pipe.reset('ok'))
      this.#deadlines.set(this.#linger, LINGER_MS)
    }
    this.#owner.gone(this, reason)
  }

  #fail(flag: ResponseFlag, reason: EndReason, message: string | undefined): void {
    const user = this.#user
    this.cut(reason)
    user?.onFailed(flag, reason, message, false)
  }

  #clearLinger(): void {
    if (this.#linger !== undefined) this.#deadlines.clear(this.#linger)
  }
}

/** What Keep-Alive says of the time (RFC 2068 19.7.1.1, as servers write it still); undefined: nothing. */
function keepAliveMs(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const [, seconds] = /(?:^|[,\s])timeout=(\d{1,6})(?:$|[,\s])/i.exec(text) ?? []
  return seconds === undefined ? undefined : Number(seconds) * 1_000
}
