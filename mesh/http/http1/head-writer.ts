// SPDX-License-Identifier: Apache-2.0
// Writes heads for the next hop: lines that stay are copied in runs as they came, those of this hop are left out, and the edits of the
// route come last. What came by HTTP/2 has no lines, and is written field by field. Into one buffer of the thread, from which a pipe
// copies at once. Hot: bench/http-exchange.ts watches it.

import { http } from '../../node-http.ts'
import { dateLine } from '../date.ts'
import type { HeaderEdits } from '../header-edits.ts'
import { HEADER, LAST_FIXED_ID } from '../header-names.ts'
import type { Fields, RequestMessage, ResponseMessage } from '../message.ts'
import {
  eachPassing,
  eachPassingTrailer,
  lacksDate,
  OF_THE_HOP as HOP_NAMES,
} from '../passing-fields.ts'
import type { HeaderBlock } from './header-block.ts'
import { LARGEST_HEAD_BYTES } from './limits.ts'
import { Http1RequestHead } from './request-head.ts'
import { Http1ResponseHead } from './response-head.ts'

/** Beside the copied lines: target and host that are longer than they were, edits, and the lines of the hop. */
const BESIDE_BYTES = 1024

const VERSION_END = Buffer.from(' HTTP/1.1\r\n')
const VERSION = Buffer.from('HTTP/1.1')
const LINE_END = Buffer.from('\r\n')
const HOST = Buffer.from('host: ')
const CHUNKED_LINE = Buffer.from('transfer-encoding: chunked\r\n')
const CLOSE_LINE = Buffer.from('connection: close\r\n')
const COLON = Buffer.from(': ')
const KEEP_ALIVE_LINE = Buffer.from('connection: keep-alive\r\n')
const TRAILERS_LINES = Buffer.from('te: trailers\r\nconnection: te\r\n')
const WEBSOCKET_LINES = Buffer.from('connection: upgrade\r\nupgrade: websocket\r\n')

/** Fields that are written anew or go no further than this hop. */
const OF_THE_HOP = idsOf(HOP_NAMES)
const OF_THE_HOP_AND_HOST = idsOf([HEADER.host], OF_THE_HOP)
const OF_THE_HOP_AND_LENGTH = idsOf([HEADER.contentLength], OF_THE_HOP)

/** RFC 9110 8.6: a server takes a request of these for one whose body is yet to come, where nothing says that there is none. */
const EXPECTS_BODY: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH'])

/** What was written last: valid until the next head is. */
export class HeadWriter {
  bytes: Buffer = Buffer.allocUnsafeSlow(LARGEST_HEAD_BYTES + BESIDE_BYTES)
  length = 0

  /** A request as it goes on; target and authority as given. */
  request(
    head: RequestMessage,
    target: string,
    authority: string,
    edits: HeaderEdits | undefined,
  ): void {
    if (!(head instanceof Http1RequestHead))
      return this.#translateRequest(head, target, authority, edits)
    const { block } = head
    this.#begin(block, edits, target.length + authority.length + head.method.length)
    this.#requestLine(head.method, target)
    const isSameHost = authority === block.value(HEADER.host)
    if (!isSameHost) {
      this.#copy(HOST)
      this.#text(authority)
      this.#copy(LINE_END)
    }
    this.#fields(
      block,
      isSameHost ? OF_THE_HOP : OF_THE_HOP_AND_HOST,
      head.options.nominated,
      edits,
    )
    if (head.isWebSocket) this.#copy(WEBSOCKET_LINES)
    else if (head.takesTrailers) this.#copy(TRAILERS_LINES)
    if (head.bodyLength < 0) this.#copy(CHUNKED_LINE)
    this.#end(edits)
  }

  /** An answer as it goes on: its body chunked, by length or until the end, and the connection goes on or not. */
  response(
    head: ResponseMessage,
    hop: ResponseHop,
    edits: HeaderEdits | undefined,
    isToHead: boolean,
  ): void {
    if (!(head instanceof Http1ResponseHead))
      return this.#translateResponse(head, hop, edits, isToHead)
    const { block } = head
    this.#begin(block, edits, block.start - head.statusStart)
    this.#copy(VERSION)
    const isBare = isBareStatus(head.status)
    // RFC 9112 4: the blank before a reason is there, though no reason is.
    if (head.isTerse) this.#text(` ${head.status} \r\n`)
    else this.length += block.bytes.copy(this.bytes, this.length, head.statusStart, block.start)
    // RFC 9110 8.6: these have no Content-Length; what claims to have one would be misread by somebody.
    const left = isBare ? OF_THE_HOP_AND_LENGTH : OF_THE_HOP
    this.#fields(block, left, head.options.nominated, edits)
    if (block.firstOf(HEADER.date) < 0 && lacksDate(head, edits)) this.#copy(dateLine())
    this.#hopLines(hop)
    this.#end(edits)
  }

  #translateRequest(
    head: RequestMessage,
    target: string,
    authority: string,
    edits: HeaderEdits | undefined,
  ): void {
    this.#make(
      sizeOf(head) + target.length + authority.length + head.method.length + sizeOfEdits(edits),
    )
    this.#requestLine(head.method, target)
    this.#field('host', authority)
    eachPassing(head, edits, this.#write)
    if (head.takesTrailers) this.#copy(TRAILERS_LINES)
    if (head.bodyLength < 0) this.#copy(CHUNKED_LINE)
    else if (
      head.bodyLength === 0 &&
      EXPECTS_BODY.has(head.method) &&
      head.value(HEADER.contentLength) === undefined
    )
      this.#field('content-length', '0')
    this.#copy(LINE_END)
  }

  #translateResponse(
    head: ResponseMessage,
    hop: ResponseHop,
    edits: HeaderEdits | undefined,
    isToHead: boolean,
  ): void {
    const { status } = head
    this.#make(sizeOf(head) + sizeOfEdits(edits))
    this.#copy(VERSION)
    this.#text(` ${status} ${http.STATUS_CODES[status] ?? ''}`)
    this.#copy(LINE_END)
    const isBare = isBareStatus(status)
    eachPassing(head, edits, isBare ? this.#writeButLength : this.#write)
    // Where HTTP/2 ended with the head, a reader of HTTP/1.1 would wait for a body.
    const isSilent = head.bodyLength === 0 && head.value(HEADER.contentLength) === undefined
    if (isSilent && !isBare && !isToHead && status !== 304) this.#field('content-length', '0')
    if (head.value(HEADER.date) === undefined && lacksDate(head, edits)) this.#copy(dateLine())
    this.#hopLines(hop)
    this.#copy(LINE_END)
  }

  readonly #write = (name: string, value: string): void => this.#field(name, value)

  readonly #writeButLength = (name: string, value: string): void => {
    if (name !== HEADER.contentLength.text) this.#field(name, value)
  }

  #field(name: string, value: string): void {
    this.#text(name)
    this.#copy(COLON)
    this.#text(value)
    this.#copy(LINE_END)
  }

  #requestLine(method: string, target: string): void {
    this.#text(method)
    this.bytes[this.length] = 0x20
    this.length += 1
    this.#text(target)
    this.#copy(VERSION_END)
  }

  #hopLines(hop: ResponseHop): void {
    if (hop === 'websocket') this.#copy(WEBSOCKET_LINES)
    else if (hop === 'chunked' || hop === 'chunkedLast') this.#copy(CHUNKED_LINE)
    if (hop === 'last' || hop === 'chunkedLast') this.#copy(CLOSE_LINE)
    else if (hop === 'keepAlive') this.#copy(KEEP_ALIVE_LINE)
  }

  #begin(block: HeaderBlock, edits: HeaderEdits | undefined, beside: number): void {
    this.#make(block.end - block.start + beside + sizeOfEdits(edits))
  }

  #make(bytes: number): void {
    this.length = 0
    const most = bytes + BESIDE_BYTES
    if (most > this.bytes.length) this.bytes = Buffer.allocUnsafeSlow(2 * most)
  }

  #end(edits: HeaderEdits | undefined): void {
    if (edits !== undefined) this.#copy(edits.lines)
    this.#copy(LINE_END)
  }

  #fields(
    block: HeaderBlock,
    left: Uint8Array,
    nominated: readonly string[],
    edits: HeaderEdits | undefined,
  ): void {
    const { bytes, count } = block
    let run = block.start
    for (let index = 0; index < count; index += 1) {
      const id = block.idAt(index)
      const isLeft =
        (id !== 0 && id <= LAST_FIXED_ID && left[id] === 1) ||
        (edits !== undefined && edits.dropped.length > 0 && isDropped(block, index, edits)) ||
        (nominated.length > 0 && nominated.includes(block.nameAt(index)))
      if (!isLeft) continue
      this.#lines(bytes, run, block.lineStart(index))
      run = block.lineEnd(index)
    }
    this.#lines(bytes, run, block.end)
  }

  #lines(bytes: Buffer, from: number, to: number): void {
    if (to > from) this.length += bytes.copy(this.bytes, this.length, from, to)
  }

  #copy(bytes: Buffer): void {
    this.length += bytes.copy(this.bytes, this.length)
  }

  #text(text: string): void {
    this.length += this.bytes.write(text, this.length, 'latin1')
  }
}

/** How an answer ends, as the client hears of it. */
export type ResponseHop = 'plain' | 'chunked' | 'last' | 'chunkedLast' | 'keepAlive' | 'websocket'

function isDropped(block: HeaderBlock, index: number, { dropped }: HeaderEdits): boolean {
  for (let at = 0; at < dropped.length; at += 1) {
    const name = dropped[at]
    if (name !== undefined && block.isNamed(index, name)) return true
  }
  return false
}

function isBareStatus(status: number): boolean {
  return status < 200 || status === 204
}

function sizeOfEdits(edits: HeaderEdits | undefined): number {
  return edits?.lines.length ?? 0
}

/** Bytes that the lines of all fields take. */
function sizeOf(head: Fields): number {
  let bytes = 0
  head.each((name, value) => {
    bytes += name.length + value.length + COLON.length + LINE_END.length
  })
  return bytes
}

function idsOf(names: readonly { readonly id: number }[], also?: Uint8Array): Uint8Array {
  const ids = Uint8Array.from(also ?? new Uint8Array(LAST_FIXED_ID + 1))
  for (const { id } of names) ids[id] = 1
  return ids
}

/** Frames payload as chunks. */
export class ChunkWriter {
  readonly #line = Buffer.allocUnsafeSlow(20)
  readonly #sink: (bytes: Buffer, from: number, to: number) => boolean
  #isFirst = true

  constructor(sink: (bytes: Buffer, from: number, to: number) => boolean) {
    this.#sink = sink
  }

  reset(): void {
    this.#isFirst = true
  }

  /** One chunk, without its closing line end, which comes with the next. */
  data(bytes: Buffer, from: number, to: number): boolean {
    if (to === from) return true
    const length = this.#line.write(
      `${this.#isFirst ? '' : '\r\n'}${(to - from).toString(16)}\r\n`,
      'latin1',
    )
    this.#isFirst = false
    this.#sink(this.#line, 0, length)
    return this.#sink(bytes, from, to)
  }

  /** The last chunk and the trailers. */
  end(trailers: Fields | undefined): boolean {
    const last = this.#isFirst ? LAST_CHUNK_ALONE : LAST_CHUNK
    this.#sink(last, 0, last.length)
    if (trailers !== undefined)
      eachPassingTrailer(trailers, (name, value) => {
        const line = Buffer.from(`${name}: ${value}\r\n`, 'latin1')
        this.#sink(line, 0, line.length)
      })
    return this.#sink(LINE_END, 0, LINE_END.length)
  }
}

const LAST_CHUNK = Buffer.from('\r\n0\r\n')
const LAST_CHUNK_ALONE = Buffer.from('0\r\n')
