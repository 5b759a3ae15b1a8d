// SPDX-License-Identifier: Apache-2.0
// Who is being told much. A whole mesh is tens of megabytes for each client, and a client that comes again says what it holds in nearly as
// many: when all agents come back at once, or a change is about every workload, as many are served at a time as memory was set aside
// for, in the order in which they came, and the others' bytes wait at their end of the wire.

/** What the places need to know, and to have done. */
export interface BulkPlacesOptions<C> {
  /** How many there are now. */
  readonly places: () => number
  /** Who is behind a client. However many clients somebody has, the others' turn comes: see PLACES_OF_ONE. */
  readonly ownerOf: (client: C) => unknown
  /** The client has a place. */
  readonly begin: (client: C) => void
  /** The client has had its place for so long: gives whether it loses it. */
  readonly isOverdue: (client: C) => boolean
  readonly deadlineMs: number
}

/** Of one owner: who comes again before its former stream is known to be dead need not wait for that one's end. */
const PLACES_OF_ONE = 2

/** A queue for a few places. */
export class BulkPlaces<C> {
  readonly #options: BulkPlacesOptions<C>
  readonly #deadlines = new Map<C, NodeJS.Timeout>()
  readonly #waiting = new Set<C>()
  /** Places by owner, of those who have some. */
  readonly #owners = new Map<unknown, number>()

  constructor(options: BulkPlacesOptions<C>) {
    this.#options = options
  }

  /** Whether the client has a place. */
  has(client: C): boolean {
    return this.#deadlines.has(client)
  }

  /** Gives the client a place, now or when it is its turn. */
  enter(client: C): void {
    if (this.has(client)) return
    this.#waiting.add(client)
    this.fill()
  }

  /** The client needs no place any more, or is gone. */
  leave(client: C): void {
    this.#waiting.delete(client)
    const deadline = this.#deadlines.get(client)
    if (deadline === undefined) return
    clearTimeout(deadline)
    this.#deadlines.delete(client)
    const owner = this.#options.ownerOf(client)
    const left = (this.#owners.get(owner) ?? 0) - 1
    if (left > 0) this.#owners.set(owner, left)
    else this.#owners.delete(owner)
    this.fill()
  }

  /** Gives out what places there are: to be called when there are more. */
  fill(): void {
    for (const client of this.#waiting) {
      if (this.#deadlines.size >= this.#options.places()) return
      const owner = this.#options.ownerOf(client)
      const owned = this.#owners.get(owner) ?? 0
      if (owned >= PLACES_OF_ONE) continue
      this.#owners.set(owner, owned + 1)
      this.#waiting.delete(client)
      this.#deadlines.set(client, this.#startDeadline(client))
      this.#options.begin(client)
    }
  }

  stop(): void {
    this.#waiting.clear()
    for (const deadline of this.#deadlines.values()) clearTimeout(deadline)
    this.#deadlines.clear()
    this.#owners.clear()
  }

  #startDeadline(client: C): NodeJS.Timeout {
    const deadline = setTimeout(() => {
      if (this.#options.isOverdue(client)) this.leave(client)
      else this.#deadlines.set(client, this.#startDeadline(client))
    }, this.#options.deadlineMs)
    deadline.unref()
    return deadline
  }
}
