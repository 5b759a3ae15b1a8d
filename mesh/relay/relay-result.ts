// SPDX-License-Identifier: Apache-2.0
// What comes of a relayed connection, whoever carries it.

import type { ByteCounts } from '../telemetry/connection-record.ts'
import { type EndReason, isEndReason } from '../telemetry/end-reason.ts'

/** What a relayed connection came to. */
export interface RelayResult extends ByteCounts {
  readonly end: EndReason
}

/** Takes, once, the way to read a running connection's bytes: long ones are reported before their end. */
export type OnMeter = (read: () => ByteCounts) => void

/** The end reason of a connection that this signal cut. */
export function cutReason({ reason }: { readonly reason?: unknown }): EndReason {
  return isEndReason(reason) ? reason : 'drained'
}
