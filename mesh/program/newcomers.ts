// SPDX-License-Identifier: Apache-2.0
// Connections that have proven nothing yet. They are bounded by address, by network and in all, and over a bound the oldest
// goes, never the newest: silence keeps nobody out, for whoever comes to do something does it at once.

import { sourceNetwork } from '../model/address.ts'

export interface NewcomerLimits {
  readonly perAddress: number
  /** Of one IPv6 /64, of whose addresses any machine may have as many as it likes. */
  readonly perNetwork: number
  readonly total: number
}

/** Which bound a connection had to go for. */
export type NewcomerBound = 'address' | 'network' | 'total'

interface Account {
  readonly address: string
  readonly network: string
}

/** Each operation takes the same time however many there are. */
export class Newcomers<T> {
  readonly #limits: NewcomerLimits
  readonly #evict: (newcomer: T, bound: NewcomerBound) => void
  /** The oldest first, as in the sets below. */
  readonly #accounts = new Map<T, Account>()
  readonly #byAddress = new Map<string, Set<T>>()
  readonly #byNetwork = new Map<string, Set<T>>()

  /** `evict` is told of each newcomer that is no longer kept, and why; it ends the connection. */
  constructor(limits: NewcomerLimits, evict: (newcomer: T, bound: NewcomerBound) => void) {
    this.#limits = limits
    this.#evict = evict
  }

  get size(): number {
    return this.#accounts.size
  }

  /** How many there are from the address. */
  of(address: string): number {
    return this.#byAddress.get(address)?.size ?? 0
  }

  has(newcomer: T): boolean {
    return this.#accounts.has(newcomer)
  }

  /** Takes one in, from the address as a socket tells it. */
  add(address: string, newcomer: T): void {
    const network = sourceNetwork(address)
    const ofAddress = this.#byAddress.get(address)
    if (ofAddress !== undefined && ofAddress.size >= this.#limits.perAddress)
      this.#evictFirst(ofAddress, 'address')
    const ofNetwork = this.#byNetwork.get(network)
    if (ofNetwork !== undefined && ofNetwork.size >= this.#limits.perNetwork)
      this.#evictFirst(ofNetwork, 'network')
    if (this.#accounts.size >= this.#limits.total) this.#evictFirst(this.#accounts.keys(), 'total')
    this.#accounts.set(newcomer, { address, network })
    include(this.#byAddress, address, newcomer)
    include(this.#byNetwork, network, newcomer)
  }

  /** It has proven itself, or is gone; false when it was not here. */
  delete(newcomer: T): boolean {
    const account = this.#accounts.get(newcomer)
    if (account === undefined) return false
    this.#accounts.delete(newcomer)
    exclude(this.#byAddress, account.address, newcomer)
    exclude(this.#byNetwork, account.network, newcomer)
    return true
  }

  #evictFirst(newcomers: Iterable<T>, bound: NewcomerBound): void {
    for (const oldest of newcomers) {
      this.delete(oldest)
      this.#evict(oldest, bound)
      return
    }
  }
}

function include<T>(sets: Map<string, Set<T>>, key: string, member: T): void {
  const set = sets.get(key)
  if (set === undefined) sets.set(key, new Set([member]))
  else set.add(member)
}

function exclude<T>(sets: Map<string, Set<T>>, key: string, member: T): void {
  const set = sets.get(key)
  set?.delete(member)
  if (set?.size === 0) sets.delete(key)
}
