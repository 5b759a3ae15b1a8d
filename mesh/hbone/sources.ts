// SPDX-License-Identifier: Apache-2.0
// What each caller of this worker's pods has used up: connections it has open, and work it made us do for nothing. It outlives
// connections, so that nothing is gained by reconnecting, and is shared by all pods of the worker, so that nothing is gained
// by going from pod to pod.
//
// Whose fault a refusal is decides who pays (wasteOf). The sender's: a request that is malformed or not for this pod (400), headers
// over the limit (431), a reset before our answer and within 100 ms, a handshake that comes to nothing, a connection without a single request. Not the
// sender's, and free: 503, because the app is down, the pod has too many connections, or it is going. A caller that meets
// such a pod with thousands of tunnels is as honest as any other, and what it costs is what a served tunnel costs. 401 and 403 cost
// little: policy says no before the app is dialled, and an app that tries again is no attacker.
//
// Who "the caller" is: on a connection that is authenticated its identity, together with its address where that is a workload of the
// mesh: pods that share a service account must not pay for one another. An identity at any other address counts as one, for
// addresses outside the mesh are as many as one likes. Before authentication it is the address alone (sourceKey).

import type { BucketSize, MonotonicClock } from '../async/bucket.ts'
import { KeyedBuckets } from '../async/keyed-buckets.ts'
import { PerSource } from '../async/per-source.ts'
import type { H2Accounts } from '../http2/budget.ts'
import { TurnShare } from '../http2/turn-budget.ts'
import type { IpAddress, SpiffeId } from '../model/types.ts'
import type { EndReason } from '../telemetry/end-reason.ts'
import { type KnockLimits, Knocking, sourceKey } from './knocking.ts'
import {
  ACCEPT_DEADLINE_MS,
  MAX_CONNECTIONS_OF_ADDRESS,
  MAX_CONNECTIONS_OF_IDENTITY,
  MAX_CONNECTIONS_PER_SOURCE,
  MAX_UNAUTHENTICATED,
  SHORTEST_ACCEPT_DEADLINE_MS,
  handshakeBounds,
} from './limits.ts'

/** Requests of one caller to one pod that led to nothing by its fault: an honest one has next to none. */
const WASTE: BucketSize = { burst: 400, perSecond: 200 }
/** Frames without content of one caller to one pod, over all its connections: 128 idle ones ping 13 times a second. */
const CONTROL: BucketSize = { burst: 1_000, perSecond: 100 }
/** Handshakes of one address that came to nothing: each costs about a millisecond of the worker. */
const FAILED_HANDSHAKES: BucketSize = { burst: 200, perSecond: 20 }
/**
 * Handshakes of one address with one pod that were done: all the connections it may have (limits.ts), and their successors at a
 * renewal. Whoever keeps its connections makes few; a handshake each call would cost the worker more than the call.
 */
const HANDSHAKES_TO_POD: BucketSize = { burst: 2 * MAX_CONNECTIONS_PER_SOURCE, perSecond: 20 }
/** The same with all pods of the worker: at worst a twentieth of it. */
const HANDSHAKES: BucketSize = { burst: MAX_CONNECTIONS_OF_ADDRESS, perSecond: 50 }
/** How long a caller is kept out after a flood: floods become rare, and an honest caller with a bug is soon back. */
const SHUT_OUT_MS = 5_000
/** What a pod can do with when its identity has used up its connections: one to each of some pods. */
const FEW_CONNECTIONS = 16
/** Bounds memory; whoever floods from more callers than this at once loses the oldest of its bans. */
const MAX_SHUT_OUT = 10_000

/** Besides the seven or so that HTTP/2 takes for their size (http2/conduct.ts). */
const WASTE_OF_TOO_LARGE = 2
const WASTE_OF_DENIED = 0.25

/** What a caller pays for an answer, in tokens of its account for waste; see the top of this file. */
export function wasteOf(status: number): number {
  switch (status) {
    case 431:
      return WASTE_OF_TOO_LARGE
    case 400:
      return 1
    case 401:
    case 403:
      return WASTE_OF_DENIED
    default:
      return 0
  }
}

/** For tests; defaults to those of limits.ts. */
export interface SourceBounds extends KnockLimits {
  readonly ofAddress: number
  readonly ofIdentity: number
  readonly shutOutMs: number
  readonly handshakesToPod: BucketSize
  readonly handshakes: BucketSize
  /** Tests pass their own. */
  readonly now: MonotonicClock
}

/** Where the descriptors of connections are counted, beside those of others. */
export interface DescriptorAccount {
  /** False when there is none left. */
  takeDescriptor(isOneOfFew: boolean): boolean
  giveDescriptor(): void
}

const UNCOUNTED: DescriptorAccount = { takeDescriptor: () => true, giveDescriptor: () => undefined }

export interface TurnedAway {
  readonly reason: EndReason
  readonly message: string
}

/** An authenticated caller's connection, as far as it is accounted for. */
export interface Seat {
  /** By whom the caller's accounts are kept. */
  readonly caller: string
  readonly accounts: H2Accounts
  /** The connection was ended for a flood: the caller stays out for a while. */
  flooded(): void
  /** The connection is over. To be called once. */
  leave(): void
}

export class HboneSources {
  /** Who is in the handshake. */
  readonly knocking: Knocking
  readonly #shutOutMs: number
  readonly #descriptors: DescriptorAccount
  readonly #now: MonotonicClock
  readonly #waste: KeyedBuckets
  readonly #control: KeyedBuckets
  readonly #wastedHandshakes: KeyedBuckets
  readonly #handshakes: KeyedBuckets
  readonly #handshakesToPod: KeyedBuckets
  readonly #turns = new Turns()
  readonly #ofAddress: PerSource
  readonly #ofIdentity: PerSource
  /** Until when, in milliseconds of performance.now(); the oldest first. */
  readonly #shutOut = new Map<string, number>()

  constructor(bounds: Partial<SourceBounds> = {}, descriptors: DescriptorAccount = UNCOUNTED) {
    this.#descriptors = descriptors
    this.knocking = new Knocking({
      deadlineMs: ACCEPT_DEADLINE_MS,
      shortestDeadlineMs: SHORTEST_ACCEPT_DEADLINE_MS,
      ...handshakeBounds(MAX_UNAUTHENTICATED),
      ...bounds,
    })
    this.#now = bounds.now ?? (() => performance.now())
    this.#waste = new KeyedBuckets(WASTE, this.#now)
    this.#control = new KeyedBuckets(CONTROL, this.#now)
    this.#wastedHandshakes = new KeyedBuckets(FAILED_HANDSHAKES, this.#now)
    this.#handshakes = new KeyedBuckets(bounds.handshakes ?? HANDSHAKES, this.#now)
    this.#handshakesToPod = new KeyedBuckets(bounds.handshakesToPod ?? HANDSHAKES_TO_POD, this.#now)
    const total = Number.POSITIVE_INFINITY // file descriptors bound them all together
    this.#shutOutMs = bounds.shutOutMs ?? SHUT_OUT_MS
    this.#ofAddress = new PerSource({
      perSource: bounds.ofAddress ?? MAX_CONNECTIONS_OF_ADDRESS,
      total,
    })
    this.#ofIdentity = new PerSource({
      perSource: bounds.ofIdentity ?? MAX_CONNECTIONS_OF_IDENTITY,
      total,
    })
  }

  /** Why there will not even be a handshake; undefined when there will. */
  turnAway(pod: string, address: IpAddress, isKnown: boolean): TurnedAway | undefined {
    const key = sourceKey(address, isKnown)
    // Strangers may share an address with others, whom a flood must not shut out: theirs is asked by identity, after TLS.
    if (isKnown && this.#isShutOut(`${pod} ${key}`)) return afterFlood(key)
    if (!this.#wastedHandshakes.peek(key))
      return { reason: 'floodRefused', message: `too many handshakes of ${key} came to nothing` }
    if (!this.#handshakes.peek(key) || !this.#handshakesToPod.peek(`${pod} ${key}`))
      return { reason: 'floodRefused', message: `${key} makes one handshake after another` }
    if (!this.#ofAddress.hasRoom(key)) return tooMany(key, this.#ofAddress.of(key))
    return undefined
  }

  /** A handshake came to nothing, or what it led to was worth nothing. */
  handshakeWasted(address: IpAddress, isKnown: boolean): void {
    this.#wastedHandshakes.of(sourceKey(address, isKnown)).charge(1)
  }

  /** A handshake is done, whatever it leads to: the signature for it was made. */
  handshakeDone(pod: string, address: IpAddress, isKnown: boolean): void {
    const key = sourceKey(address, isKnown)
    this.#handshakes.of(key).charge(1)
    this.#handshakesToPod.of(`${pod} ${key}`).charge(1)
  }

  /** Takes in an authenticated caller, or says why not. */
  enter(pod: string, address: IpAddress, isKnown: boolean, identity: SpiffeId): Seat | TurnedAway {
    const addressKey = sourceKey(address, isKnown)
    const who = isKnown ? `${identity} ${address}` : identity
    const caller = `${pod} ${who}`
    if (this.#isShutOut(caller)) return afterFlood(identity)
    if (!this.#ofAddress.enter(addressKey))
      return tooMany(addressKey, this.#ofAddress.of(addressKey))
    const isCounted = this.#ofIdentity.enter(identity)
    // Pods of one service account must not keep each other out: a workload of the mesh gets a few connections in any case.
    const isOneOfFew = isKnown && this.#ofAddress.of(addressKey) <= FEW_CONNECTIONS
    if (!isCounted && !isOneOfFew) {
      this.#ofAddress.leave(addressKey)
      return tooMany(identity, this.#ofIdentity.of(identity))
    }
    if (!this.#descriptors.takeDescriptor(isOneOfFew)) {
      this.#ofAddress.leave(addressKey)
      if (isCounted) this.#ofIdentity.leave(identity)
      return {
        reason: 'tooManyConnections',
        message: 'the file descriptors for connections are used up',
      }
    }
    return {
      caller,
      accounts: {
        waste: this.#waste.of(caller),
        control: this.#control.of(caller),
        turn: this.#turns.enter(who),
      },
      flooded: () => {
        this.#shut(caller)
        if (isKnown) this.#shut(`${pod} ${addressKey}`)
      },
      leave: () => {
        this.#ofAddress.leave(addressKey)
        if (isCounted) this.#ofIdentity.leave(identity)
        this.#descriptors.giveDescriptor()
        this.#turns.leave(who)
      },
    }
  }

  #isShutOut(key: string): boolean {
    const until = this.#shutOut.get(key)
    if (until === undefined) return false
    if (until > this.#now()) return true
    this.#shutOut.delete(key)
    return false
  }

  #shut(key: string): void {
    this.#shutOut.delete(key)
    const now = this.#now()
    this.#shutOut.set(key, now + this.#shutOutMs)
    for (const [oldest, until] of this.#shutOut) {
      if (until > now && this.#shutOut.size <= MAX_SHUT_OUT) return
      this.#shutOut.delete(oldest)
    }
  }
}

/** The share of a turn of each caller that has connections, to whichever pods. */
class Turns {
  readonly #shares = new Map<string, { readonly share: TurnShare; connections: number }>()

  enter(caller: string): TurnShare {
    let known = this.#shares.get(caller)
    if (known === undefined) {
      known = { share: new TurnShare(), connections: 0 }
      this.#shares.set(caller, known)
    }
    known.connections += 1
    return known.share
  }

  leave(caller: string): void {
    const known = this.#shares.get(caller)
    if (known === undefined) return
    known.connections -= 1
    if (known.connections === 0) this.#shares.delete(caller)
  }
}

function afterFlood(who: string): TurnedAway {
  return { reason: 'floodRefused', message: `${who} flooded this pod a moment ago` }
}

function tooMany(who: string, count: number): TurnedAway {
  const message = `${who} has ${count} HBONE connections to the pods here already`
  return { reason: 'tooManyConnections', message }
}
