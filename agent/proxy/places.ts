// SPDX-License-Identifier: Apache-2.0
// The places that connections take: how many the agent's file descriptors allow, which pod has them, and within a pod whom they are
// for. While there are enough, nobody gives way; when they run short, whoever has the most pays:
//
//  - A pod has at most `perPod` connections. When they are used up, a caller that has less than half of what the greediest caller of
//    the pod has gets a place of that one's (its oldest): a stranger who fills a pod does not lock its other callers out, nor the
//    pod itself from calling.
//  - Over 4/5 of the descriptors, a pod that has more than its fair share gets no more.
//  - Over 9/10, the pods that have more than their fair share lose the oldest connections of their greediest callers, until there
//    is some air: so that what a pod took before others came is not its for ever.
//
// Counts are the node's, over all workers; what gives way is this worker's own. Hot: once per connection and its end.

import type { PodUid } from '../../mesh/model/types.ts'
import { type Listed, Roster, type RosterMember } from '../../mesh/async/roster.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { ConnectionCounts } from './connection-counts.ts'
import type { LocalPod } from './local-pod.ts'

export interface PlaceLimits {
  /** Descriptors for the connections of all workers. */
  readonly descriptors: number
  /** Connections of one pod, both directions together. */
  readonly perPod: number
  /** Descriptors, beside those, for connections in their HBONE handshake, of all workers. */
  readonly handshakes: number
}

/** Whoever sits in a place. */
export interface Occupant {
  /** Ends it; whether this call was the one that did. */
  cut(reason: EndReason): boolean
}

/** From this part of the descriptors on, nobody gets more than a fair share. */
const SHORT_PART = 4 / 5
/** From this part on, those with more than that give way. */
const RELIEF_PART = 9 / 10
/** Of the descriptors, what HBONE connections get of those who have more than a few. */
const SHARED_PART = 1 / 4
/** How much is freed at once, as a part of all: looking for the greediest costs a walk over all pods and callers. */
const AIR_PART = 1 / 64
/** Two sockets: the pod's and the other end's. */
export const DESCRIPTORS_OF_CONNECTION = 2
/** How often a worker looks whether its pods are to give way to those of another worker. */
const RELIEF_INTERVAL_MS = 100
/** A look for the greediest caller of a pod is good for so long: under a flood there is a caller to refuse every few microseconds. */
const GREEDIEST_GOOD_FOR_MS = 100

/** Of one stay of a pod: one that comes back before all of its connections have ended is counted anew. */
interface PodPlaces {
  /** By caller, the oldest place first. */
  readonly byCaller: Map<string, Roster<Place>>
  /** That its places use: those of a call inside the node are its caller's. */
  descriptors: number
  greediest: string
  lookedAtMs: number
}

/** One connection's place. */
export class Place implements RosterMember {
  readonly #places: Places
  readonly seat: number
  /** The pod's. */
  readonly uid: PodUid
  readonly caller: string
  readonly descriptors: number
  /** Among those of its caller. */
  listed: Listed | undefined
  #occupant: Occupant | undefined
  #isLeft = false

  constructor(places: Places, pod: LocalPod, caller: string, descriptors: number) {
    this.#places = places
    this.seat = pod.seat
    this.uid = pod.uid
    this.caller = caller
    this.descriptors = descriptors
  }

  get isLeft(): boolean {
    return this.#isLeft
  }

  /** Says who is to be told when the place is needed for another. */
  occupy(occupant: Occupant): void {
    this.#occupant = occupant
  }

  /** Gives the place back, the first time it is called. */
  leave(): void {
    if (this.#isLeft) return
    this.#isLeft = true
    this.#places.vacate(this)
  }

  /** Its occupant has to go. The place is free at once; the descriptors follow within the turn. */
  giveWay(): void {
    this.leave()
    this.#occupant?.cut('tooManyConnections')
  }
}

export class Places {
  readonly #counts: ConnectionCounts
  readonly #limits: PlaceLimits
  /** By their seats. */
  readonly #pods = new Map<number, PodPlaces>()
  readonly #relief: NodeJS.Timeout

  constructor(counts: ConnectionCounts, limits: PlaceLimits) {
    this.#counts = counts
    this.#limits = limits
    this.#relief = setInterval(() => this.relieve(), RELIEF_INTERVAL_MS).unref()
  }

  close(): void {
    clearInterval(this.#relief)
  }

  /** Descriptors in use by all workers. */
  get used(): number {
    return this.#counts.descriptors
  }

  /** Takes a place for a connection of the pod that uses so many descriptors here; undefined when there is none. */
  enter(pod: LocalPod, caller: string, descriptors: number): Place | undefined {
    if (this.used + descriptors > this.#limits.descriptors * RELIEF_PART) this.relieve()
    if (this.used + descriptors > this.#limits.descriptors) return undefined
    if (!this.#counts.enter(pod.seat, this.#limitNow())) {
      if (!this.#swap(pod.seat, caller)) return undefined
      // One for one: whatever the limit is now, there are no more than before.
      this.#counts.enter(pod.seat, Number.POSITIVE_INFINITY)
    }
    this.#counts.use(descriptors)
    const place = new Place(this, pod, caller, descriptors)
    this.#file(pod, place)
    return place
  }

  /**
   * A descriptor for an HBONE connection, which carries the connections of many and is closed by nobody while it is idle: so whoever
   * has more than a few gets it only from a part of all. False when there is none.
   */
  takeDescriptor(isOneOfFew: boolean): boolean {
    const { descriptors } = this.#limits
    if (this.used >= descriptors) return false
    if (!isOneOfFew && this.#counts.sharedConnections >= descriptors * SHARED_PART) return false
    this.#counts.share(1)
    return true
  }

  /** It was taken, and is closed. */
  giveDescriptor(): void {
    this.#counts.share(-1)
  }

  /** Called by a place that is left. */
  vacate(place: Place): void {
    this.#counts.leave(place.seat)
    this.#counts.use(-place.descriptors)
    const places = this.#pods.get(place.seat)
    const ofCaller = places?.byCaller.get(place.caller)
    if (places === undefined || ofCaller === undefined) return
    places.descriptors -= place.descriptors
    ofCaller.delete(place)
    if (ofCaller.size > 0) return
    places.byCaller.delete(place.caller)
    if (places.byCaller.size > 0) return
    this.#pods.delete(place.seat)
    this.#counts.pods(-1)
  }

  /** Lets pods with more than their share give way, if there are too few descriptors left. */
  relieve(): void {
    const { descriptors } = this.#limits
    if (this.used <= descriptors * RELIEF_PART) return
    const goal = descriptors * (RELIEF_PART - AIR_PART)
    const fair = this.#fairShare() * DESCRIPTORS_OF_CONNECTION
    const greedy = [...this.#pods.values()]
      .filter((places) => places.descriptors > fair)
      .sort((one, other) => other.descriptors - one.descriptors)
    for (const [index, places] of greedy.entries()) {
      if (this.used <= goal) return
      // Down to the next one's, so that the greediest pays first, and equals pay alike.
      const floor = Math.max(fair, greedy[index + 1]?.descriptors ?? 0)
      const most = Math.max(DESCRIPTORS_OF_CONNECTION, places.descriptors - floor)
      shed(places, Math.min(most, this.used - goal))
    }
  }

  #limitNow(): number {
    const { descriptors, perPod } = this.#limits
    if (this.used <= descriptors * SHORT_PART) return perPod
    return Math.min(perPod, this.#fairShare())
  }

  /** Connections that each pod could have if all had as many, and one more came: there is always room for it. */
  #fairShare(): number {
    const pods = this.#counts.activePods + 1
    return Math.max(1, Math.floor(this.#limits.descriptors / DESCRIPTORS_OF_CONNECTION / pods))
  }

  /** Frees a place of the pod's greediest caller for one that has much less. */
  #swap(seat: number, caller: string): boolean {
    const places = this.#pods.get(seat)
    if (places === undefined) return false
    const mine = places.byCaller.get(caller)?.size ?? 0
    const now = performance.now()
    if (now - places.lookedAtMs > GREEDIEST_GOOD_FOR_MS) {
      places.greediest = greediestOf(places.byCaller)
      places.lookedAtMs = now
    }
    const theirs = places.byCaller.get(places.greediest)
    if (theirs === undefined || theirs.size <= 2 * (mine + 1)) return false
    const oldest = theirs.first
    oldest?.giveWay()
    return oldest !== undefined
  }

  #file(pod: LocalPod, place: Place): void {
    let places = this.#pods.get(pod.seat)
    if (places === undefined) {
      places = {
        byCaller: new Map(),
        descriptors: 0,
        greediest: '',
        lookedAtMs: Number.NEGATIVE_INFINITY,
      }
      this.#pods.set(pod.seat, places)
      this.#counts.pods(1)
    }
    places.descriptors += place.descriptors
    let ofCaller = places.byCaller.get(place.caller)
    if (ofCaller === undefined) {
      ofCaller = new Roster()
      places.byCaller.set(place.caller, ofCaller)
    }
    ofCaller.add(place)
  }
}

/** Frees at least so many descriptors of the pod, if it has them: those of its greediest callers, the oldest first. */
function shed({ byCaller }: PodPlaces, descriptors: number): void {
  // What costs the pod none frees none: whoever makes that call pays for it.
  const costly = new Map<string, Set<Place>>()
  for (const [caller, places] of byCaller)
    costly.set(caller, new Set([...places].filter((place) => place.descriptors > 0)))
  let left = descriptors
  while (left > 0) {
    const theirs = costly.get(greediestOf(costly))
    if (theirs === undefined) return
    // Half of it before the next look: a few looks reach whoever is next.
    let some = Math.ceil(theirs.size / 2)
    for (const place of theirs) {
      if (some === 0 || left <= 0) break
      some -= 1
      left -= place.descriptors
      theirs.delete(place)
      place.giveWay()
    }
  }
}

function greediestOf(byCaller: ReadonlyMap<string, { readonly size: number }>): string {
  let greediest = ''
  let most = 0
  for (const [caller, places] of byCaller) {
    if (places.size <= most) continue
    greediest = caller
    most = places.size
  }
  return greediest
}
