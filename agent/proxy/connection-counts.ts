// SPDX-License-Identifier: Apache-2.0
// How many connections each pod has open, and how many descriptors all of them use, over all workers: a call inside the node is carried by its caller's worker, and still
// counts for the pod that is called. Each worker writes cells of its own, so there is nothing to lock, and what a worker that died
// had counted can be struck out.

/** Kubernetes runs a few hundred pods on a node; seats are given in turn, so one is not used again for long. */
const SEATS = 65_536
/** Behind the pods' own: descriptors in use, those of them of HBONE connections, and how many pods have connections. */
const DESCRIPTORS = SEATS
const SHARED_CONNECTIONS = SEATS + 1
const ACTIVE_PODS = SEATS + 2
const ROWS = SEATS + 3

/** The cells, as threads hand them to one another: one of each worker for each pod. */
export interface CountTable {
  readonly cells: SharedArrayBuffer
  readonly workers: number
}

/** Makes the table. Its pages take memory only when they are written. */
export function countTable(workers: number): CountTable {
  return {
    cells: new SharedArrayBuffer(ROWS * workers * Int32Array.BYTES_PER_ELEMENT),
    workers,
  }
}

/** Gives each pod its seat in the table. */
export class Seats {
  readonly #taken = new Set<number>()
  #next = 0

  /** The longest unused seat. */
  take(): number {
    if (this.#taken.size === SEATS) throw new Error(`more than ${SEATS} pods on one node`)
    while (this.#taken.has(this.#next)) this.#next = (this.#next + 1) % SEATS
    const seat = this.#next
    this.#taken.add(seat)
    this.#next = (this.#next + 1) % SEATS
    return seat
  }

  giveBack(seat: number): void {
    this.#taken.delete(seat)
  }
}

/** Strikes out what a worker had counted. Only when it is dead. */
export function strikeOut({ cells, workers }: CountTable, worker: number): void {
  const counts = new Int32Array(cells)
  for (let cell = worker; cell < counts.length; cell += workers)
    if (counts[cell] !== 0) counts[cell] = 0
}

/** The counts as one worker writes and reads them. Hot: once per connection and end of it. */
export class ConnectionCounts {
  readonly #counts: Int32Array
  /** How many workers count. */
  readonly workers: number
  readonly #worker: number

  constructor({ cells, workers }: CountTable, worker: number) {
    this.#counts = new Int32Array(cells)
    this.workers = workers
    this.#worker = worker
  }

  /** Counts one more connection of the pod, unless that would be more than `limit`. */
  enter(seat: number, limit: number): boolean {
    // First counted, then looked: of two workers that do so at once neither can miss the other.
    Atomics.add(this.#counts, this.#cell(seat), 1)
    if (this.of(seat) <= limit) return true
    this.leave(seat)
    return false
  }

  leave(seat: number): void {
    Atomics.sub(this.#counts, this.#cell(seat), 1)
  }

  /** This worker's connections use so many descriptors more, or less. */
  use(descriptors: number): void {
    Atomics.add(this.#counts, this.#cell(DESCRIPTORS), descriptors)
  }

  /** Descriptors that the connections of all workers use. */
  get descriptors(): number {
    return this.of(DESCRIPTORS)
  }

  /** Descriptors that this worker's connections use. */
  get ownDescriptors(): number {
    return Atomics.load(this.#counts, this.#cell(DESCRIPTORS))
  }

  /** So many connections more, or less, that carry those of many: each uses a descriptor. */
  share(connections: number): void {
    Atomics.add(this.#counts, this.#cell(SHARED_CONNECTIONS), connections)
    this.use(connections)
  }

  /** Connections that carry those of many, in all workers. */
  get sharedConnections(): number {
    return this.of(SHARED_CONNECTIONS)
  }

  /** So many pods more, or less, have connections in this worker. */
  pods(change: number): void {
    Atomics.add(this.#counts, this.#cell(ACTIVE_PODS), change)
  }

  /** Pods with connections; one that has some in several workers counts in each. */
  get activePods(): number {
    return this.of(ACTIVE_PODS)
  }

  /** Connections of the pod in all workers. */
  of(seat: number): number {
    let sum = 0
    const first = seat * this.workers
    for (let worker = 0; worker < this.workers; worker += 1)
      sum += Atomics.load(this.#counts, first + worker)
    return sum
  }

  #cell(seat: number): number {
    return seat * this.workers + this.#worker
  }
}
