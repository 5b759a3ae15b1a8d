// SPDX-License-Identifier: Apache-2.0
// A stream to an app that speaks HTTP/2: sends what an exchange has for it and reads the answer. For one exchange; other streams of the
// same connection are other exchanges'. Hot.

import { FieldList } from '../../mesh/http/field-list.ts'
import { fieldsProblem } from '../../mesh/http/http2/check-fields.ts'
import { Http2ResponseHead } from '../../mesh/http/http2/response-head.ts'
import { trailerFields } from '../../mesh/http/http2/write-head.ts'
import type { Fields } from '../../mesh/http/message.ts'
import type { H2Connection } from '../../mesh/http2/connection.ts'
import type { HeaderList } from '../../mesh/http2/hpack.ts'
import { H2_CODE } from '../../mesh/http2/protocol.ts'
import type { H2Stream, StreamSink } from '../../mesh/http2/stream.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { OutgoingRequest } from './outgoing-request.ts'
import type { ResponseFlag } from './types.ts'
import type { Upstream, UpstreamUser } from './upstream.ts'
import type { Endpoint } from './upstream-connection.ts'

/** As with HTTP/1.1: they go on at once, whether or not the client reads. */
const MOST_INTERIM = 64

/** One for the thread: it is read, routed by and written on within one call. */
const head = new Http2ResponseHead()

export interface Http2UpstreamOptions {
  readonly connection: Pick<H2Connection, 'openStream'>
  readonly endpoint: Endpoint
  /** The connection had a stream before. */
  readonly isReused: boolean
  /** The stream is over. */
  readonly onClosed: () => void
}

export class Http2Upstream implements Upstream, StreamSink {
  readonly endpoint: Endpoint
  readonly isReused: boolean
  /** RFC 9113 8.7: by REFUSED_STREAM, or by GOAWAY. */
  readonly mayRefuse = true
  readonly #options: Http2UpstreamOptions
  #user: UpstreamUser | undefined
  #stream: H2Stream | undefined
  #isToHead = false
  #hasAnswer = false
  #interim = 0
  /** Bytes of the answer's body that are to come; below 0: unknown. */
  #left = -1
  #trailers: FieldList | undefined
  /** What breaks within a call to us is told after it. */
  #isCalled = false

  constructor(options: Http2UpstreamOptions) {
    this.#options = options
    this.endpoint = options.endpoint
    this.isReused = options.isReused
  }

  get hasAnswerBytes(): boolean {
    return this.#hasAnswer || this.#interim > 0
  }

  begin(user: UpstreamUser, { isHead, hasBody, fields }: OutgoingRequest): boolean {
    this.#user = user
    this.#isToHead = isHead
    this.#stream = this.#options.connection.openStream(fields, this, !hasBody)
    return true
  }

  data(bytes: Buffer, from: number, to: number): boolean {
    const stream = this.#stream
    if (stream === undefined) return true
    this.#isCalled = true
    const isWhole = from === 0 && to === bytes.length
    const hasRoom = stream.write(isWhole ? bytes : bytes.subarray(from, to), true)
    this.#isCalled = false
    return hasRoom
  }

  end(trailers: Fields | undefined): void {
    this.#stream?.end(trailerFields(trailers))
  }

  credit(bytes: number): void {
    this.#stream?.consume(bytes)
  }

  cut(): void {
    this.#user = undefined
    this.#stream?.reset(H2_CODE.cancel)
  }

  onInterim(headers: HeaderList): void {
    const user = this.#user
    if (user === undefined) return
    this.#interim += 1
    if (this.#interim > MOST_INTERIM)
      return this.#malformed('the server sends interim answers without end')
    const problem = head.parse(headers, this.#isToHead, false)
    if (problem !== undefined) return this.#malformed(problem)
    user.onInterim(head)
    head.forget()
  }

  onHeaders(headers: HeaderList, isTooLarge: boolean, isEnd: boolean): void {
    const user = this.#user
    if (user === undefined) return
    if (isTooLarge) return this.#malformed('the headers of the answer are too large')
    const problem = head.parse(headers, this.#isToHead, isEnd)
    if (problem !== undefined) return this.#malformed(problem)
    this.#hasAnswer = true
    this.#left = head.bodyLength
    user.onAnswer(head)
    head.forget()
  }

  onData(chunk: Buffer): boolean {
    const { length } = chunk
    if (this.#user === undefined) this.#stream?.consume(length)
    else if (this.#left >= 0 && length > this.#left)
      this.#malformed('the content is longer than its length')
    else {
      if (this.#left >= 0) this.#left -= length
      this.#user.onAnswerData(chunk, 0, length)
    }
    return false
  }

  onTrailers(headers: HeaderList, isTooLarge: boolean): void {
    const problem = isTooLarge ? 'the trailers are too large' : fieldsProblem(headers, 0)
    if (problem !== undefined) return this.#malformed(problem)
    this.#trailers = new FieldList(headers)
  }

  onEnd(): void {
    const user = this.#user
    if (user === undefined) return
    if (this.#left > 0) return this.#malformed('the content is shorter than its length')
    this.#user = undefined
    user.onAnswerEnd(this.#trailers)
    // Nobody waits for the rest of a request that is answered.
    if (this.#stream?.isEndQueued === false) this.#stream.reset(H2_CODE.noError)
  }

  onReset(code: number, isUnprocessed: boolean): boolean {
    const user = this.#user
    this.#user = undefined
    if (user === undefined) return false
    const [flag, reason] = meaningOf(code)
    // RFC 9113 8.7: a connection that just ends says nothing of what was done.
    const isRefused = isUnprocessed && code === H2_CODE.refusedStream
    const tell = (): void => user.onFailed(flag, reason, undefined, isRefused)
    if (this.#isCalled) queueMicrotask(tell)
    else tell()
    return false
  }

  onWritable(): void {
    this.#user?.onRoom()
  }

  onClosed(): void {
    this.#options.onClosed()
  }

  #malformed(message: string): void {
    const user = this.#user
    this.#user = undefined
    this.#stream?.reset(H2_CODE.protocolError)
    user?.onFailed('UPE', 'serverReset', message, false)
  }
}

/** Why a stream broke: its connection ended, memory is short here, or the app reset it. */
function meaningOf(code: number): readonly [ResponseFlag, EndReason] {
  if (code === CONNECTION_ENDED) return ['UC', 'serverReset']
  if (code === H2_CODE.enhanceYourCalm) return ['UC', 'tooManyUnreadBytes']
  return ['UR', 'serverReset']
}

/** What the streams of a connection hear when it ends under them; no code of the protocol. */
export const CONNECTION_ENDED = -1
