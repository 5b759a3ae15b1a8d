// SPDX-License-Identifier: Apache-2.0
// Who hears of requests, of calls that were carried as they are, and of callers that got none.

import type { MirrorEnd } from '../exchange/mirrors.ts'
import type { RequestRecord } from '../exchange/types.ts'
import type { Call, CallEnd, Refused } from './call.ts'

export interface CallObserver {
  ended(call: Call, end: CallEnd): void
  refused(refused: Refused): void
  /** A request is over. */
  request(call: Call, record: RequestRecord): void
  /** A copy of a request is over. */
  mirrored(end: MirrorEnd): void
}
