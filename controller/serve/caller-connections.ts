// SPDX-License-Identifier: Apache-2.0
// Connections of callers whose token was good: accounted to the caller, not to an address, for the agents behind one address
// are many callers. Over a bound somebody's oldest connection goes, and that somebody is who has the most.

export interface CallerLimits {
  readonly perCaller: number
  readonly total: number
}

/** Which bound a connection had to go for. */
export type CallerBound = 'caller' | 'total'

export class CallerConnections<T> {
  readonly #limits: CallerLimits
  readonly #evict: (connection: T, bound: CallerBound) => void
  readonly #callers = new Map<T, string>()
  /** Of each caller the oldest first. */
  readonly #byCaller = new Map<string, Set<T>>()

  /** `evict` ends the connection that it is given. */
  constructor(limits: CallerLimits, evict: (connection: T, bound: CallerBound) => void) {
    this.#limits = limits
    this.#evict = evict
  }

  get size(): number {
    return this.#callers.size
  }

  /** Notes whose the connection is. It stays that caller's, whatever other tokens come over it later. */
  add(caller: string, connection: T): void {
    if (this.#callers.has(connection)) return
    const own = this.#byCaller.get(caller) ?? new Set<T>()
    this.#byCaller.set(caller, own)
    own.add(connection)
    this.#callers.set(connection, caller)
    if (own.size > this.#limits.perCaller) this.#evictOldest(own, 'caller')
    else if (this.#callers.size > this.#limits.total) this.#evictOldest(this.#greediest(), 'total')
  }

  delete(connection: T): void {
    const caller = this.#callers.get(connection)
    if (caller === undefined) return
    this.#callers.delete(connection)
    const own = this.#byCaller.get(caller)
    own?.delete(connection)
    if (own?.size === 0) this.#byCaller.delete(caller)
  }

  /** Runs only when all is full, and then once for each caller with a good token. */
  #greediest(): ReadonlySet<T> {
    let most: ReadonlySet<T> = new Set()
    for (const own of this.#byCaller.values()) if (own.size > most.size) most = own
    return most
  }

  #evictOldest(connections: ReadonlySet<T>, bound: CallerBound): void {
    for (const oldest of connections) {
      this.delete(oldest)
      this.#evict(oldest, bound)
      return
    }
  }
}
