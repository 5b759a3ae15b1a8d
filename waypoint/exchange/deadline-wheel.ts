// SPDX-License-Identifier: Apache-2.0
// Deadlines of requests, cheap to set and to take back: one timer for all of a thread, a list for each slot of time. A deadline comes up
// to one slot late, never early. Hot: up to three a request.

/** Fine enough for what people write in routes, and coarse enough to cost nothing. */
const SLOT_MS = 50
/** A power of two; later deadlines go round again. */
const SLOTS = 512

/** Embedded in whoever waits, one for each thing that it waits for. */
export class Deadline {
  readonly onPassed: () => void
  /** 0: not set. */
  dueAt = 0
  previous: Deadline | undefined
  next: Deadline | undefined
  slot = -1

  constructor(onPassed: () => void) {
    this.onPassed = onPassed
  }
}

/** A clock in milliseconds that only goes forward. */
export type Clock = () => number

export class DeadlineWheel {
  readonly #now: Clock
  readonly #heads: (Deadline | undefined)[] = new Array<Deadline | undefined>(SLOTS).fill(undefined)
  #count = 0
  /** The last slot that was swept. */
  #swept = 0
  #timer: NodeJS.Timeout | undefined

  constructor(now: Clock = () => performance.now()) {
    this.#now = now
  }

  /** By the wheel's clock, in milliseconds. */
  now(): number {
    return this.#now()
  }

  /** Deadlines that are set. */
  get size(): number {
    return this.#count
  }

  /** Sets it, or sets it anew. */
  set(deadline: Deadline, afterMs: number): void {
    this.clear(deadline)
    const now = this.#now()
    if (this.#count === 0) this.#swept = Math.floor(now / SLOT_MS)
    const dueSlot = Math.ceil((now + afterMs) / SLOT_MS)
    deadline.dueAt = dueSlot * SLOT_MS
    const slot = dueSlot % SLOTS
    const head = this.#heads[slot]
    deadline.slot = slot
    deadline.next = head
    if (head !== undefined) head.previous = deadline
    this.#heads[slot] = deadline
    this.#count += 1
    this.#timer ??= setInterval(() => this.sweep(), SLOT_MS).unref()
  }

  /** Takes it back; nothing happens to one that is not set. */
  clear(deadline: Deadline): void {
    if (deadline.slot < 0) return
    const { previous, next, slot } = deadline
    if (previous === undefined) this.#heads[slot] = next
    else previous.next = next
    if (next !== undefined) next.previous = previous
    deadline.previous = undefined
    deadline.next = undefined
    deadline.slot = -1
    deadline.dueAt = 0
    this.#count -= 1
  }

  /** Calls those whose time has come. By the timer, or by tests that have their own clock. */
  sweep(): void {
    const now = this.#now()
    const last = Math.floor(now / SLOT_MS)
    const first = Math.max(this.#swept + 1, last - SLOTS + 1)
    this.#swept = last
    for (let slot = first; slot <= last; slot += 1) this.#sweepSlot(slot % SLOTS, now)
    if (this.#count > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #sweepSlot(slot: number, now: number): void {
    // One at a time, from the head: what is called may set and clear others of the same slot.
    const passed: Deadline[] = []
    for (let at = this.#heads[slot]; at !== undefined; at = at.next)
      if (at.dueAt <= now) passed.push(at)
    for (const deadline of passed) {
      if (deadline.slot !== slot || deadline.dueAt > now) continue
      this.clear(deadline)
      deadline.onPassed()
    }
  }
}
