// SPDX-License-Identifier: Apache-2.0
// What came from one side and the other side has not taken yet, added up over all HTTP/2 connections of a thread.
// Each connection is bounded by its window; this bounds their sum: over the limit, whoever holds the most is reset.
// Below the limit it costs a few additions where a receiver lags, and nothing where it keeps up
// (bench/hbone-relays.ts watches that).

import { Roster, type RosterMember } from '../async/roster.ts'

/** What a kept chunk costs beside its bytes: buffer, backing store and queue entry, as measured on Node 26. */
export const CHUNK_COST_BYTES = 600
/** What the first waiting bytes of a stream cost, however few: lists, and a buffer for small chunks to gather in. */
export const HOLDER_COST_BYTES = 2048

/** One stream that holds something. */
export interface Holder extends RosterMember {
  /** Memory it holds, in bytes. */
  readonly heldCost: number
  /** Its connection: of the caller's, the heaviest is relieved first. */
  readonly heldBy: object
  /** On whose account: of all, the heaviest is relieved first, so that others do not pay for it. */
  readonly owner: string
  /** Who makes the owner hold it: of the owner's callers, the heaviest is relieved first, so that it cannot hurt the others. */
  readonly caller: string
  /** Resets the stream, and drops what it holds. */
  shed(): void
}

/** A connection that was refused a loan: asked again when memory came back. */
export interface Borrower {
  lend(): void
}

/** Loans are granted up to this part of the limit; the rest is for the windows of those who got none. */
const LENDABLE_PART = 1 / 2
/** Once over the limit, this part of it is freed: looking for the heaviest holder costs a walk over all. */
const RELIEF_PART = 1 / 64
/** Who was refused a loan is asked again each time this part of the limit came back. */
const ASK_AGAIN_PART = 1 / 64

export class HeldMemory {
  readonly #holders = new Roster<Holder>()
  readonly #refused = new Set<Borrower>()
  #limit: number
  #total = 0
  #askBelow = 0
  #isShedding = false

  constructor(limitBytes: number) {
    this.#limit = limitBytes
  }

  /** Bytes held now, by all. */
  get total(): number {
    return this.#total
  }

  /** What may still be lent; below 0 when memory is short. */
  get lendable(): number {
    return this.#limit * LENDABLE_PART - this.#total
  }

  setLimit(bytes: number): void {
    this.#limit = bytes
    if (this.#total > bytes) this.#relieve()
  }

  /** The first bytes of a holder. */
  enter(holder: Holder): void {
    this.#holders.add(holder)
  }

  /** It holds nothing any more. */
  leave(holder: Holder): void {
    this.#holders.delete(holder)
  }

  /** A holder took more; may shed any holder, itself included. */
  take(bytes: number): void {
    this.#total += bytes
    if (this.#total > this.#limit) this.#relieve()
  }

  giveBack(bytes: number): void {
    this.#total -= bytes
    if (this.#total < this.#askBelow) this.#askAgain()
  }

  refused(borrower: Borrower): void {
    this.#refused.add(borrower)
    this.#askBelow = Math.max(this.#askBelow, this.#total - this.#limit * ASK_AGAIN_PART)
  }

  /** Its connection is gone. */
  forget(borrower: Borrower): void {
    this.#refused.delete(borrower)
  }

  #askAgain(): void {
    this.#askBelow = 0
    const refused = [...this.#refused]
    this.#refused.clear()
    for (const borrower of refused) borrower.lend()
  }

  #relieve(): void {
    if (this.#isShedding) return
    this.#isShedding = true
    const goal = this.#limit * (1 - RELIEF_PART)
    for (const holder of greediestFirst(this.#holders)) {
      if (this.#total <= goal) break
      holder.shed()
      this.#holders.delete(holder)
    }
    this.#isShedding = false
  }
}

/** What the streams of one connection hold. */
interface Load {
  readonly cost: number
  readonly streams: Holder[]
}

/** What the connections of one caller hold, the heaviest last. */
interface CallerLoad {
  cost: number
  readonly connections: Load[]
}

/** What the callers of one owner make it hold. */
interface OwnerLoad {
  cost: number
  readonly callers: readonly CallerLoad[]
}

/**
 * The streams of the heaviest connection of the heaviest caller of the heaviest owner, the heaviest first, then those of whichever
 * connection is next. All are looked at once, however many are taken: with 100,000 of them another look would stall the thread.
 */
function* greediestFirst(holders: Iterable<Holder>): Generator<Holder> {
  const owners = [...Map.groupBy(holders, (holder) => holder.owner).values()].map(loadOfOwner)
  for (;;) {
    const owner = heaviest(owners)
    const caller = owner && heaviest(owner.callers)
    const connection = caller?.connections.pop()
    if (owner === undefined || caller === undefined || connection === undefined) return
    owner.cost -= connection.cost
    caller.cost -= connection.cost
    yield* connection.streams.sort((one, other) => other.heldCost - one.heldCost)
  }
}

function loadOfOwner(holders: readonly Holder[]): OwnerLoad {
  const callers = [...Map.groupBy(holders, (holder) => holder.caller).values()].map(loadOfCaller)
  return { cost: sumOf(callers), callers }
}

function loadOfCaller(holders: readonly Holder[]): CallerLoad {
  const connections = [...Map.groupBy(holders, (holder) => holder.heldBy).values()]
    .map((streams) => ({ cost: costOf(streams), streams }))
    .sort((one, other) => one.cost - other.cost)
  return { cost: sumOf(connections), connections }
}

function costOf(streams: readonly Holder[]): number {
  return streams.reduce((sum, { heldCost }) => sum + heldCost, 0)
}

function sumOf(loads: readonly { readonly cost: number }[]): number {
  return loads.reduce((sum, { cost }) => sum + cost, 0)
}

function heaviest<Loaded extends { readonly cost: number }>(
  loads: readonly Loaded[],
): Loaded | undefined {
  return loads.reduce<Loaded | undefined>(
    (most, load) => (most === undefined || load.cost > most.cost ? load : most),
    undefined,
  )
}
