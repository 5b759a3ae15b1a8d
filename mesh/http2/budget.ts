// SPDX-License-Identifier: Apache-2.0
// How much nuisance one HTTP/2 peer may cause. Honest peers stay far below; floods end the connection.

import { Bucket, type BucketSize } from '../async/bucket.ts'
import type { TurnShare } from './turn-budget.ts'

/** PING, SETTINGS, PRIORITY, empty DATA and unknown frames: an honest peer sends a handful a minute. */
const CONTROL_FRAMES: BucketSize = { burst: 500, perSecond: 50 }
/** Streams reset before we answered them, malformed or refused: costs us work and the peer nothing (rapid reset). */
const WASTED_STREAMS: BucketSize = { burst: 400, perSecond: 200 }

/** What pays; a Bucket is one. */
export type H2Account = Pick<Bucket, 'take' | 'charge'>

/** Who pays for what a peer does to us. Accounts may be shared by connections, and outlive them. */
export interface H2Accounts {
  /** Work that led to nothing, of the size of WASTED_STREAMS. */
  readonly waste: H2Account
  /** Frames that carry nothing, of the size of CONTROL_FRAMES. */
  readonly control: H2Account
  /** Of a turn of the event loop; a connection has one to itself when there is none. */
  readonly turn?: TurnShare
}

/** The given accounts; what is missing is made for this connection alone. */
export function connectionAccounts(given: Partial<H2Accounts> = {}): H2Accounts {
  return {
    waste: given.waste ?? new Bucket(WASTED_STREAMS),
    control: given.control ?? new Bucket(CONTROL_FRAMES),
  }
}
