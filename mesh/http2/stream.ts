// SPDX-License-Identifier: Apache-2.0
// One HTTP/2 stream: its two windows, the bytes that wait for the peer's window, and the half-closes.
// It buffers at most what one write brought while the window was shut; write() says when to stop.
// Hot: bench/hbone-relays.ts watches it.

import { CHUNK_COST_BYTES, HOLDER_COST_BYTES, type HeldMemory, type Holder } from './held-memory.ts'
import type { Listed } from '../async/roster.ts'
import type { HeaderList } from './hpack.ts'
import { H2_CODE, LARGEST_WINDOW_BYTES } from './protocol.ts'
import type { AskedSilence } from './peer-silence.ts'
import type { ReceiveWindow } from './receive-window.ts'
import { borrowedCopy, giveBack, memoryOf } from './slabs.ts'

/** Who uses a stream. Calls come from the connection, in the order of the wire. */
export interface StreamSink {
  /** A response came (client). `isEnd`: nothing follows it. */
  onHeaders(headers: HeaderList, isTooLarge: boolean, isEnd: boolean): void
  /** An interim response came (client); whoever has no use for them has no such method. */
  onInterim?(headers: HeaderList): void
  /** The last headers came, and onEnd is next. Who carries tunnels has no such method: there they break the protocol (RFC 9113 8.5). */
  onTrailers?(headers: HeaderList, isTooLarge: boolean): void
  /** Bytes came; consume() must be called for them once they have gone on. True: it keeps the chunk beyond the call. */
  onData(chunk: Buffer): boolean
  /** The peer half-closed. */
  onEnd(): void
  /**
   * The peer reset the stream, the connection died, or we need the memory (ENHANCE_YOUR_CALM; then even after
   * onClosed, if it still holds bytes). `isUnprocessed`: the peer never acted on it. True: it does not drop what it
   * holds but goes on to deliver it, and calls consume() or drop() for it.
   */
  onReset(code: number, isUnprocessed: boolean): boolean
  /** write() may go on after it said false. */
  onWritable(): void
  /** The stream is over, whatever way. Last call. */
  onClosed(): void
}

/** What a stream needs of its connection. */
export interface StreamHost {
  /** Bytes of DATA that may be queued now: the connection's window, and none while the output is full. */
  dataRoom(): number
  /** The same for bytes that are there already: more than dataRoom(), so that few of them have to be kept aside. */
  overflowRoom(): number
  sendData(stream: H2Stream, chunk: Buffer, start: number, end: number, isEndStream: boolean): void
  sendHeaders(stream: H2Stream, headers: HeaderList, isEndStream: boolean): void
  sendWindowUpdate(streamId: number, increment: number): void
  sendReset(stream: H2Stream, code: number): void
  /** The stream has something to send, or wants onWritable, when there is room. */
  enqueue(stream: H2Stream): void
  /** Work was done for nothing: takes tokens of the peer's, and cuts the connection when there are too few. */
  spendWaste(tokens: number, what: string): void
  /** The stream is to end with `code` after such a silence of the peer; undefined: as late as the others. */
  askSilence(stream: H2Stream, asked: AskedSilence | undefined, code: number): void
  /** The window of each stream for what comes in. */
  readonly streamWindowBytes: number
  /** The connection's window for what comes in. */
  readonly receiveWindow: ReceiveWindow
  /** The account of what streams hold, and on whose name they hold it. */
  readonly memory: HeldMemory
  readonly owner: string
  readonly caller: string
  /** Both sides have ended, or it was reset. */
  forget(stream: H2Stream): void
}

/** The window is topped up when this part of it was consumed: few updates, and never an empty window in between. */
const WINDOW_UPDATE_PART = 1 / 4
/** What one stream may send before the next one's turn; as much as is read of a socket at once. */
const TURN_BYTES = 64 * 1024
const NOTHING = Buffer.alloc(0)

export class H2Stream implements Holder {
  readonly id: number
  readonly #host: StreamHost
  sink: StreamSink
  /** Whether the stream stands in the connection's queue; kept by the connection. */
  isQueued = false
  /** Whether headers were sent (server) or received (client): before that a reset is a rapid one, or unprocessed. */
  isAnswered = false
  /** Server: when it came, in milliseconds of performance.now(). */
  openedAtMs = 0
  isClosed = false
  /** What its user has written: bytes, and one for the end. */
  written = 0
  isEndReceived = false
  /** Among those that hold memory. */
  listed: Listed | undefined
  #isEndQueued = false
  #isEndSent = false
  /** What is sent in place of a bare end. */
  #trailers: HeaderList | undefined
  /** It was reset, by whomever. */
  #isCut = false
  #sendWindow: number
  #receiveWindow: number
  readonly #updateBytes: number
  #consumed = 0
  /** Delivered to the sink and not consumed yet. */
  #outstanding = 0
  /** What of it was there when the sink had had its first look, and so is held by connection and account; and its memory. */
  #held = 0
  #cost = 0
  #pending: Buffer[] = []
  #pendingAt = 0
  #pendingCost = 0
  #wantsWritable = false
  /** Whether the connection's window was given back for all that is outstanding, whatever becomes of it. */
  #isWindowReturned = false

  constructor(id: number, host: StreamHost, sink: StreamSink, sendWindow: number) {
    this.id = id
    this.#host = host
    this.sink = sink
    this.#sendWindow = sendWindow
    this.#receiveWindow = host.streamWindowBytes
    this.#updateBytes = host.streamWindowBytes * WINDOW_UPDATE_PART
  }

  get heldCost(): number {
    return this.#cost + this.#pendingCost
  }

  get heldBy(): object {
    return this.#host
  }

  get caller(): string {
    return this.#host.caller
  }

  get owner(): string {
    return this.#host.owner
  }

  /** What the peer may still send. */
  get openReceiveWindow(): number {
    return this.#receiveWindow
  }

  /** Whether the peer takes nothing more for now. */
  get isSendWindowShut(): boolean {
    return this.#sendWindow <= 0
  }

  /** Whether bytes that were written wait for the peer's window or the connection; onWritable comes when none is left. */
  get hasUnsent(): boolean {
    return this.#pending.length > 0
  }

  /** Whether end() was called. */
  get isEndQueued(): boolean {
    return this.#isEndQueued
  }

  /** Sends response or request headers. */
  sendHeaders(headers: HeaderList, isEndStream: boolean): void {
    if (this.isClosed) return
    if (isEndStream) this.#isEndQueued = this.#isEndSent = true
    this.#host.sendHeaders(this, headers, isEndStream)
    this.#closeIfDone()
  }

  /** Sends or queues bytes; copies what must wait if the chunk `isTransient`. False: stop until onWritable. */
  write(chunk: Buffer, isTransient: boolean): boolean {
    if (this.isClosed || this.#isEndQueued) return true
    this.written += chunk.length
    let sent = 0
    if (this.#pending.length === 0) {
      // The window is below 0 when the peer took some of it back (RFC 9113 6.9.2).
      const length = Math.min(chunk.length, TURN_BYTES)
      sent = Math.max(0, Math.min(length, this.#sendWindow, this.#host.overflowRoom()))
      if (sent > 0) {
        this.#sendWindow -= sent
        this.#host.sendData(this, chunk, 0, sent, false)
      }
    }
    if (sent === chunk.length && this.#host.dataRoom() > 0) return true
    this.#wantsWritable = true
    this.#host.enqueue(this)
    if (sent < chunk.length)
      this.#postpone(isTransient ? borrowedCopy(chunk, sent) : chunk.subarray(sent))
    return false
  }

  /** Half-closes after what was written, with trailers where there are some. */
  end(trailers?: HeaderList): void {
    if (this.isClosed || this.#isEndQueued) return
    this.#isEndQueued = true
    this.#trailers = trailers
    this.written += 1
    if (this.#pending.length === 0) this.#sendEnd()
  }

  /** Aborts both directions; the peer hears RST_STREAM. The sink hears only onClosed, and drops what it holds. */
  reset(code: number): void {
    if (this.isClosed) return
    this.#host.sendReset(this, code)
    this.#discard()
    this.drop()
    this.#close()
  }

  /** Ends after such a silence of the peer, of which its sink hears by `code`; undefined: as late as others do. */
  askSilence(asked: AskedSilence | undefined, code: number): void {
    if (!this.isClosed) this.#host.askSilence(this, asked, code)
  }

  /** Ends it for a reason of ours: the sink hears of it as of a reset by the peer, with this code; the peer hears CANCEL. */
  cut(code: number): void {
    if (this.isClosed) return
    this.#host.sendReset(this, H2_CODE.cancel)
    this.receiveReset(code, false)
  }

  /**
   * The request ends without what it asked for, after work of ours: its sender pays `tokens` of the account for waste,
   * and who has none left is cut off with all streams. To be called where a server refuses a request.
   */
  wasted(what: string, tokens = 1): void {
    this.#host.spendWaste(tokens, what)
  }

  /** The given bytes have gone on: lets the peer send as many more. */
  consume(bytes: number): void {
    // Nothing is left when it was dropped: the sink only did not know yet.
    if (this.#outstanding === 0) return
    this.#outstanding -= bytes
    let credit = bytes
    if (this.#held > this.#outstanding) credit -= this.#release(this.#held - this.#outstanding)
    if (this.#isWindowReturned) return
    this.#host.receiveWindow.credit(credit)
    if (this.isEndReceived) return
    this.#consumed += bytes
    if (this.#consumed < this.#updateBytes) return
    this.#receiveWindow += this.#consumed
    this.#host.sendWindowUpdate(this.id, this.#consumed)
    this.#consumed = 0
  }

  /** The sink has dropped all that it held. Idempotent. */
  drop(): void {
    this.#returnWindow()
    if (this.#held > 0) this.#release(this.#held)
    this.#outstanding = 0
  }

  /** Memory is short, and this stream's receiver the one that lags most. */
  shed(): void {
    const { isClosed } = this
    if (!isClosed) {
      this.#host.sendReset(this, H2_CODE.enhanceYourCalm)
      this.#discard()
    }
    this.sink.onReset(H2_CODE.enhanceYourCalm, false)
    this.drop()
    if (!isClosed) this.#close()
  }

  // From here on: called by the connection only.

  /** A DATA frame of this cost comes in; false when it overruns the window. */
  takeReceiveWindow(bytes: number): boolean {
    this.#receiveWindow -= bytes
    return this.#receiveWindow >= 0
  }

  /** Payload of a DATA frame whose cost was taken. */
  receiveData(chunk: Buffer): boolean {
    this.#outstanding += chunk.length
    const isKept = this.sink.onData(chunk)
    if (this.#outstanding > this.#held) this.#hold(isKept ? chunk.buffer.byteLength : undefined)
    return isKept
  }

  /** Padding of such a frame: consumed at once. */
  receivePadding(bytes: number): void {
    this.#outstanding += bytes
    this.consume(bytes)
  }

  /** The peer's WINDOW_UPDATE or SETTINGS; false when the window overflows. */
  addSendWindow(bytes: number): boolean {
    this.#sendWindow += bytes
    if (this.#sendWindow > LARGEST_WINDOW_BYTES) return false
    if (this.#pending.length > 0 && this.#sendWindow > 0) this.#host.enqueue(this)
    return true
  }

  /** One turn of sending. Whether it wants another. */
  takeTurn(): boolean {
    let turn = TURN_BYTES
    while (this.#pending.length > 0 && turn > 0) {
      const chunk = this.#pending[0] ?? NOTHING
      const length = Math.min(
        chunk.length - this.#pendingAt,
        this.#sendWindow,
        this.#host.dataRoom(),
        turn,
      )
      if (length <= 0) break
      const start = this.#pendingAt
      this.#pendingAt += length
      if (this.#pendingAt === chunk.length) {
        this.#pending.shift()
        this.#pendingAt = 0
        this.#settle(memoryOf(chunk) + CHUNK_COST_BYTES)
      }
      this.#sendWindow -= length
      turn -= length
      this.#host.sendData(this, chunk, start, start + length, false)
      if (start + length === chunk.length) giveBack(chunk)
    }
    if (this.#pending.length > 0) return this.#sendWindow > 0
    if (this.#isEndQueued) this.#sendEnd()
    if (this.#wantsWritable && this.#host.dataRoom() > 0) {
      this.#wantsWritable = false
      this.sink.onWritable()
    }
    return this.#wantsWritable && this.#pending.length === 0
  }

  /** Server: the request ended with its headers, as isEndReceived says; its sink, which is set by now, hears of it. */
  announceEnd(): void {
    if (!this.#isCut) this.sink.onEnd()
  }

  /** The peer half-closed. */
  receiveEnd(): void {
    if (this.isEndReceived) return
    this.isEndReceived = true
    this.sink.onEnd()
    this.#closeIfDone()
  }

  /** The peer reset it or the connection died. */
  receiveReset(code: number, isUnprocessed: boolean): void {
    if (this.isClosed) return
    this.#discard()
    if (!this.sink.onReset(code, isUnprocessed)) this.drop()
    this.#close()
  }

  #sendEnd(): void {
    if (this.#isEndSent) return
    this.#isEndSent = true
    if (this.#trailers === undefined) this.#host.sendData(this, NOTHING, 0, 0, true)
    else this.#host.sendHeaders(this, this.#trailers, true)
    this.#closeIfDone()
  }

  /** Keeps bytes until the peer's window opens. */
  #postpone(chunk: Buffer): void {
    const { memory } = this.#host
    const cost = memoryOf(chunk) + CHUNK_COST_BYTES
    if (this.heldCost === 0) memory.enter(this)
    this.#pending.push(chunk)
    this.#pendingCost += cost
    memory.take(cost) // may shed this very stream
  }

  /** Postponed bytes are gone. */
  #settle(cost: number): void {
    const { memory } = this.#host
    this.#pendingCost -= cost
    if (this.heldCost === 0) memory.leave(this)
    memory.giveBack(cost)
  }

  #discard(): void {
    this.#isCut = true
    for (const chunk of this.#pending) giveBack(chunk)
    this.#pending = []
    if (this.#pendingCost > 0) this.#settle(this.#pendingCost)
    this.#wantsWritable = false
    this.#returnWindow()
  }

  /** The connection must not lose for good the window that a stream's end leaves outstanding. */
  #returnWindow(): void {
    if (this.#isWindowReturned) return
    const { receiveWindow } = this.#host
    const unheld = this.#outstanding - this.#held
    receiveWindow.credit(unheld + receiveWindow.release(this.#held))
    this.#isWindowReturned = true
  }

  /** What came is not gone yet: counts it with its connection and with the thread. */
  #hold(keptMemory: number | undefined): void {
    const { receiveWindow, memory } = this.#host
    const bytes = this.#outstanding - this.#held
    // A slice that is kept keeps the whole of what was read with it; what was copied is gathered with others.
    let cost = keptMemory === undefined ? bytes : Math.max(bytes, keptMemory) + CHUNK_COST_BYTES
    if (this.#held === 0) cost += HOLDER_COST_BYTES
    if (this.heldCost === 0) memory.enter(this)
    this.#held = this.#outstanding
    this.#cost += cost
    receiveWindow.hold(bytes)
    memory.take(cost) // may shed this very stream
  }

  /** Held bytes are gone. How many of them the peer was credited when they came. */
  #release(bytes: number): number {
    const { receiveWindow, memory } = this.#host
    const isLast = bytes === this.#held
    const freed = isLast ? this.#cost : Math.floor((this.#cost * bytes) / this.#held)
    this.#held -= bytes
    this.#cost -= freed
    const lent = this.#isWindowReturned ? 0 : bytes - receiveWindow.release(bytes)
    if (this.heldCost === 0) memory.leave(this)
    memory.giveBack(freed)
    return lent
  }

  #closeIfDone(): void {
    if (this.#isEndSent && this.isEndReceived) this.#close()
  }

  #close(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.#host.forget(this)
    this.sink.onClosed()
  }
}

/** For streams that were refused at once: what still comes is dropped. */
export const IGNORING_SINK: StreamSink = {
  onHeaders: () => undefined,
  onData: () => false,
  onEnd: () => undefined,
  onReset: () => false,
  onWritable: () => undefined,
  onClosed: () => undefined,
}

/** The code with which a relay passes a TCP reset on (RFC 9113 8.5 names CONNECT_ERROR for the error of the far TCP; peers treat both alike, and ztunnel sends CANCEL). */
export const RELAY_RESET_CODE = H2_CODE.cancel
