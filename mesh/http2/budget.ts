// SPDX-License-Identifier: Apache-2.0
// How much nuisance one HTTP/2 peer may cause. Honest peers stay far below; floods end the connection.

import type { BucketSize } from '../async/bucket.ts'

/** PING, SETTINGS, PRIORITY, empty DATA and unknown frames: an honest peer sends a handful a minute. */
export const CONTROL_FRAMES: BucketSize = { burst: 500, perSecond: 50 }
/** Streams reset before we answered them, malformed or refused: costs us work and the peer nothing (rapid reset). */
export const WASTED_STREAMS: BucketSize = { burst: 400, perSecond: 200 }
