// SPDX-License-Identifier: Apache-2.0
// Reads the socket of one connection: by turns, so that a flood leaves the thread's others theirs, and into a buffer that
// quiet connections share, for thousands of idle ones would hold 16 KiB each. Hot: bench/hbone-relays.ts watches it.

import type { Socket } from 'node:net'
import {
  SMALL_CHUNK_BYTES,
  TLS_READ_BYTES,
  readInPlace,
  sharedReadBuffer,
} from '../relay/read-in-place.ts'
import { WaitingChunks } from '../relay/waiting-chunks.ts'
import { TurnBudget, type TurnShare } from './turn-budget.ts'

/** Read no more often than this between two calls of takeReads(), and no more at once, a connection is quiet. */
const QUIET_READS = 16
const QUIET_CHUNK_BYTES = 1024

export interface IntakeUser {
  /** Acts on what came, until it is told to stop; how much of it that was. */
  parse(chunk: Buffer): number
  /** Ends parse() after what it is at. */
  stop(): void
  /** heldBytes may have changed. */
  account(): void
}

export class Intake {
  readonly #socket: Socket
  readonly #user: IntakeUser
  readonly #turn: TurnBudget
  /** Of what was parsed last, what was left when the connection's share of the turn was used up: may be empty, see #readOn. */
  #rest: Buffer | undefined
  /** What came after it: gathered, for each byte may have come in a TLS record of its own. */
  readonly #backlog = new WaitingChunks()
  #hasWorked = false
  #reads = 0
  #hasOwnBuffer = false
  #mayShareBuffer = false
  #isChunkKept = false
  #isClosed = false

  /** `share`: what it has of a turn together with others. */
  constructor(socket: Socket, user: IntakeUser, share?: TurnShare) {
    this.#socket = socket
    this.#user = user
    this.#turn = new TurnBudget(() => this.#readOn(), share)
  }

  /** Memory it holds, in bytes. */
  get heldBytes(): number {
    const waiting = this.#backlog.bytes + (this.#rest?.length ?? 0)
    return waiting + (this.#hasOwnBuffer ? TLS_READ_BYTES : 0)
  }

  start(): void {
    readInPlace(this.#socket, sharedReadBuffer(), (chunk) => this.#receive(chunk))
  }

  /** Nothing that comes is acted on any more. */
  close(): void {
    this.#isClosed = true
    this.#rest = undefined
    this.#backlog.clear()
    this.#user.stop()
  }

  /** Counts work of the user's in parse(), which ends when there was enough of it for this turn. */
  work(units: number): void {
    this.#hasWorked = true
    if (!this.#turn.spend(units)) this.#user.stop()
  }

  /** Somebody keeps a slice of the chunk that is parsed. */
  keepChunk(): void {
    this.#isChunkKept = true
  }

  /** How often the socket was read since the last call, which should come every few seconds. */
  takeReads(): number {
    const reads = this.#reads
    this.#mayShareBuffer = reads <= QUIET_READS
    this.#reads = 0
    return reads
  }

  /** Whether somebody keeps a slice of the chunk, or the buffer to read into from now on. */
  #receive(chunk: Buffer): boolean | Buffer {
    if (this.#isClosed) return false
    this.#reads += 1
    if (this.#turn.isHeld) {
      // Reading has stopped, but TLS still hands on what it had read: at most what one read brought.
      this.#postpone(chunk)
      return false
    }
    if (!this.#hasOwnBuffer) return this.#receiveInShared(chunk)
    const isKept = this.#take(chunk)
    if (isKept || !this.#mayShareBuffer) return isKept
    this.#hasOwnBuffer = false
    this.#user.account()
    return sharedReadBuffer()
  }

  /** Nobody may keep a slice of the buffer that others share: the chunk moves first. */
  #receiveInShared(chunk: Buffer): boolean | Buffer {
    if (chunk.length <= QUIET_CHUNK_BYTES && this.#reads <= QUIET_READS) {
      this.#take(Buffer.from(chunk))
      return false
    }
    this.#hasOwnBuffer = true
    this.#mayShareBuffer = false
    this.#user.account()
    const own = Buffer.allocUnsafeSlow(Math.max(TLS_READ_BYTES, chunk.length))
    chunk.copy(own)
    const isKept = this.#take(own.subarray(0, chunk.length))
    return isKept ? Buffer.allocUnsafeSlow(TLS_READ_BYTES) : own
  }

  /** Whether somebody keeps a slice of the chunk. */
  #take(chunk: Buffer): boolean {
    if (this.#isClosed) return false // by account()
    this.#isChunkKept = false
    const used = this.#parse(chunk)
    if (this.#turn.isHeld && !this.#isClosed) {
      this.#socket.pause()
      this.#rest = Buffer.from(chunk.subarray(used))
      this.#user.account()
    }
    return this.#isChunkKept
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
    this.#backlog.push(chunk.length < SMALL_CHUNK_BYTES ? chunk : Buffer.from(chunk))
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
