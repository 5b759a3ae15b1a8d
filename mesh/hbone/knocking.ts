// SPDX-License-Identifier: Apache-2.0
// Connections to a worker's pods whose handshake is not done: strangers until it is. Nobody who comes is turned away for those who are
// there: when there are too many, the oldest silent one of the source that has the most gives way. An honest handshake takes
// milliseconds and stands alone, so it is never that one, and whoever sends nothing keeps nobody out.

import { sourceNetwork } from '../model/address.ts'
import type { IpAddress } from '../model/types.ts'

export interface KnockLimits {
  /** From accept to the peer's first SETTINGS while few knock, in milliseconds. */
  readonly deadlineMs: number
  /** The same while as many knock as may. */
  readonly shortestDeadlineMs: number
  readonly unauthenticated: number
  readonly unauthenticatedPerSource: number
  /** Of `unauthenticated`, the places that only addresses of the mesh's workloads may take. */
  readonly reservedForMesh: number
}

/** One connection in its handshake, as far as its place depends on it. */
export interface Knocker {
  /** Bytes that came so far. */
  readonly bytesRead: number
  /** Called when its place is taken, after it was forgotten here: it is to be cut. */
  giveWay(message: string): void
}

interface Source {
  readonly isKnown: boolean
  /** The oldest first. */
  readonly knockers: Set<Knocker>
}

/**
 * What an address is counted by. A workload of the mesh stands for itself: all pods of a node may share an IPv6 /64, and one
 * of them must not use up what is the others'. Of strangers the /64 is one source, for a machine has all of its addresses.
 */
export function sourceKey(address: IpAddress, isKnown: boolean): string {
  return isKnown ? address : sourceNetwork(address)
}

/** Adding costs a look at each source only when the places are used up, which they are under attack alone. */
export class Knocking {
  readonly #limits: KnockLimits
  /** The source that began to knock first stands first. */
  readonly #sources = new Map<string, Source>()
  readonly #keys = new Map<Knocker, string>()
  #strangers = 0

  constructor(limits: KnockLimits) {
    this.#limits = limits
  }

  get size(): number {
    return this.#keys.size
  }

  /** Makes room, then takes it in. How long its handshake may take, in milliseconds: the shorter, the more there are. */
  add(address: IpAddress, isKnown: boolean, knocker: Knocker): number {
    const key = sourceKey(address, isKnown)
    this.#makeRoom(key, isKnown)
    let source = this.#sources.get(key)
    if (source === undefined) this.#sources.set(key, (source = { isKnown, knockers: new Set() }))
    source.knockers.add(knocker)
    this.#keys.set(knocker, key)
    if (!source.isKnown) this.#strangers += 1
    const { deadlineMs, shortestDeadlineMs, unauthenticated } = this.#limits
    const spread = Math.max(0, deadlineMs - shortestDeadlineMs)
    return Math.round(deadlineMs - spread * Math.min(1, this.size / unauthenticated))
  }

  /** Its handshake is over, one way or the other; false when it was not here any more. */
  delete(knocker: Knocker): boolean {
    const key = this.#keys.get(knocker)
    const source = key === undefined ? undefined : this.#sources.get(key)
    if (key === undefined || source === undefined) return false
    this.#keys.delete(knocker)
    source.knockers.delete(knocker)
    if (source.knockers.size === 0) this.#sources.delete(key)
    if (!source.isKnown) this.#strangers -= 1
    return true
  }

  #makeRoom(key: string, isKnown: boolean): void {
    const { unauthenticated, unauthenticatedPerSource, reservedForMesh } = this.#limits
    const own = this.#sources.get(key)
    if (own !== undefined && own.knockers.size >= unauthenticatedPerSource)
      return this.#evictFrom(own, key)
    const isFull = this.size >= unauthenticated
    if (!isFull && (isKnown || this.#strangers < unauthenticated - reservedForMesh)) return
    const [greediestKey, greediest] = this.#greediest() ?? []
    if (greediestKey !== undefined && greediest !== undefined)
      this.#evictFrom(greediest, greediestKey)
  }

  /** The source that has the most; a workload of the mesh only when no stranger is there. */
  #greediest(): readonly [string, Source] | undefined {
    let found: readonly [string, Source] | undefined
    for (const entry of this.#sources) {
      const [, source] = entry
      const best = found?.[1]
      if (
        best === undefined ||
        (best.isKnown && !source.isKnown) ||
        (best.isKnown === source.isKnown && best.knockers.size < source.knockers.size)
      )
        found = entry
    }
    return found
  }

  #evictFrom({ knockers }: Source, key: string): void {
    const [oldest] = knockers
    let chosen = oldest
    for (const knocker of knockers)
      if (knocker.bytesRead === 0) {
        chosen = knocker
        break
      }
    if (chosen === undefined) return
    const message = `gave way to newcomers: ${this.size} connections were in their handshake, ${knockers.size} of them from ${key}`
    this.delete(chosen)
    chosen.giveWay(message)
  }
}
