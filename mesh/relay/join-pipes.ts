// SPDX-License-Identifier: Apache-2.0
// Joins two pipes: bytes, half-close, resets and backpressure both ways. What splice() is for a socket and a tunnel, of any two pipes.

import type { Pipe, PipeSink } from '../http/pipe.ts'
import type { ByteCounts } from '../telemetry/connection-record.ts'
import type { EndReason } from '../telemetry/end-reason.ts'

/** Two pipes that are joined until both directions have ended or either was cut. */
export interface JoinedPipes {
  counts(): ByteCounts
  /** Cuts both. Without effect when they are over. */
  cut(reason: EndReason): void
}

/** Joins them; their owner starts those that do not run yet. `onOver` hears once, never from within this call. */
export function joinPipes(
  downstream: Pipe,
  upstream: Pipe,
  onOver: (end: EndReason) => void,
): JoinedPipes {
  return new Join(downstream, upstream, onOver)
}

class Join implements JoinedPipes {
  readonly #toUpstream: Direction
  readonly #toDownstream: Direction
  readonly #onOver: (end: EndReason) => void
  #isOver = false

  constructor(downstream: Pipe, upstream: Pipe, onOver: (end: EndReason) => void) {
    this.#onOver = onOver
    this.#toUpstream = new Direction(downstream, upstream, this)
    this.#toDownstream = new Direction(upstream, downstream, this)
    downstream.sink = this.#toUpstream
    upstream.sink = this.#toDownstream
  }

  counts(): ByteCounts {
    return {
      bytesToUpstream: this.#toUpstream.bytes,
      bytesToDownstream: this.#toDownstream.bytes,
    }
  }

  cut(reason: EndReason): void {
    if (this.#isOver) return
    this.#toUpstream.from.reset(reason)
    this.#toDownstream.from.reset(reason)
    this.over(reason)
  }

  over(end: EndReason): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#onOver(end)
  }

  ended(): void {
    if (this.#toUpstream.isEnded && this.#toDownstream.isEnded) this.over('ok')
  }

  /** There is room again for what goes the other way than `direction`. */
  drained(direction: Direction): void {
    const other = direction === this.#toUpstream ? this.#toDownstream : this.#toUpstream
    other.consumeHeld()
  }
}

/** What one pipe receives and the other is given. */
class Direction implements PipeSink {
  readonly from: Pipe
  readonly #to: Pipe
  readonly #join: Join
  bytes = 0
  isEnded = false
  /** Given on while there was no room: the far end gets no more window for it. */
  #held = 0

  constructor(from: Pipe, to: Pipe, join: Join) {
    this.from = from
    this.#to = to
    this.#join = join
  }

  receive(chunk: Buffer, from: number, to: number): void {
    const length = to - from
    this.bytes += length
    if (this.#to.write(chunk, from, to) && this.#held === 0) this.from.consume(length)
    else this.#held += length
  }

  ended(): void {
    this.isEnded = true
    this.#to.end()
    this.#join.ended()
  }

  broken(reason: EndReason): void {
    this.#to.reset(reason)
    this.#join.over(reason)
  }

  drained(): void {
    this.#join.drained(this)
  }

  consumeHeld(): void {
    const held = this.#held
    this.#held = 0
    if (held > 0) this.from.consume(held)
  }
}
