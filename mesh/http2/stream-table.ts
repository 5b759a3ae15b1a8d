// SPDX-License-Identifier: Apache-2.0
// The open streams of a connection by their ids. Not a Map, for the reason that roster.ts gives: the streams of one that has lived for a
// while would outlive their end until the next full collection. Open addressing; what leaves is gone at once. Hot: every frame.

import type { H2Stream } from './stream.ts'

/** Slots of an empty table; always a power of two. */
const FIRST_SLOTS = 8
/** So many are kept, whatever leaves: half a KB, and calls that come and go in bursts would have the table made anew each time. */
const KEPT_SLOTS = 64
/** Ids of one side are two apart. */
const ID_STEP_BITS = 1

type Slots = (H2Stream | undefined)[]

export class StreamTable implements Iterable<H2Stream> {
  #slots: Slots = emptySlots(FIRST_SLOTS)
  #size = 0

  get size(): number {
    return this.#size
  }

  get(id: number): H2Stream | undefined {
    return this.#slots[this.#find(id)]
  }

  /** Its id must not be in. */
  add(stream: H2Stream): void {
    // At most half full, so that searches are short.
    if (2 * (this.#size + 1) > this.#slots.length) this.#resize(2 * this.#slots.length)
    this.#slots[this.#find(stream.id)] = stream
    this.#size += 1
  }

  delete(id: number): void {
    const slots = this.#slots
    const mask = slots.length - 1
    let hole = this.#find(id)
    if (slots[hole] === undefined) return
    slots[hole] = undefined
    this.#size -= 1
    // Whoever stands behind the hole, and would be looked for before it, moves into it.
    for (let at = (hole + 1) & mask; ; at = (at + 1) & mask) {
      const stream = slots[at]
      if (stream === undefined) break
      const wanted = slotOf(stream.id, mask)
      if (((at - wanted) & mask) < ((at - hole) & mask)) continue
      slots[hole] = stream
      slots[at] = undefined
      hole = at
    }
    if (8 * this.#size < slots.length && slots.length > KEPT_SLOTS) this.#resize(slots.length / 2)
  }

  /** Over those that are open now, by their ids: streams may end under way. */
  [Symbol.iterator](): ArrayIterator<H2Stream> {
    const streams = this.#slots.filter((stream) => stream !== undefined)
    return streams.sort((one, other) => one.id - other.id).values()
  }

  /** Where the id is, or would be. */
  #find(id: number): number {
    const slots = this.#slots
    const mask = slots.length - 1
    let at = slotOf(id, mask)
    for (;;) {
      const stream = slots[at]
      if (stream === undefined || stream.id === id) return at
      at = (at + 1) & mask
    }
  }

  #resize(count: number): void {
    const before = this.#slots
    this.#slots = emptySlots(count)
    for (const stream of before)
      if (stream !== undefined) this.#slots[this.#find(stream.id)] = stream
  }
}

function slotOf(id: number, mask: number): number {
  return (id >>> ID_STEP_BITS) & mask
}

function emptySlots(count: number): Slots {
  return new Array<H2Stream | undefined>(count).fill(undefined)
}
