// SPDX-License-Identifier: Apache-2.0
// One HTTP/2 connection (RFC 9113), either role, for CONNECT tunnels and for requests and answers: no push, no priorities.
// Every frame is checked; whoever breaks the protocol or floods us gets GOAWAY and is cut.
// Why not node:http2: against two haproxy TLS relays on the same path it did 0.93 to 1.09 times the requests per
// relay CPU second at 64 connections and 0.48 to 0.73 times the bulk; this engine 1.8 to 2.4 and 1.0 to 1.1
// (bench/hbone-relays.ts, medians on two shared cores).
// It is long because the frame types share one state; what could stand alone does (stream, output, reader, budget).

import type { H2Accounts } from './budget.ts'
import { Conduct } from './conduct.ts'
import { ConnectionHold } from './connection-hold.ts'
import { type FrameHandler, FrameReader } from './frame-reader.ts'
import { type HeaderBlock, HeaderBlocks, dependency } from './header-blocks.ts'
import { HeaderBlockWriter, type HeaderList, HpackDecoder } from './hpack.ts'
import { GatheredData } from './gathered-data.ts'
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
import { type AskedSilence, SilenceWatch, type WayToPeer } from './peer-silence.ts'
import { ReceiveWindow } from './receive-window.ts'
import type { H2Settings } from './settings.ts'
import { H2Stream, type StreamHost, type StreamSink } from './stream.ts'
import { StreamTable } from './stream-table.ts'
import type { H2Intake, H2Wire } from './wire.ts'

/** Unwritten output above which no DATA is added: one good TLS write, and little to wait behind for the next stream. */
const OUTPUT_FULL_BYTES = 256 * 1024
/**
 * And beyond it, what had been read when it was full: each of several busy streams has a chunk at hand then. Kept aside it would be
 * a fresh buffer for every chunk, and with eight streams the collector took 45 % of the relay's CPU.
 */
const OUTPUT_OVERFLOW_BYTES = 512 * 1024
/** Unwritten output that only a peer can cause who makes us answer and never reads. */
const OUTPUT_FLOOD_BYTES = OUTPUT_FULL_BYTES + OUTPUT_OVERFLOW_BYTES + 1024 * 1024
/** The largest DATA frame we send: beyond it a header weighs nothing, and other streams wait too long. */
const LARGEST_DATA_BYTES = 64 * 1024
/** A header block costs so many frames' share of a turn, and one more for each so many bytes. */
const REQUEST_UNITS = 4
/** One that we asked for: there are no more of them than of our requests. */
const ANSWER_UNITS = 2
const HEADER_BYTES_PER_UNIT = 512
/** A SETTINGS frame of more entries is made to cost us; there are ten that mean anything. */
const MOST_SETTINGS = 64
/** Entries that one more token pays for. */
const SETTINGS_PER_TOKEN = 8
/** How long we wait for the peer to read our GOAWAY before what carries the connection is cut. */
const LINGER_MS = 1_000
/** How long a draining server waits for the PING that marks a round trip before it names the last stream. */
const DRAIN_ROUND_TRIP_MS = 1_000
const SETTING_BYTES = 6
const PING_BYTES = 8
const SHORT_OF_MEMORY = 'memory is short, and this connection held some of it'
const PING_KEEPALIVE = 0
const PING_DRAIN = 1
/** The thread's, while nobody has it. */
let spareWriter: HeaderBlockWriter | undefined

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
  readonly wire: H2Wire
  readonly settings: H2Settings
  /** Time left for the peer's first SETTINGS. */
  readonly settingsDeadlineMs: number
  readonly pingIntervalMs: number
  /** Undefined: no PINGs are sent, for another layer watches over the peer. */
  readonly pingTimeoutMs: number | undefined
  /** Who pays first when what it holds is too much: the pod served. */
  readonly owner?: string
  /** Who pays first of the owner's: the peer, over all its connections; each connection by itself when absent. */
  readonly caller?: string
  /** The account of what all connections of the thread hold. */
  readonly memory: HeldMemory
  /** Who pays for nuisance; fresh accounts when absent. One that outlives the connection makes reconnecting useless. */
  readonly accounts?: Partial<H2Accounts>
  /** Server: what a request costs of a turn beside its frame, for what its user does about it; nothing when absent. */
  readonly requestUnits?: number
  /** What the kernel knows of the way to the peer; undefined: nothing. */
  readonly wayToPeer?: (() => WayToPeer | undefined) | undefined
  /** The peer's first SETTINGS came. */
  readonly onReady: () => void
  /** Server: a request. The stream's sink must be set before returning. */
  readonly onRequest: (stream: H2Stream, headers: HeaderList, isTooLarge: boolean) => void
  readonly onStreamClosed: () => void
  /** What streams hear as the code of their reset when the connection ends under them; CANCEL when absent. */
  readonly resetCode?: () => number
  /** Once, after every stream heard of it. */
  readonly onClosed: (closed: ConnectionClosed) => void
}

export class H2Connection implements FrameHandler, StreamHost {
  readonly #options: H2ConnectionOptions
  readonly #wire: H2Wire
  readonly #isServer: boolean
  readonly #reader: FrameReader
  readonly #output: FrameOutput
  readonly #decoder: HpackDecoder
  readonly #streams = new StreamTable()
  readonly receiveWindow: ReceiveWindow
  readonly memory: HeldMemory
  readonly owner: string
  readonly caller: string
  readonly streamWindowBytes: number
  readonly #conduct: Conduct
  readonly #blocks: HeaderBlocks
  readonly #intake: H2Intake
  readonly #gathered: GatheredData
  readonly #hold: ConnectionHold
  readonly #keepalive: NodeJS.Timeout
  readonly #settingsDeadline: NodeJS.Timeout
  #queue: H2Stream[] = []
  #isPumping = false
  #dataStream: H2Stream | undefined
  #isReady = false
  #isClosed = false
  #isLeaving = false
  #peerIsLeaving = false
  /** The last stream that will be served: in the GOAWAY that was sent. */
  #finalStreamId: number | undefined
  #nextStreamId = 1
  #lastPeerStreamId = 0
  /** Streams that the peer has opened. */
  #peerStreams = 0
  #peerMaxStreams = LARGEST_STREAM_ID
  #peerWindow = DEFAULT_WINDOW_BYTES
  #peerMaxFrame = DEFAULT_MAX_FRAME_BYTES
  #sendWindow = DEFAULT_WINDOW_BYTES
  #silentPings = 0
  /** None while no app asks. */
  #silence: SilenceWatch | undefined

  constructor(options: H2ConnectionOptions) {
    this.#options = options
    const { wire } = options
    this.#wire = wire
    this.#isServer = options.role === 'server'
    this.owner = options.owner ?? ''
    this.caller = options.caller ?? ''
    this.memory = options.memory
    this.#hold = new ConnectionHold(this.memory, this, () => this.#shed())
    const { settings } = options
    this.streamWindowBytes = settings.streamWindowBytes
    this.#conduct = new Conduct(options.accounts, settings.connectionWindowBytes)
    this.#blocks = new HeaderBlocks(settings.headerListBytes)
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
    this.#intake = wire.intake(
      {
        parse: (chunk) => this.#parse(chunk),
        deliver: () => this.#gathered.deliver(),
        stop: () => this.#reader.stop(),
        account: () => this.#account(),
      },
      options.accounts?.turn,
    )
    this.#gathered = new GatheredData(this.receiveWindow, () => this.#intake.keepChunk())
    this.#output = new FrameOutput(
      wire,
      () => this.#pump(),
      () => this.#account(),
    )
    this.#keepalive = setInterval(() => this.#checkAlive(), options.pingIntervalMs)
    this.#keepalive.unref()
    this.#settingsDeadline = setTimeout(
      () => this.#fail(H2_CODE.protocolError, 'no HTTP/2 SETTINGS came in time'),
      Math.max(0, options.settingsDeadlineMs),
    )
    this.#greet()
    wire.onOver((message) => this.#close(H2_CODE.noError, message, false))
    this.#intake.start()
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
  openStream(headers: HeaderList, sink: StreamSink, isEndStream = false): H2Stream {
    const stream = new H2Stream(this.#nextStreamId, this, sink, this.#peerWindow)
    this.#nextStreamId += 2
    this.#streams.add(stream)
    this.#conduct.openedStream()
    stream.sendHeaders(headers, isEndStream)
    return stream
  }

  /** Takes no new streams, tells the peer so, and closes after the last one. */
  leave(): void {
    if (this.#isLeaving || this.#isClosed) return
    this.#isLeaving = true
    if (!this.#isServer) return this.#sayFinalGoAway()
    // RFC 9113 6.8: first an open-ended GOAWAY, and the real one a round trip later, so that no request under way is lost: not
    // even the first one.
    this.#sendGoAway(LARGEST_STREAM_ID, H2_CODE.noError, '')
    this.#sendPing(PING_DRAIN)
    setTimeout(() => this.#sayFinalGoAway(), DRAIN_ROUND_TRIP_MS).unref()
  }

  /** Cuts everything now; streams hear a reset. */
  destroy(): void {
    if (this.#isClosed) return
    this.#sendGoAway(this.#lastServedStreamId, H2_CODE.noError, '')
    this.#close(H2_CODE.noError, 'the connection was cut', false)
  }

  // StreamHost: what streams ask for.

  dataRoom(): number {
    return this.#output.pendingBytes < OUTPUT_FULL_BYTES && !this.#isClosed ? this.#sendWindow : 0
  }

  overflowRoom(): number {
    const most = OUTPUT_FULL_BYTES + OUTPUT_OVERFLOW_BYTES
    return this.#output.pendingBytes < most && !this.#isClosed ? this.#sendWindow : 0
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
    this.#conduct.sentData(end - start, this.#sendWindow <= 0 || stream.isSendWindowShut)
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
    // Taken, not shared: room for a frame may cost another connection its streams, and what they end may be answered at once.
    const block = spareWriter ?? new HeaderBlockWriter()
    spareWriter = undefined
    block.write(headers)
    let at = 0
    let type: number = FRAME.headers
    do {
      const stop = Math.min(block.length, at + this.#peerMaxFrame)
      const flags =
        (type === FRAME.headers && isEndStream ? FLAG.endStream : 0) |
        (stop === block.length ? FLAG.endHeaders : 0)
      const payloadAt = this.#output.frame(stop - at, type, flags, stream.id)
      block.bytes.copy(this.#output.buffer, payloadAt, at, stop)
      at = stop
      type = FRAME.continuation
    } while (at < block.length)
    spareWriter = block
    if (this.#isServer) stream.isAnswered = true
  }

  sendWindowUpdate(streamId: number, increment: number): void {
    if (this.#isClosed) return
    const at = this.#output.frame(4, FRAME.windowUpdate, 0, streamId)
    this.#output.buffer.writeUInt32BE(increment, at)
  }

  sendReset(stream: H2Stream, code: number): void {
    this.#sendResetOf(stream.id, code)
    if (!stream.isEndReceived) this.#conduct.cutStream(stream.openReceiveWindow)
  }

  spendWaste(tokens: number, what: string): void {
    if (this.#isClosed) return
    try {
      this.#conduct.waste(what, tokens)
    } catch (error) {
      this.#failBy(error)
    }
  }

  askSilence(stream: H2Stream, asked: AskedSilence | undefined, code: number): void {
    if (asked === undefined) return this.#silence?.forget(stream)
    this.#silence ??= this.#watchSilence()
    this.#silence.ask(stream, asked, code)
  }

  enqueue(stream: H2Stream): void {
    if (stream.isQueued || this.#isClosed) return
    stream.isQueued = true
    this.#queue.push(stream)
  }

  forget(stream: H2Stream): void {
    this.#streams.delete(stream.id)
    this.#silence?.forget(stream)
    this.#options.onStreamClosed()
    this.#endIfDone()
  }

  // FrameHandler: what the wire brings.

  onDataFrame(streamId: number, flowBytes: number): void {
    this.#mustBeReady()
    this.#intake.work(1)
    if (this.#blocks.isOpen) throw broken('DATA within a header block')
    if (!this.receiveWindow.take(flowBytes))
      throw new H2ConnectionError(H2_CODE.flowControlError, 'the connection window was overrun')
    let stream = this.#streams.get(streamId)
    if (stream === undefined) {
      if (this.#isIdle(streamId)) throw broken(`DATA on idle stream ${streamId}`)
      this.#conduct.lateData(flowBytes)
    } else if (stream.isEndReceived) {
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
    else this.#gathered.add(stream, chunk)
  }

  onDataFrameEnd(_streamId: number, isEndStream: boolean, payload: number, padding: number): void {
    if (payload === 0 && !isEndStream) this.#conduct.control('empty DATA frames')
    const stream = this.#dataStream
    this.#dataStream = undefined
    if (stream === undefined || stream.isClosed) return this.receiveWindow.credit(padding)
    if (padding > 0) stream.receivePadding(padding)
    if (!isEndStream) return
    this.#gathered.deliver()
    stream.receiveEnd()
  }

  onUnknownFrame(): void {
    this.#mustBeReady()
    this.#intake.work(1)
    if (this.#blocks.isOpen) throw broken('an unknown frame within a header block')
    this.#conduct.control('unknown frames')
  }

  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void {
    if (type !== FRAME.settings || (flags & FLAG.ack) !== 0) this.#mustBeReady()
    this.#intake.work(1)
    this.#gathered.deliver()
    if (this.#blocks.isOpen && type !== FRAME.continuation)
      throw broken('a header block was interrupted')
    switch (type) {
      case FRAME.headers:
        return this.#onHeaderBlock(this.#blocks.onHeaders(flags, streamId, payload))
      case FRAME.continuation:
        return this.#onHeaderBlock(this.#blocks.onContinuation(flags, streamId, payload))
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
        if (dependency(payload, 0) === streamId) throw broken('a stream that depends on itself')
        return this.#conduct.control('PRIORITY frames')
      default:
        throw broken('PUSH_PROMISE, which we disabled or which only servers send')
    }
  }

  #onHeaderBlock(block: HeaderBlock | undefined): void {
    if (block === undefined) return this.#account()
    // Decoded whatever becomes of the stream: the table must stay in step.
    const { headers, isTooLarge, listBytes } = this.#decoder.decode(block.bytes)
    this.#account()
    if (this.#isClosed) return // for want of memory
    const bytes = Math.max(block.bytes.length, listBytes)
    const units = this.#isServer ? REQUEST_UNITS : ANSWER_UNITS
    this.#intake.work(units + Math.floor(bytes / HEADER_BYTES_PER_UNIT))
    this.#conduct.headers(bytes)
    const stream = this.#streams.get(block.streamId)
    if (stream !== undefined)
      return this.#onLaterHeaders(stream, headers, isTooLarge, block.isEndStream)
    if (!this.#isIdle(block.streamId)) return this.#onLateHeaders()
    if (!this.#isServer || block.streamId % 2 === 0)
      throw broken(`HEADERS opened stream ${block.streamId}, which the peer may not open`)
    this.#lastPeerStreamId = block.streamId
    this.#peerStreams += 1
    // RFC 9113 6.8: streams above the last one are ignored.
    if (this.#finalStreamId !== undefined) {
      this.#conduct.cutStream(this.streamWindowBytes)
      return this.#conduct.waste('streams after GOAWAY')
    }
    if (this.#streams.size >= this.#options.settings.maxStreams) {
      this.#sendResetOf(block.streamId, H2_CODE.refusedStream)
      this.#conduct.cutStream(this.streamWindowBytes)
      return this.#conduct.waste('streams over the limit')
    }
    this.#onRequest(block, headers, isTooLarge)
  }

  /** Headers on a stream that is closed: under way when we cut it, or against the rules. */
  #onLateHeaders(): void {
    if (this.#conduct.expectsLateFrames) return this.#conduct.answer('headers on closed streams')
    // RFC 9113 5.1.1: a stream that was skipped is closed too, but was never used.
    const skippedNone = this.#lastPeerStreamId === 2 * this.#peerStreams - 1
    if (this.#isServer && !skippedNone) throw broken('HEADERS on a stream below the last one')
    throw new H2ConnectionError(H2_CODE.streamClosed, 'HEADERS on a closed stream')
  }

  #onRequest(block: HeaderBlock, headers: HeaderList, isTooLarge: boolean): void {
    const stream = new H2Stream(block.streamId, this, NO_SINK, this.#peerWindow)
    stream.openedAtMs = performance.now()
    this.#streams.add(stream)
    this.#conduct.openedStream()
    this.#intake.work(this.#options.requestUnits ?? 0)
    // Known before the answer: one that ends, too, then closes the stream, and there is nothing left to reset.
    stream.isEndReceived = block.isEndStream
    this.#options.onRequest(stream, headers, isTooLarge)
    if (block.isEndStream) stream.announceEnd()
  }

  #onLaterHeaders(
    stream: H2Stream,
    headers: HeaderList,
    isTooLarge: boolean,
    isEndStream: boolean,
  ): void {
    if (stream.isEndReceived) return this.#streamError(stream, H2_CODE.streamClosed)
    if (this.#isServer || stream.isAnswered) {
      // RFC 9113 8.1: trailers end the stream. 8.5: after a CONNECT and its answer there is only DATA.
      if (!isEndStream || stream.sink.onTrailers === undefined)
        return this.#streamError(stream, H2_CODE.protocolError)
      stream.sink.onTrailers(headers, isTooLarge)
      if (!stream.isClosed) stream.receiveEnd()
      return
    }
    const isInterim =
      !isTooLarge && headers.some(([name, value]) => name === ':status' && value.startsWith('1'))
    if (isInterim && isEndStream) return this.#streamError(stream, H2_CODE.protocolError)
    if (isInterim) {
      // Who passes them on has a bound of its own.
      if (stream.sink.onInterim !== undefined) return stream.sink.onInterim(headers)
      return this.#conduct.control('interim responses')
    }
    stream.isAnswered = true
    stream.sink.onHeaders(headers, isTooLarge, isEndStream)
    if (isEndStream && !stream.isClosed) stream.receiveEnd()
  }

  #onWindowUpdate(streamId: number, payload: Buffer): void {
    this.#conduct.answer('WINDOW_UPDATE frames')
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
    if (streamId === 0 || this.#isIdle(streamId))
      throw broken(`RST_STREAM on idle stream ${streamId}`)
    const stream = this.#streams.get(streamId)
    if (stream === undefined) return this.#conduct.answer('resets of closed streams')
    const code = payload.readUInt32BE(0)
    if (this.#isServer && !stream.isAnswered)
      this.#conduct.gaveUp(performance.now() - stream.openedAtMs)
    stream.receiveReset(code, code === H2_CODE.refusedStream)
  }

  #onSettings(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw broken('SETTINGS on a stream')
    if ((flags & FLAG.ack) !== 0) {
      if (payload.length !== 0) throw badSize('SETTINGS ACK')
      return this.#conduct.settingsAck()
    }
    if (payload.length % SETTING_BYTES !== 0) throw badSize('SETTINGS')
    const count = payload.length / SETTING_BYTES
    if (count > MOST_SETTINGS)
      throw new H2ConnectionError(H2_CODE.enhanceYourCalm, `SETTINGS with ${count} entries`)
    if (this.#isReady)
      this.#conduct.control('SETTINGS frames', 1 + Math.floor(count / SETTINGS_PER_TOKEN))
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
        for (const stream of this.#streams)
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
    if ((flags & FLAG.ack) !== 0) {
      this.#conduct.pingAck()
      if (payload[0] === PING_DRAIN && this.#isLeaving) this.#sayFinalGoAway()
      return
    }
    // Stacks of gRPC measure the way by a PING for the DATA that they get.
    this.#conduct.answer('PING frames')
    const at = this.#output.frame(PING_BYTES, FRAME.ping, FLAG.ack, 0)
    payload.copy(this.#output.buffer, at)
  }

  #onGoAway(streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw broken('GOAWAY on a stream')
    if (payload.length < 8) throw badSize('GOAWAY')
    this.#conduct.control('GOAWAY frames')
    this.#peerIsLeaving = true
    const last = payload.readUInt32BE(0) & LARGEST_STREAM_ID
    if (!this.#isServer)
      for (const stream of this.#streams)
        if (stream.id > last) stream.receiveReset(H2_CODE.refusedStream, true)
    this.#endIfDone()
  }

  /** Acts on what came, up to the end of the turn; how much of it that was. */
  #parse(chunk: Buffer): number {
    let used = chunk.length
    const { heldBytes } = this.#reader
    try {
      used = this.#reader.read(chunk)
    } catch (error) {
      this.#failBy(error)
    }
    if (this.#reader.heldBytes !== heldBytes) this.#account()
    if (this.#output.pendingBytes > OUTPUT_FLOOD_BYTES)
      this.#fail(H2_CODE.enhanceYourCalm, 'the peer makes us answer and does not read')
    return used
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
    const { pingIntervalMs, pingTimeoutMs } = this.#options
    if (this.#intake.takeReads() > 0) this.#silentPings = 0
    else this.#silentPings += 1
    // Anything heard counts as life: a PONG may wait behind bulk data.
    if (pingTimeoutMs !== undefined && this.#silentPings * pingIntervalMs >= pingTimeoutMs)
      return this.#close(H2_CODE.noError, `no answer to PING for ${pingTimeoutMs} ms`, true)
    this.#output.shrink()
    this.#account()
    if (pingTimeoutMs !== undefined) this.#sendPing(PING_KEEPALIVE)
  }

  #watchSilence(): SilenceWatch {
    const intake = this.#intake
    return new SilenceWatch({
      get reads() {
        return intake.allReads
      },
      ping: () => this.#sendPing(PING_KEEPALIVE),
      way: () => this.#options.wayToPeer?.(),
      doubt: () => this.leave(),
    })
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

  #sendPing(kind: number): void {
    this.#conduct.sentPing()
    const at = this.#output.frame(PING_BYTES, FRAME.ping, 0, 0)
    this.#output.buffer.fill(0, at, at + PING_BYTES)
    this.#output.buffer[at] = kind
  }

  #sendResetOf(streamId: number, code: number): void {
    if (this.#isClosed) return
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
    if (this.#isClosed || this.#finalStreamId !== undefined) return
    this.#finalStreamId = this.#lastPeerStreamId
    this.#sendGoAway(this.#lastPeerStreamId, H2_CODE.noError, '')
    this.#endIfDone()
  }

  #endIfDone(): void {
    if (this.#streams.size > 0 || this.#isClosed) return
    if (this.#finalStreamId !== undefined || (this.#peerIsLeaving && !this.#isServer))
      this.#close(H2_CODE.noError, 'the connection was drained', false)
  }

  #streamError(stream: H2Stream, code: number): void {
    this.sendReset(stream, code)
    this.#conduct.waste('stream errors')
    stream.receiveReset(code, false)
  }

  /** RFC 9113 6.8: no later GOAWAY names a higher stream. */
  get #lastServedStreamId(): number {
    return this.#finalStreamId ?? this.#lastPeerStreamId
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

  /** Puts what the connection holds on its owner's account; may cut it. */
  #account(): void {
    if (this.#isClosed) return
    this.#hold.set(
      this.#intake.heldBytes +
        this.#reader.heldBytes +
        this.#blocks.heldBytes +
        this.#decoder.heldBytes +
        this.#output.heldBytes,
    )
  }

  /** Memory is short, and of all owners this one's connections hold most. */
  #shed(): void {
    this.#sendGoAway(this.#lastServedStreamId, H2_CODE.enhanceYourCalm, SHORT_OF_MEMORY)
    this.#close(H2_CODE.enhanceYourCalm, SHORT_OF_MEMORY, false)
  }

  #failBy(error: unknown): void {
    if (!(error instanceof H2ConnectionError)) throw error
    this.#fail(error.code, error.message)
  }

  #fail(code: number, message: string): void {
    if (this.#isClosed) return
    this.#sendGoAway(this.#lastServedStreamId, code, message)
    this.#close(code, message, true)
  }

  #close(code: number, message: string, isPeerFault: boolean): void {
    this.#gathered.deliver() // may close it
    if (this.#isClosed) return
    this.#isClosed = true
    clearInterval(this.#keepalive)
    clearTimeout(this.#settingsDeadline)
    this.#output.end()
    this.#queue = []
    this.#intake.close()
    this.#blocks.clear()
    this.receiveWindow.close()
    this.#hold.set(0)
    this.#wire.end(LINGER_MS)
    // ENHANCE_YOUR_CALM tells a stream's user that memory is short; what the peer did wrong is none of the stream's.
    const isForMemory = code === H2_CODE.enhanceYourCalm && !isPeerFault
    const resetCode = isForMemory ? code : (this.#options.resetCode?.() ?? H2_CODE.cancel)
    for (const stream of this.#streams)
      stream.receiveReset(resetCode, !this.#isServer && !stream.isAnswered)
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
