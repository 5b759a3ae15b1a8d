// SPDX-License-Identifier: Apache-2.0
// One HTTP/2 connection (RFC 9113), either role, as far as CONNECT tunnels need it: no push, no priorities.
// Every frame is checked; whoever breaks the protocol or floods us gets GOAWAY and is cut.
// Why not node:http2: against two haproxy TLS relays on the same path it did 0.93 to 1.09 times the requests per
// relay CPU second at 64 connections and 0.48 to 0.73 times the bulk; this engine 1.8 to 2.4 and 1.0 to 1.1
// (bench/hbone-relays.ts, medians on two shared cores).
// It is long because the frame types share one state; what could stand alone does (stream, output, reader, budget).

import type { TLSSocket } from 'node:tls'
import { TLS_READ_BYTES, readInPlace } from '../relay/read-in-place.ts'
import { type H2Account, type H2Accounts, connectionAccounts } from './budget.ts'
import { type FrameHandler, FrameReader } from './frame-reader.ts'
import { type HeaderList, HpackDecoder, encodeHeaders } from './hpack.ts'
import type { HeldMemory } from './held-memory.ts'
import { FrameOutput } from './output.ts'
import {
  DEFAULT_MAX_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  FLAG,
  FRAME,
  H2ConnectionError,
  H2_CODE,
  LARGEST_MAX_FRAME_BYTES,
  LARGEST_STREAM_ID,
  LARGEST_WINDOW_BYTES,
  PREFACE,
  SETTING,
} from './protocol.ts'
import { ReceiveWindow } from './receive-window.ts'
import type { H2Settings } from './settings.ts'
import { H2Stream, type StreamHost, type StreamSink } from './stream.ts'

/** Unwritten output above which no DATA is added: one good TLS write, and little to wait behind for the next stream. */
const OUTPUT_FULL_BYTES = 256 * 1024
/** Unwritten output that only a peer can cause who makes us answer and never reads. */
const OUTPUT_FLOOD_BYTES = OUTPUT_FULL_BYTES + 1024 * 1024
/** The largest DATA frame we send: beyond it a header weighs nothing, and other streams wait too long. */
const LARGEST_DATA_BYTES = 64 * 1024
/** A peer may split its header block in many frames, but not so many that counting them is the attack. */
const MOST_CONTINUATIONS = 16
/** How long we wait for the peer to read our GOAWAY before the socket is cut. */
const LINGER_MS = 1_000
/** How long a draining server waits for the PING that marks a round trip before it names the last stream. */
const DRAIN_ROUND_TRIP_MS = 1_000
const SETTING_BYTES = 6
const PING_BYTES = 8
const PING_KEEPALIVE = 0
const PING_DRAIN = 1

export interface ConnectionClosed {
  /** The HTTP/2 code we or the peer gave; noError when it simply ended. */
  readonly code: number
  readonly message: string
  /** Whether the peer misbehaved. */
  readonly isPeerFault: boolean
  /** Whether SETTINGS had been exchanged. */
  readonly wasReady: boolean
}

export interface H2ConnectionOptions {
  readonly role: 'client' | 'server'
  readonly socket: TLSSocket
  readonly settings: H2Settings
  /** Time left for the peer's first SETTINGS. */
  readonly settingsDeadlineMs: number
  readonly pingIntervalMs: number
  readonly pingTimeoutMs: number
  /** Who pays first when what it holds is too much: the pod served. */
  readonly owner?: string
  /** The account of what all connections of the thread hold. */
  readonly memory: HeldMemory
  /** Who pays for nuisance; fresh accounts when absent. One that outlives the connection makes reconnecting useless. */
  readonly accounts?: Partial<H2Accounts>
  /** The peer's first SETTINGS came. */
  readonly onReady: () => void
  /** Server: a request. The stream's sink must be set before returning. */
  readonly onRequest: (stream: H2Stream, headers: HeaderList, isTooLarge: boolean) => void
  readonly onStreamClosed: () => void
  /** Once, after every stream heard of it. */
  readonly onClosed: (closed: ConnectionClosed) => void
}

interface HeaderBlock {
  readonly streamId: number
  readonly isEndStream: boolean
  readonly parts: Buffer[]
  bytes: number
}

export class H2Connection implements FrameHandler, StreamHost {
  readonly #options: H2ConnectionOptions
  readonly #socket: TLSSocket
  readonly #isServer: boolean
  readonly #reader: FrameReader
  readonly #output: FrameOutput
  readonly #decoder: HpackDecoder
  readonly #streams = new Map<number, H2Stream>()
  readonly receiveWindow: ReceiveWindow
  readonly memory: HeldMemory
  readonly owner: string
  readonly streamWindowBytes: number
  readonly #control: H2Account
  readonly #waste: H2Account
  readonly #keepalive: NodeJS.Timeout
  readonly #settingsDeadline: NodeJS.Timeout
  #queue: H2Stream[] = []
  #isPumping = false
  #block: HeaderBlock | undefined
  #dataStream: H2Stream | undefined
  #isChunkKept = false
  #isReady = false
  #isClosed = false
  #isLeaving = false
  #peerIsLeaving = false
  #sentFinalGoAway = false
  #nextStreamId = 1
  #lastPeerStreamId = 0
  #peerMaxStreams = LARGEST_STREAM_ID
  #peerWindow = DEFAULT_WINDOW_BYTES
  #peerMaxFrame = DEFAULT_MAX_FRAME_BYTES
  #sendWindow = DEFAULT_WINDOW_BYTES
  #heardSincePing = false
  /** Streams that we reset and the peer has not reset since. */
  #crossedResets = 0
  #silentPings = 0

  constructor(options: H2ConnectionOptions) {
    this.#options = options
    this.#socket = options.socket
    this.#isServer = options.role === 'server'
    this.owner = options.owner ?? ''
    this.memory = options.memory
    const { settings } = options
    this.streamWindowBytes = settings.streamWindowBytes
    const accounts = connectionAccounts(options.accounts)
    this.#control = accounts.control
    this.#waste = accounts.waste
    this.receiveWindow = new ReceiveWindow(
      this.memory,
      settings.connectionWindowBytes,
      (increment) => this.sendWindowUpdate(0, increment),
    )
    this.#decoder = new HpackDecoder(settings.headerListBytes)
    this.#reader = new FrameReader(
      this,
      { maxFrameBytes: settings.maxFrameBytes, maxCollectedBytes: settings.headerListBytes },
      this.#isServer,
    )
    this.#output = new FrameOutput(options.socket, () => this.#pump())
    this.#keepalive = setInterval(() => this.#checkAlive(), options.pingIntervalMs)
    this.#keepalive.unref()
    this.#settingsDeadline = setTimeout(
      () => this.#fail(H2_CODE.protocolError, 'no HTTP/2 SETTINGS came in time'),
      Math.max(0, options.settingsDeadlineMs),
    )
    this.#greet()
    const { socket } = options
    socket.on('error', (error: Error) => this.#close(H2_CODE.noError, error.message, false))
    socket.on('end', () => this.#close(H2_CODE.noError, 'the peer closed the connection', false))
    socket.on('close', () => this.#close(H2_CODE.noError, 'the connection is closed', false))
    readInPlace(socket, Buffer.allocUnsafeSlow(TLS_READ_BYTES), (chunk) => this.#receive(chunk))
  }

  get streamCount(): number {
    return this.#streams.size
  }

  /** Streams the peer lets us have open at once; 0 once it takes no new ones. */
  get capacity(): number {
    const isOver = this.#isClosed || this.#isLeaving || this.#peerIsLeaving
    return isOver || this.#nextStreamId > LARGEST_STREAM_ID - 2 ? 0 : this.#peerMaxStreams
  }

  /** Client: sends a request on a new stream. Only while capacity allows it. */
  openStream(headers: HeaderList, sink: StreamSink): H2Stream {
    const stream = new H2Stream(this.#nextStreamId, this, sink, this.#peerWindow)
    this.#nextStreamId += 2
    this.#streams.set(stream.id, stream)
    stream.sendHeaders(headers, false)
    return stream
  }

  /** Takes no new streams, tells the peer so, and closes after the last one. */
  leave(): void {
    if (this.#isLeaving || this.#isClosed) return
    this.#isLeaving = true
    if (!this.#isServer || this.#streams.size === 0) return this.#sayFinalGoAway()
    // RFC 9113 6.8: first an open-ended GOAWAY, and the real one a round trip later, so that no request under way is lost.
    this.#sendGoAway(LARGEST_STREAM_ID, H2_CODE.noError, '')
    this.#sendPing(PING_DRAIN, 0)
    setTimeout(() => this.#sayFinalGoAway(), DRAIN_ROUND_TRIP_MS).unref()
  }

  /** Cuts everything now; streams hear a reset. */
  destroy(): void {
    if (this.#isClosed) return
    this.#sendGoAway(this.#lastPeerStreamId, H2_CODE.noError, '')
    this.#close(H2_CODE.noError, 'the connection was cut', false)
  }

  // StreamHost: what streams ask for.

  dataRoom(): number {
    return this.#output.pendingBytes < OUTPUT_FULL_BYTES && !this.#isClosed ? this.#sendWindow : 0
  }

  sendData(
    stream: H2Stream,
    chunk: Buffer,
    start: number,
    end: number,
    isEndStream: boolean,
  ): void {
    if (this.#isClosed) return
    const largest = Math.min(this.#peerMaxFrame, LARGEST_DATA_BYTES)
    this.#sendWindow -= end - start
    let at = start
    do {
      const stop = Math.min(end, at + largest)
      const flags = isEndStream && stop === end ? FLAG.endStream : 0
      const payloadAt = this.#output.frame(stop - at, FRAME.data, flags, stream.id)
      chunk.copy(this.#output.buffer, payloadAt, at, stop)
      at = stop
    } while (at < end)
  }

  sendHeaders(stream: H2Stream, headers: HeaderList, isEndStream: boolean): void {
    if (this.#isClosed) return
    const block = encodeHeaders(headers)
    let at = 0
    let type: number = FRAME.headers
    do {
      const stop = Math.min(block.length, at + this.#peerMaxFrame)
      const flags =
        (type === FRAME.headers && isEndStream ? FLAG.endStream : 0) |
        (stop === block.length ? FLAG.endHeaders : 0)
      const payloadAt = this.#output.frame(stop - at, type, flags, stream.id)
      block.copy(this.#output.buffer, payloadAt, at, stop)
      at = stop
      type = FRAME.continuation
    } while (at < block.length)
    if (this.#isServer) stream.isAnswered = true
  }

  sendWindowUpdate(streamId: number, increment: number): void {
    if (this.#isClosed) return
    const at = this.#output.frame(4, FRAME.windowUpdate, 0, streamId)
    this.#output.buffer.writeUInt32BE(increment, at)
  }

  sendReset(stream: H2Stream, code: number): void {
    this.#sendResetOf(stream.id, code)
  }

  spendWaste(tokens: number, what: string): void {
    if (this.#isClosed || this.#waste.take(tokens)) return
    // What was done is paid for all the same: else many small debts would never count.
    this.#waste.charge(tokens)
    this.#fail(H2_CODE.enhanceYourCalm, `flood: ${what}`)
  }

  enqueue(stream: H2Stream): void {
    if (stream.isQueued || this.#isClosed) return
    stream.isQueued = true
    this.#queue.push(stream)
  }

  forget(stream: H2Stream): void {
    this.#streams.delete(stream.id)
    this.#options.onStreamClosed()
    this.#endIfDone()
  }

  // FrameHandler: what the wire brings.

  onDataFrame(streamId: number, flowBytes: number): void {
    this.#mustBeReady()
    if (this.#block !== undefined) throw broken('DATA within a header block')
    if (!this.receiveWindow.take(flowBytes))
      throw new H2ConnectionError(H2_CODE.flowControlError, 'the connection window was overrun')
    let stream = this.#streams.get(streamId)
    if (stream === undefined && this.#isIdle(streamId))
      throw broken(`DATA on idle stream ${streamId}`)
    if (stream?.isEndReceived) {
      this.#streamError(stream, H2_CODE.streamClosed)
      stream = undefined
    }
    if (stream !== undefined && !stream.takeReceiveWindow(flowBytes)) {
      this.#streamError(stream, H2_CODE.flowControlError)
      stream = undefined
    }
    this.#dataStream = stream
  }

  onDataChunk(_streamId: number, chunk: Buffer): void {
    const stream = this.#dataStream
    if (stream === undefined || stream.isClosed) this.receiveWindow.credit(chunk.length)
    else if (stream.receiveData(chunk)) this.#isChunkKept = true
  }

  onDataFrameEnd(_streamId: number, isEndStream: boolean, payload: number, padding: number): void {
    if (payload === 0 && !isEndStream) this.#spendControl('empty DATA frames')
    const stream = this.#dataStream
    this.#dataStream = undefined
    if (stream === undefined || stream.isClosed) return this.receiveWindow.credit(padding)
    if (padding > 0) stream.receivePadding(padding)
    if (isEndStream) stream.receiveEnd()
  }

  onUnknownFrame(): void {
    this.#mustBeReady()
    if (this.#block !== undefined) throw broken('an unknown frame within a header block')
    this.#spendControl('unknown frames')
  }

  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void {
    if (type !== FRAME.settings || (flags & FLAG.ack) !== 0) this.#mustBeReady()
    if (this.#block !== undefined && type !== FRAME.continuation)
      throw broken('a header block was interrupted')
    switch (type) {
      case FRAME.headers:
        return this.#onHeaders(flags, streamId, payload)
      case FRAME.continuation:
        return this.#onContinuation(flags, streamId, payload)
      case FRAME.windowUpdate:
        return this.#onWindowUpdate(streamId, payload)
      case FRAME.rstStream:
        return this.#onReset(streamId, payload)
      case FRAME.settings:
        return this.#onSettings(flags, streamId, payload)
      case FRAME.ping:
        return this.#onPing(flags, streamId, payload)
      case FRAME.goAway:
        return this.#onGoAway(streamId, payload)
      case FRAME.priority:
        if (streamId === 0) throw broken('PRIORITY on stream 0')
        if (payload.length !== 5) throw badSize('PRIORITY')
        return this.#spendControl('PRIORITY frames')
      default:
        throw broken('PUSH_PROMISE, which we disabled or which only servers send')
    }
  }

  #onHeaders(flags: number, streamId: number, payload: Buffer): void {
    if (streamId === 0) throw broken('HEADERS on stream 0')
    let start = 0
    let end = payload.length
    if ((flags & FLAG.padded) !== 0) {
      start = 1
      end -= payload[0] ?? 0
    }
    if ((flags & FLAG.priority) !== 0) start += 5
    if (start > end) throw broken('HEADERS padding longer than the frame')
    const block: HeaderBlock = {
      streamId,
      isEndStream: (flags & FLAG.endStream) !== 0,
      parts: [payload.subarray(start, end)],
      bytes: end - start,
    }
    if ((flags & FLAG.endHeaders) !== 0) return this.#onHeaderBlock(block)
    // The payload lives only during the call.
    block.parts[0] = Buffer.from(payload.subarray(start, end))
    this.#block = block
  }

  #onContinuation(flags: number, streamId: number, payload: Buffer): void {
    const block = this.#block
    if (block === undefined || block.streamId !== streamId)
      throw broken('CONTINUATION without its HEADERS')
    block.parts.push(Buffer.from(payload))
    block.bytes += payload.length
    if (
      block.bytes > this.#options.settings.headerListBytes ||
      block.parts.length > MOST_CONTINUATIONS
    )
      throw new H2ConnectionError(
        H2_CODE.enhanceYourCalm,
        'a header block is too large (CONTINUATION flood)',
      )
    if ((flags & FLAG.endHeaders) === 0) return
    this.#block = undefined
    this.#onHeaderBlock(block)
  }

  #onHeaderBlock(block: HeaderBlock): void {
    const [first, ...more] = block.parts
    const bytes = more.length === 0 && first !== undefined ? first : Buffer.concat(block.parts)
    // Decoded whatever becomes of the stream: the table must stay in step.
    const { headers, isTooLarge } = this.#decoder.decode(bytes)
    const stream = this.#streams.get(block.streamId)
    if (stream !== undefined)
      return this.#onLaterHeaders(stream, headers, isTooLarge, block.isEndStream)
    if (!this.#isIdle(block.streamId)) return this.#spendWaste('headers on closed streams')
    if (!this.#isServer || block.streamId % 2 === 0)
      throw broken(`HEADERS opened stream ${block.streamId}, which the peer may not open`)
    this.#lastPeerStreamId = block.streamId
    if (this.#sentFinalGoAway) return // RFC 9113 6.8: streams above the last one are ignored
    if (this.#streams.size >= this.#options.settings.maxStreams) {
      this.#sendResetOf(block.streamId, H2_CODE.refusedStream)
      return this.#spendWaste('streams over the limit')
    }
    this.#onRequest(block, headers, isTooLarge)
  }

  #onRequest(block: HeaderBlock, headers: HeaderList, isTooLarge: boolean): void {
    const stream = new H2Stream(block.streamId, this, NO_SINK, this.#peerWindow)
    this.#streams.set(stream.id, stream)
    this.#options.onRequest(stream, headers, isTooLarge)
    if (block.isEndStream && !stream.isClosed) stream.receiveEnd()
  }

  #onLaterHeaders(
    stream: H2Stream,
    headers: HeaderList,
    isTooLarge: boolean,
    isEndStream: boolean,
  ): void {
    // RFC 9113 8.5: after the CONNECT and its answer there is only DATA.
    if (this.#isServer || stream.isAnswered || stream.isEndReceived)
      return this.#streamError(stream, H2_CODE.protocolError)
    const isInterim = headers.some(([name, value]) => name === ':status' && value.startsWith('1'))
    if (isInterim && isEndStream) return this.#streamError(stream, H2_CODE.protocolError)
    if (isInterim) return this.#spendControl('interim responses')
    stream.isAnswered = true
    stream.sink.onHeaders(headers, isTooLarge)
    if (isEndStream && !stream.isClosed) stream.receiveEnd()
  }

  #onWindowUpdate(streamId: number, payload: Buffer): void {
    if (payload.length !== 4) throw badSize('WINDOW_UPDATE')
    const increment = payload.readUInt32BE(0) & LARGEST_WINDOW_BYTES
    if (streamId === 0) {
      if (increment === 0) throw broken('WINDOW_UPDATE of 0')
      this.#sendWindow += increment
      if (this.#sendWindow > LARGEST_WINDOW_BYTES)
        throw new H2ConnectionError(H2_CODE.flowControlError, 'the connection window overflows')
      return this.#pump()
    }
    const stream = this.#streams.get(streamId)
    if (stream === undefined) {
      if (this.#isIdle(streamId)) throw broken(`WINDOW_UPDATE on idle stream ${streamId}`)
      return
    }
    if (increment === 0) return this.#streamError(stream, H2_CODE.protocolError)
    if (!stream.addSendWindow(increment)) return this.#streamError(stream, H2_CODE.flowControlError)
    this.#pump()
  }

  #onReset(streamId: number, payload: Buffer): void {
    if (payload.length !== 4) throw badSize('RST_STREAM')
    if (streamId === 0 || this.#isIdle(streamId))
      throw broken(`RST_STREAM on idle stream ${streamId}`)
    const stream = this.#streams.get(streamId)
    if (stream === undefined) {
      // A peer that had not heard of our reset yet may send its own: a thousand refused requests are no flood of resets.
      if (this.#crossedResets === 0) return this.#spendControl('resets of closed streams')
      this.#crossedResets -= 1
      return
    }
    const code = payload.readUInt32BE(0)
    if (this.#isServer && !stream.isAnswered) this.#spendWaste('rapid reset')
    stream.receiveReset(code, code === H2_CODE.refusedStream)
  }

  #onSettings(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw broken('SETTINGS on a stream')
    if ((flags & FLAG.ack) !== 0) {
      if (payload.length !== 0) throw badSize('SETTINGS ACK')
      return
    }
    if (payload.length % SETTING_BYTES !== 0) throw badSize('SETTINGS')
    if (this.#isReady) this.#spendControl('SETTINGS frames')
    for (let at = 0; at < payload.length; at += SETTING_BYTES)
      this.#onSetting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2))
    this.#output.frame(0, FRAME.settings, FLAG.ack, 0)
    if (!this.#isReady) {
      this.#isReady = true
      clearTimeout(this.#settingsDeadline)
      this.#options.onReady()
    }
    this.#pump()
  }

  #onSetting(id: number, value: number): void {
    switch (id) {
      case SETTING.maxConcurrentStreams:
        this.#peerMaxStreams = value
        break
      case SETTING.initialWindowSize: {
        if (value > LARGEST_WINDOW_BYTES)
          throw new H2ConnectionError(
            H2_CODE.flowControlError,
            'SETTINGS_INITIAL_WINDOW_SIZE too large',
          )
        const change = value - this.#peerWindow
        this.#peerWindow = value
        for (const stream of this.#streams.values())
          if (!stream.addSendWindow(change))
            throw new H2ConnectionError(H2_CODE.flowControlError, 'a window overflows by SETTINGS')
        break
      }
      case SETTING.maxFrameSize:
        if (value < DEFAULT_MAX_FRAME_BYTES || value > LARGEST_MAX_FRAME_BYTES)
          throw broken('SETTINGS_MAX_FRAME_SIZE out of range')
        this.#peerMaxFrame = value
        break
      case SETTING.enablePush:
        if (value > 1 || (value === 1 && !this.#isServer))
          throw broken('SETTINGS_ENABLE_PUSH invalid')
        break
      default: // the table size concerns encoders that index; unknown settings are ignored (RFC 9113 6.5.2)
    }
  }

  #onPing(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw broken('PING on a stream')
    if (payload.length !== PING_BYTES) throw badSize('PING')
    if ((flags & FLAG.ack) !== 0) {
      if (payload[0] === PING_DRAIN && this.#isLeaving) this.#sayFinalGoAway()
      return
    }
    this.#spendControl('PING frames')
    const at = this.#output.frame(PING_BYTES, FRAME.ping, FLAG.ack, 0)
    payload.copy(this.#output.buffer, at)
  }

  #onGoAway(streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw broken('GOAWAY on a stream')
    if (payload.length < 8) throw badSize('GOAWAY')
    this.#spendControl('GOAWAY frames')
    this.#peerIsLeaving = true
    const last = payload.readUInt32BE(0) & LARGEST_STREAM_ID
    if (!this.#isServer)
      for (const stream of [...this.#streams.values()])
        if (stream.id > last) stream.receiveReset(H2_CODE.refusedStream, true)
    this.#endIfDone()
  }

  /** Whether somebody keeps a slice of the chunk. */
  #receive(chunk: Buffer): boolean {
    if (this.#isClosed) return false
    this.#heardSincePing = true
    this.#isChunkKept = false
    try {
      this.#reader.read(chunk)
    } catch (error) {
      if (!(error instanceof H2ConnectionError)) throw error
      this.#fail(error.code, error.message)
    }
    if (this.#output.pendingBytes > OUTPUT_FLOOD_BYTES)
      this.#fail(H2_CODE.enhanceYourCalm, 'the peer makes us answer and does not read')
    return this.#isChunkKept
  }

  /** Lets waiting streams send, in turns, while there is room. */
  #pump(): void {
    if (this.#isPumping) return
    this.#isPumping = true
    while (this.#queue.length > 0 && this.dataRoom() > 0) {
      const round = this.#queue
      this.#queue = []
      for (const stream of round) {
        stream.isQueued = false
        if (!stream.isClosed && stream.takeTurn()) this.enqueue(stream)
      }
    }
    this.#isPumping = false
  }

  #checkAlive(): void {
    if (this.#heardSincePing) this.#silentPings = 0
    else this.#silentPings += 1
    this.#heardSincePing = false
    // Anything heard counts as life: a PONG may wait behind bulk data.
    if (this.#silentPings * this.#options.pingIntervalMs >= this.#options.pingTimeoutMs) {
      this.#close(H2_CODE.noError, `no answer to PING for ${this.#options.pingTimeoutMs} ms`, true)
      return
    }
    this.#output.shrink()
    this.#sendPing(PING_KEEPALIVE, 0)
  }

  #greet(): void {
    const ours = this.#options.settings
    const settings: (readonly [number, number])[] = [
      [SETTING.initialWindowSize, ours.streamWindowBytes],
      [SETTING.maxFrameSize, ours.maxFrameBytes],
      [SETTING.maxHeaderListSize, ours.headerListBytes],
      this.#isServer ? [SETTING.maxConcurrentStreams, ours.maxStreams] : [SETTING.enablePush, 0],
    ]
    if (!this.#isServer) this.#output.raw(PREFACE)
    let at = this.#output.frame(settings.length * SETTING_BYTES, FRAME.settings, 0, 0)
    for (const [id, value] of settings) {
      at = this.#output.buffer.writeUInt16BE(id, at)
      at = this.#output.buffer.writeUInt32BE(value, at)
    }
    this.sendWindowUpdate(0, ours.connectionWindowBytes - DEFAULT_WINDOW_BYTES)
  }

  #sendPing(kind: number, flags: number): void {
    const at = this.#output.frame(PING_BYTES, FRAME.ping, flags, 0)
    this.#output.buffer.fill(0, at, at + PING_BYTES)
    this.#output.buffer[at] = kind
  }

  #sendResetOf(streamId: number, code: number): void {
    if (this.#isClosed) return
    this.#crossedResets += 1
    const at = this.#output.frame(4, FRAME.rstStream, 0, streamId)
    this.#output.buffer.writeUInt32BE(code, at)
  }

  #sendGoAway(lastStreamId: number, code: number, message: string): void {
    const at = this.#output.frame(8 + message.length, FRAME.goAway, 0, 0)
    this.#output.buffer.writeUInt32BE(lastStreamId, at)
    this.#output.buffer.writeUInt32BE(code, at + 4)
    this.#output.buffer.write(message, at + 8, 'latin1')
  }

  #sayFinalGoAway(): void {
    if (this.#isClosed || this.#sentFinalGoAway) return
    this.#sentFinalGoAway = true
    this.#sendGoAway(this.#lastPeerStreamId, H2_CODE.noError, '')
    this.#endIfDone()
  }

  #endIfDone(): void {
    if (this.#streams.size > 0 || this.#isClosed) return
    if (this.#sentFinalGoAway || (this.#peerIsLeaving && !this.#isServer))
      this.#close(H2_CODE.noError, 'the connection was drained', false)
  }

  #streamError(stream: H2Stream, code: number): void {
    this.#sendResetOf(stream.id, code)
    this.#spendWaste('stream errors')
    stream.receiveReset(code, false)
  }

  #spendControl(what: string): void {
    if (!this.#control.take())
      throw new H2ConnectionError(H2_CODE.enhanceYourCalm, `flood of ${what}`)
  }

  #spendWaste(what: string): void {
    if (!this.#waste.take()) throw new H2ConnectionError(H2_CODE.enhanceYourCalm, `flood: ${what}`)
  }

  #mustBeReady(): void {
    if (!this.#isReady) throw broken('the first frame is not SETTINGS')
  }

  /** Whether the stream was never opened. */
  #isIdle(streamId: number): boolean {
    const isPeers = (streamId % 2 === 1) === this.#isServer
    return isPeers
      ? streamId > this.#lastPeerStreamId
      : streamId >= this.#nextStreamId || this.#isServer
  }

  #fail(code: number, message: string): void {
    if (this.#isClosed) return
    this.#sendGoAway(this.#lastPeerStreamId, code, message)
    this.#close(code, message, true)
  }

  #close(code: number, message: string, isPeerFault: boolean): void {
    if (this.#isClosed) return
    this.#isClosed = true
    clearInterval(this.#keepalive)
    clearTimeout(this.#settingsDeadline)
    this.#output.end()
    this.#queue = []
    this.receiveWindow.close()
    if (!this.#socket.destroyed) {
      const cut = setTimeout(() => this.#socket.destroy(), LINGER_MS)
      this.#socket.once('close', () => clearTimeout(cut))
    }
    for (const stream of [...this.#streams.values()])
      stream.receiveReset(H2_CODE.cancel, !this.#isServer && !stream.isAnswered)
    this.#options.onClosed({ code, message, isPeerFault, wasReady: this.#isReady })
  }
}

const NO_SINK: StreamSink = {
  onHeaders: noSink,
  onData: noSink,
  onEnd: noSink,
  onReset: () => false,
  onWritable: noSink,
  onClosed: () => undefined,
}

function noSink(): never {
  throw new Error('onRequest returned without setting the sink of its stream')
}

function broken(message: string): H2ConnectionError {
  return new H2ConnectionError(H2_CODE.protocolError, message)
}

function badSize(frame: string): H2ConnectionError {
  return new H2ConnectionError(H2_CODE.frameSizeError, `a ${frame} frame has the wrong size`)
}
