// SPDX-License-Identifier: Apache-2.0
// How many tokens nobody vouched for yet the API server is asked about: at once, and over time. Who reconnects with ever new
// made-up tokens pays with its own address first, then with its network; the sum spares the API server where the strangers are many.
//
// Only a token that was not accepted is charged, after its verdict. So good ones, however many come from one address (a node behind
// which all its pods hide), cost nothing, and an address is over its rate by what it may have under way, at most.

import { Bucket, type BucketSize, type MonotonicClock } from '../../mesh/async/bucket.ts'
import { KeyedBuckets } from '../../mesh/async/keyed-buckets.ts'
import { PerSource } from '../../mesh/async/per-source.ts'
import { sourceNetwork } from '../../mesh/model/address.ts'

/** Reviews under way at once: whoever floods us with made-up tokens does not flood the API server through us. */
const MAX_PENDING = 100
/** Of them for one address, so that one pod with made-up tokens does not keep the agents out. */
const MAX_PENDING_OF_ADDRESS = 10
/** Of them for one IPv6 /64, in which one machine may have any address, and all nodes of a cluster theirs. */
const MAX_PENDING_OF_NETWORK = 50

/** Tokens of one address that were not accepted: an honest one has one whose pod has just gone, or that came too late. */
const REFUSED_OF_ADDRESS: BucketSize = { burst: 20, perSecond: 2 }
/** Of one IPv6 /64. */
const REFUSED_OF_NETWORK: BucketSize = { burst: 100, perSecond: 10 }
/** Of all together. Five networks, or twenty-five addresses, use it up; while they do, tokens that were never accepted wait. */
const REFUSED: BucketSize = { burst: 400, perSecond: 50 }

export class ReviewBudget {
  readonly #networks = new PerSource({ perSource: MAX_PENDING_OF_NETWORK, total: MAX_PENDING })
  readonly #addresses = new PerSource({ perSource: MAX_PENDING_OF_ADDRESS, total: MAX_PENDING })
  readonly #refusedOfAddress: KeyedBuckets
  readonly #refusedOfNetwork: KeyedBuckets
  readonly #refused: Bucket
  #pending = 0

  constructor(now?: MonotonicClock) {
    this.#refusedOfAddress = new KeyedBuckets(REFUSED_OF_ADDRESS, now)
    this.#refusedOfNetwork = new KeyedBuckets(REFUSED_OF_NETWORK, now)
    this.#refused = new Bucket(REFUSED, now)
  }

  /** Takes a place for one review of the address's; else says why there is none. */
  enter(address: string | undefined): string | undefined {
    if (this.#pending >= MAX_PENDING) return 'too many tokens are being reviewed; try again'
    if (!this.#refused.hasToken) return 'too many tokens were refused; try again later'
    if (address !== undefined) {
      const network = sourceNetwork(address)
      if (!this.#refusedOfAddress.peek(address) || !this.#refusedOfNetwork.peek(network))
        return 'too many tokens of yours were refused; try again later'
      if (!this.#networks.hasRoom(network) || !this.#addresses.enter(address))
        return 'too many tokens of yours are being reviewed'
      this.#networks.enter(network)
    }
    this.#pending += 1
    return undefined
  }

  /** The review is over; to be called once for each that entered. */
  leave(address: string | undefined, wasAccepted: boolean): void {
    this.#pending -= 1
    if (!wasAccepted) this.#refused.charge(1)
    if (address === undefined) return
    const network = sourceNetwork(address)
    this.#networks.leave(network)
    this.#addresses.leave(address)
    if (wasAccepted) return
    this.#refusedOfAddress.of(address).charge(1)
    this.#refusedOfNetwork.of(network).charge(1)
  }
}
