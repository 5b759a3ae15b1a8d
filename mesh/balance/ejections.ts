// SPDX-License-Identifier: Apache-2.0
// Endpoints of services at which connections of one pod failed, and are to be left alone for a while: one that failed is
// ejected, for longer each time; then one connection tries it, and when that opens, all may. What is kept ends with its
// endpoint, is bounded, and belongs to a pod alone: a pod can make connections fail on purpose, or run an endpoint that
// refuses whom it likes, and must not turn other pods away from anybody by it.
//
// Pure but for the clock that it is given. Hot: asked once for each endpoint per connection while anything is ejected.

import type { WorkloadUid } from '../model/types.ts'

/** Long enough for a burst of connections to find others, short enough for an app that restarts not to be missed. */
const FIRST_MS = 1_000
/** An endpoint that swallows connections costs one of them its connect time-out (10 s) this often at most. */
const LONGEST_MS = 64_000
/** Of one pod. Whoever has more endpoints failing has other problems than balance. */
const MOST_EJECTIONS = 256

/** A port of an endpoint, as connections dial it. */
export interface EndpointPort {
  readonly endpoint: WorkloadUid
  readonly port: number
}

interface Ejection {
  readonly port: number
  /** Failures of connections that were begun before are those that have been counted already. */
  since: number
  until: number
  /** A connection is under way that tells whether it is over. */
  isOnTrial: boolean
}

export class Ejections {
  /** The longest unchanged first. */
  readonly #byEndpoint = new Map<WorkloadUid, Ejection[]>()
  readonly #now: () => number
  #size = 0

  /** `now` is a monotonic clock in milliseconds. */
  constructor(now: () => number) {
    this.#now = now
  }

  get size(): number {
    return this.#size
  }

  isEjected(endpoint: WorkloadUid, port: number): boolean {
    const ejection = this.#find(endpoint, port)
    return ejection !== undefined && (ejection.isOnTrial || this.#now() < ejection.until)
  }

  /** A connection is about to try the endpoint; whether it is the one that tells if the ejection is over. */
  begin({ endpoint, port }: EndpointPort): boolean {
    const ejection = this.#find(endpoint, port)
    if (ejection === undefined || ejection.isOnTrial || this.#now() < ejection.until) return false
    ejection.isOnTrial = true
    return true
  }

  /** A connection has opened; whether the endpoint was ejected and is so no more. */
  succeeded({ endpoint, port }: EndpointPort): boolean {
    const ejection = this.#find(endpoint, port)
    if (ejection === undefined) return false
    this.#remove(endpoint, ejection)
    return true
  }

  /** A connection that was begun at `begunAt` has failed; how long the endpoint is ejected for it and whether anew, if it is. */
  failed(
    { endpoint, port }: EndpointPort,
    begunAt: number,
  ): { readonly forMs: number; readonly isNew: boolean } | undefined {
    const now = this.#now()
    const before = this.#find(endpoint, port)
    // Of a burst the first one counts; and while all are used, because most are ejected, none does.
    if (before !== undefined && (begunAt < before.since || now < before.until)) return undefined
    const isNew = before === undefined || now - before.until > LONGEST_MS
    const forMs = isNew ? FIRST_MS : Math.min(2 * (before.until - before.since), LONGEST_MS)
    if (before !== undefined) this.#remove(endpoint, before)
    this.#makeRoom(now)
    const ejection = { port, since: now, until: now + forMs, isOnTrial: false }
    const others = this.#byEndpoint.get(endpoint)
    this.#byEndpoint.delete(endpoint)
    this.#byEndpoint.set(endpoint, others === undefined ? [ejection] : [...others, ejection])
    this.#size += 1
    return { forMs, isNew }
  }

  /** The connection that was to tell has told nothing: another may. */
  withoutVerdict({ endpoint, port }: EndpointPort): void {
    const ejection = this.#find(endpoint, port)
    if (ejection !== undefined) ejection.isOnTrial = false
  }

  /** The endpoint is gone. */
  forget(endpoint: WorkloadUid): void {
    this.#size -= this.#byEndpoint.get(endpoint)?.length ?? 0
    this.#byEndpoint.delete(endpoint)
  }

  #find(endpoint: WorkloadUid, port: number): Ejection | undefined {
    return this.#byEndpoint.get(endpoint)?.find((each) => each.port === port)
  }

  #remove(endpoint: WorkloadUid, ejection: Ejection): void {
    const others = this.#byEndpoint.get(endpoint)?.filter((each) => each !== ejection) ?? []
    if (others.length === 0) this.#byEndpoint.delete(endpoint)
    else this.#byEndpoint.set(endpoint, others)
    this.#size -= 1
  }

  /** Forgets what is over and nobody has asked for since; else the oldest. */
  #makeRoom(now: number): void {
    if (this.#size < MOST_EJECTIONS) return
    for (const [endpoint, ejections] of this.#byEndpoint)
      for (const each of ejections)
        if (!each.isOnTrial && now - each.until > LONGEST_MS) this.#remove(endpoint, each)
    const [oldest] = this.#byEndpoint.keys()
    if (this.#size >= MOST_EJECTIONS && oldest !== undefined) this.forget(oldest)
  }
}
