// SPDX-License-Identifier: Apache-2.0
// Reads the socket of one connection: by turns, so that a flood leaves the thread's others theirs, and into a buffer that
// quiet connections share, for thousands of idle ones would hold 16 KiB each. Hot: bench/hbone-relays.ts watches it.

import type { Socket } from 'node:net'
import { TLS_READ_BYTES, readInPlace, sharedReadBuffer } from '../relay/read-in-place.ts'
import { WaitingChunks } from '../relay/waiting-chunks.ts'
import type { H2Intake } from './wire.ts'
import { TurnBudget, type TurnShare } from './turn-budget.ts'

/** Read no more often than this between two calls of takeReads(), and no more at once, a connection is quiet. */
const QUIET_READS = 16
const QUIET_CHUNK_BYTES = 1024
/** Whoever brings so many full records in a row brings bulk, whose records are read one behind the other and acted on together. */
const BULK_RECORDS = 8
const BULK_SLICES = 8

export interface IntakeUser {
  /** Acts on what came, until it is told to stop; how much of it that was. It may leave payload for deliver(). */
  parse(chunk: Buffer): number
  /** Hands on the payload that parse() left. */
  deliver(): void
  /** Ends parse() after what it is at. */
  stop(): void
  /** heldBytes may have changed. */
  account(): void
}

export class Intake implements H2Intake {
  readonly #socket: Socket
  readonly #user: IntakeUser
  readonly #turn: TurnBudget
  /** Of what was parsed last, what was left when the connection's share of the turn was used up: may be empty, see #readOn. */
  #rest: Buffer | undefined
  /** What came after it: gathered, for each byte may have come in a TLS record of its own. */
  readonly #backlog = new WaitingChunks()
  #hasWorked = false
  #reads = 0
  /** Before the last call of takeReads(). */
  #readsBefore = 0
  /** Its own memory, in slices of a record each that are read into one after another; none while it uses the shared one. */
  #slices: readonly Buffer[] = NO_SLICES
  #at = 0
  #fullReads = 0
  #mayShareBuffer = false
  /** Somebody keeps a part of the memory that is read into, or parsed. */
  #isKept = false
  #isClosed = false
  #isDeliveryDue = false
  readonly #deliver = (): void => {
    this.#isDeliveryDue = false
    if (!this.#isClosed) this.#user.deliver()
  }

  /** `share`: what it has of a turn together with others. */
  constructor(socket: Socket, user: IntakeUser, share?: TurnShare) {
    this.#socket = socket
    this.#user = user
    this.#turn = new TurnBudget(() => this.#readOn(), share)
  }

  /** Memory it holds, in bytes. */
  get heldBytes(): number {
    const waiting = this.#backlog.bytes + (this.#rest?.length ?? 0)
    return waiting + this.#slices.length * TLS_READ_BYTES
  }

  /** How often the socket was read, in all. */
  get allReads(): number {
    return this.#readsBefore + this.#reads
  }

  start(): void {
    readInPlace(this.#socket, sharedReadBuffer(), (chunk) => this.#receive(chunk))
  }

  /** Nothing that comes is acted on any more. */
  close(): void {
    this.#isClosed = true
    this.#rest = undefined
    this.#backlog.clear()
    this.#slices = NO_SLICES
    this.#user.stop()
  }

  /** Counts work of the user's in parse(), which ends when there was enough of it for this turn. */
  work(units: number): void {
    this.#hasWorked = true
    if (!this.#turn.spend(units)) this.#user.stop()
  }

  /** Somebody keeps a slice of what was delivered. */
  keepChunk(): void {
    this.#isKept = true
  }

  /** How often the socket was read since the last call, which should come every few seconds. */
  takeReads(): number {
    const reads = this.#reads
    this.#mayShareBuffer = reads <= QUIET_READS
    this.#reads = 0
    this.#readsBefore += reads
    return reads
  }

  /** The buffer to read into from now on, where that is another. */
  #receive(chunk: Buffer): false | Buffer {
    if (this.#isClosed) return false
    this.#reads += 1
    if (this.#turn.isHeld) {
      // Reading has stopped, but TLS still hands on what it had read: at most what one read brought.
      this.#postpone(chunk)
      return false
    }
    if (this.#slices.length === 0) return this.#receiveInShared(chunk)
    const isFull = chunk.length === TLS_READ_BYTES
    this.#fullReads = isFull ? this.#fullReads + 1 : 0
    const isMoreLikely = isFull && this.#at + 1 < this.#slices.length
    this.#take(chunk, isMoreLikely)
    if (!isMoreLikely || this.#turn.isHeld || this.#isClosed) return this.#begin()
    if (!this.#isDeliveryDue) {
      this.#isDeliveryDue = true
      setImmediate(this.#deliver)
    }
    this.#at += 1
    return this.#slices[this.#at] ?? false
  }

  /** Everything was delivered: reads from the first slice on again, or into other memory. */
  #begin(): false | Buffer {
    if (this.#isClosed) return false
    const isKept = this.#isKept
    this.#isKept = false
    if (this.#mayShareBuffer && !isKept) {
      this.#slices = NO_SLICES
      this.#user.account()
      return sharedReadBuffer()
    }
    const count = this.#fullReads >= BULK_RECORDS ? BULK_SLICES : this.#slices.length
    const isAtFirst = this.#at === 0
    this.#at = 0
    if (!isKept && count === this.#slices.length) return isAtFirst ? false : this.#first
    this.#slices = slicesOf(Buffer.allocUnsafeSlow(count * TLS_READ_BYTES))
    this.#user.account()
    return this.#first
  }

  get #first(): false | Buffer {
    return this.#slices[0] ?? false
  }

  /** Nobody may keep a slice of the buffer that others share: the chunk moves first. */
  #receiveInShared(chunk: Buffer): false | Buffer {
    if (chunk.length <= QUIET_CHUNK_BYTES && this.#reads <= QUIET_READS) {
      this.#take(Buffer.from(chunk), false)
      this.#isKept = false
      return false
    }
    this.#mayShareBuffer = false
    const own = Buffer.allocUnsafeSlow(Math.max(TLS_READ_BYTES, chunk.length))
    chunk.copy(own)
    this.#slices = slicesOf(own.subarray(0, TLS_READ_BYTES))
    this.#at = 0
    this.#fullReads = 0
    this.#user.account()
    this.#take(own.subarray(0, chunk.length), false)
    if (this.#isClosed) return false
    return this.#begin() || this.#first
  }

  /** Has the chunk acted on. Its payload is delivered unless more `isLikely`, and comes at once or at the end of the turn. */
  #take(chunk: Buffer, isMoreLikely: boolean): void {
    if (this.#isClosed) return // by account()
    const used = this.#parse(chunk)
    const isHeld = this.#turn.isHeld && !this.#isClosed
    if (!isMoreLikely || isHeld) this.#user.deliver()
    if (!isHeld || this.#isClosed) return
    this.#socket.pause()
    this.#rest = Buffer.from(chunk.subarray(used))
    this.#user.account()
  }

  /** A read that is no work in itself is still one: large frames may come byte by byte. */
  #parse(chunk: Buffer): number {
    this.#hasWorked = false
    const used = this.#user.parse(chunk)
    if (!this.#hasWorked) this.#turn.spend(1)
    return used
  }

  /** The chunk is only valid during the call. */
  #postpone(chunk: Buffer): void {
    this.#backlog.push(chunk.length < TLS_READ_BYTES / 2 ? chunk : Buffer.from(chunk))
    this.#user.account()
  }

  /** The next turn: first what is left of the last one, even if that is nothing: a frame of no length may still have to end. */
  #readOn(): void {
    for (
      let chunk = this.#rest ?? this.#backlog.shift();
      chunk !== undefined;
      chunk = this.#backlog.shift()
    ) {
      this.#rest = undefined
      const used = this.#parse(chunk)
      this.#user.deliver()
      if (this.#isClosed) return
      if (!this.#turn.isHeld) continue
      this.#rest = chunk.subarray(used)
      return
    }
    if (this.#isClosed) return
    this.#user.account()
    this.#socket.resume()
  }
}

const NO_SLICES: readonly Buffer[] = []

/** Cuts memory into slices of a record each. */
function slicesOf(memory: Buffer): readonly Buffer[] {
  return Array.from({ length: memory.length / TLS_READ_BYTES }, (_, slice) =>
    memory.subarray(slice * TLS_READ_BYTES, (slice + 1) * TLS_READ_BYTES),
  )
}
