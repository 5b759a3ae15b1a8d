// SPDX-License-Identifier: Apache-2.0
// What a codec reads from and writes to: bytes, ends and room both ways, by plain calls. A tunnel's HTTP/2 stream is one, a TCP
// connection another, and the tests have theirs. No Duplex, no Promise: this is the hot path of every request.

import type { EndReason } from '../telemetry/end-reason.ts'

/** Who takes what the far end sends. Called in the order of the wire, never from within a call to the pipe itself. */
export interface PipeSink {
  /** Bytes of `chunk` from `from` to `to`, which are valid during the call only. They count against the window until consume(). */
  receive(chunk: Buffer, from: number, to: number): void
  /** The far end half-closed: nothing more comes. */
  ended(): void
  /** It is over both ways before its end, by the far end or by the pipe's owner. Last call; none comes after our own reset(). */
  broken(reason: EndReason): void
  /** write() may go on after it said false. */
  drained(): void
}

export interface Pipe {
  /** Set by whoever takes it over, before the pipe's owner lets bytes in. */
  sink: PipeSink
  /**
   * Takes all of the bytes and is done with them when it returns; what one turn of the event loop brings goes out together. False:
   * the far end is slow; write no more than what is under way until drained(). Without effect after end() or reset(), or when broken.
   */
  write(chunk: Buffer, from: number, to: number): boolean
  /** Half-closes after what was written. Idempotent. */
  end(): void
  /** Cuts both ways. Idempotent. */
  reset(reason: EndReason): void
  /** So many of the bytes received have gone on: the far end may send as many more. What is not consumed is bounded by the window, of 128 KiB at least: twice the largest head. */
  consume(bytes: number): void
}
