// SPDX-License-Identifier: Apache-2.0
// As much of SPDY/3.1 as kubectl speaks inside of a WebSocket for port forwarding: the server's side of streams that the client
// opens. Without flow control, which kubectl's side does not have either: who reads slowly slows the WebSocket.

import { constants, createDeflate, createInflate } from 'node:zlib'

const TYPE = { synStream: 1, synReply: 2, rstStream: 3, ping: 6, goAway: 7 } as const
const CONTROL = 0x8000
const VERSION = 3
const FLAG_FIN = 1
const FRAME_HEADER_BYTES = 8
/** Of a SYN_STREAM before its headers: stream, associated stream, priority, slot. */
const SYN_STREAM_BYTES = 10
const STREAM_ID = 0x7fffffff
/** kubectl sends pieces of 32 KiB; this only bounds what a hostile client can make us hold. */
const MAX_FRAME_BYTES = 1024 * 1024
/** What the headers of one stream may be, inflated; and how many streams there may be at once. */
const MAX_HEADER_BYTES = 16 * 1024
const MAX_STREAMS = 1_000

/** draft-mbelshe-httpbis-spdy-00, 2.6.10.1: names and values that the compression of headers begins with. */
const DICTIONARY_WORDS =
  'options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|content-language|content-length|content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|keep-alive|origin'
const DICTIONARY_REST =
  '100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.'
const DICTIONARY = Buffer.concat([
  ...DICTIONARY_WORDS.split('|').flatMap((word) => [uint32(word.length), Buffer.from(word)]),
  Buffer.from(DICTIONARY_REST),
])

/** A stream that the client opened. Handlers are set as soon as it is told of. */
export interface SpdyStream {
  readonly headers: ReadonlyMap<string, string>
  onData: (data: Buffer) => void
  /** The client has said all, or has given up. */
  onEnd: () => void
  /** Sends; false when the caller should wait for the carrier before the next. */
  write(data: Buffer): boolean
  /** We have said all. */
  end(): void
}

/** The server's side of one SPDY session. */
export class SpdySession {
  onStream: (stream: SpdyStream) => void = () => undefined
  /** The client speaks something else, or too much. */
  onInvalid: (reason: string) => void = () => undefined
  readonly #send: (bytes: Buffer) => boolean
  readonly #streams = new Map<number, SpdyStream>()
  readonly #inflate = createInflate({ dictionary: DICTIONARY })
  readonly #deflate = createDeflate({ dictionary: DICTIONARY })
  #buffer: Buffer = Buffer.alloc(0)
  /** Frames wait for the headers of those before: they are inflated beside. */
  #handled: Promise<void> = Promise.resolve()
  #isBroken = false

  constructor(send: (bytes: Buffer) => boolean) {
    this.#send = send
    // What is not deflated is told to whoever waits for it.
    this.#inflate.on('error', () => undefined)
  }

  /** Takes what came from the client. */
  receive(chunk: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk])
    while (this.#buffer.length >= FRAME_HEADER_BYTES && !this.#isBroken) {
      const length = this.#buffer.readUIntBE(5, 3)
      if (length > MAX_FRAME_BYTES) return this.#break(`a frame of ${length} bytes`)
      const whole = FRAME_HEADER_BYTES + length
      if (this.#buffer.length < whole) return
      const frame = this.#buffer.subarray(0, whole)
      this.#buffer = this.#buffer.subarray(whole)
      this.#handled = this.#handled.then(() => (this.#isBroken ? undefined : this.#handle(frame)))
    }
  }

  /** The carrier is gone: every stream ends. */
  close(): void {
    this.#isBroken = true
    this.#inflate.close()
    this.#deflate.close()
    for (const stream of this.#streams.values()) stream.onEnd()
    this.#streams.clear()
  }

  async #handle(frame: Buffer): Promise<void> {
    const first = frame.readUInt16BE(0)
    const flags = frame.readUInt8(4)
    const body = frame.subarray(FRAME_HEADER_BYTES)
    if ((first & CONTROL) === 0) {
      const stream = this.#streams.get(frame.readUInt32BE(0) & STREAM_ID)
      if (body.length > 0) stream?.onData(body)
      if ((flags & FLAG_FIN) !== 0) stream?.onEnd()
      return
    }
    if ((first & ~CONTROL) !== VERSION) return this.#break('not SPDY/3')
    switch (frame.readUInt16BE(2)) {
      case TYPE.synStream:
        return await this.#open(flags, body)
      case TYPE.rstStream: {
        if (body.length < 4) return this.#break('a RST_STREAM without a stream')
        const id = body.readUInt32BE(0) & STREAM_ID
        this.#streams.get(id)?.onEnd()
        this.#streams.delete(id)
        return
      }
      case TYPE.ping:
        this.#send(control(TYPE.ping, 0, body))
        return
      default:
        // SETTINGS, GOAWAY, HEADERS and WINDOW_UPDATE ask for nothing here.
        return
    }
  }

  async #open(flags: number, body: Buffer): Promise<void> {
    if (body.length < SYN_STREAM_BYTES) return this.#break('a SYN_STREAM without a stream')
    if (this.#streams.size >= MAX_STREAMS) return this.#break('too many streams')
    const id = body.readUInt32BE(0) & STREAM_ID
    const headers = readHeaders(await this.#inflated(body.subarray(SYN_STREAM_BYTES)))
    if (headers === undefined) return this.#break('headers that cannot be read')
    const stream: SpdyStream = {
      headers,
      onData: () => undefined,
      onEnd: () => undefined,
      write: (data) => this.#isBroken || this.#send(dataFrame(id, 0, data)),
      end: () => {
        if (!this.#isBroken) this.#send(dataFrame(id, FLAG_FIN, Buffer.alloc(0)))
        this.#streams.delete(id)
      },
    }
    this.#streams.set(id, stream)
    const noHeaders = await this.#deflated(uint32(0))
    if (this.#isBroken) return
    this.#send(control(TYPE.synReply, 0, Buffer.concat([uint32(id), noHeaders])))
    this.onStream(stream)
    if ((flags & FLAG_FIN) !== 0) stream.onEnd()
  }

  /** The blocks of a session are one compressed stream, flushed after each. */
  #inflated(block: Buffer): Promise<Buffer> {
    return through(this.#inflate, (done) => this.#inflate.write(block, done))
  }

  #deflated(block: Buffer): Promise<Buffer> {
    return through(this.#deflate, (done) => {
      this.#deflate.write(block)
      this.#deflate.flush(constants.Z_SYNC_FLUSH, done)
    })
  }

  #break(reason: string): void {
    if (this.#isBroken) return
    this.close()
    this.onInvalid(reason)
  }
}

/** What comes out of a compressor for what is put in; empty when it fails, or more comes than headers may have. */
function through(coder: NodeJS.EventEmitter, put: (done: () => void) => unknown): Promise<Buffer> {
  const pieces: Buffer[] = []
  let size = 0
  return new Promise((resolve) => {
    const finish = (): void => {
      coder.off('data', onData)
      coder.off('error', finish)
      coder.off('close', finish)
      resolve(size > MAX_HEADER_BYTES ? Buffer.alloc(0) : Buffer.concat(pieces))
    }
    const onData = (piece: Buffer): void => {
      size += piece.length
      if (size <= MAX_HEADER_BYTES) pieces.push(piece)
    }
    coder.on('data', onData)
    coder.once('error', finish)
    coder.once('close', finish)
    put(finish)
  })
}

/** Names are in lower case; undefined when the block does not hold what it says. */
function readHeaders(block: Buffer): ReadonlyMap<string, string> | undefined {
  let at = 0
  const number = (): number | undefined => {
    if (at + 4 > block.length) return undefined
    at += 4
    return block.readUInt32BE(at - 4)
  }
  const text = (): string | undefined => {
    const length = number()
    if (length === undefined || at + length > block.length) return undefined
    at += length
    return block.toString('utf8', at - length, at)
  }
  const count = number()
  if (count === undefined) return undefined
  const headers = new Map<string, string>()
  for (let read = 0; read < count; read += 1) {
    const [name, value] = [text(), text()]
    if (name === undefined || value === undefined) return undefined
    headers.set(name.toLowerCase(), value)
  }
  return headers
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function control(type: number, flags: number, body: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_HEADER_BYTES)
  head.writeUInt16BE(CONTROL | VERSION, 0)
  head.writeUInt16BE(type, 2)
  head.writeUInt8(flags, 4)
  head.writeUIntBE(body.length, 5, 3)
  return Buffer.concat([head, body])
}

function dataFrame(id: number, flags: number, data: Buffer): Buffer {
  const head = Buffer.alloc(FRAME_HEADER_BYTES)
  head.writeUInt32BE(id, 0)
  head.writeUInt8(flags, 4)
  head.writeUIntBE(data.length, 5, 3)
  return Buffer.concat([head, data])
}
