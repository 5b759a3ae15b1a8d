// SPDX-License-Identifier: Apache-2.0
// What comes of a relayed connection, whoever carries it.

import type { CutSignal } from '../async/cut.ts'
import type { ByteCounts } from '../telemetry/connection-record.ts'
import { type EndReason, isEndReason } from '../telemetry/end-reason.ts'

/** What a relayed connection came to. */
export interface RelayResult extends ByteCounts {
  readonly end: EndReason
}

/** A running connection, whose bytes can be read: long ones are reported before their end. */
export interface Metered {
  counts(): ByteCounts
}

/** Who hears of a relayed connection. An object, and no promise: it is kept while the connection is idle. */
export interface RelayListener {
  /** First, and once. */
  metered(running: Metered): void
  /** Once, when both sides are closed. */
  ended(result: RelayResult): void
}

/** The end reason of a connection that this signal cut. */
export function cutReason({ reason }: { readonly reason?: unknown }): EndReason {
  return isEndReason(reason) ? reason : 'drained'
}

/** Which end of the user's connection a socket is: `client` at the outbound side, `server` at the inbound side. */
export type SocketRole = 'client' | 'server'

/** The counts of a socket and a tunnel: `sent` from the socket into the tunnel, `received` the other way. */
export function countsOf(role: SocketRole, sent: number, received: number): ByteCounts {
  return role === 'client'
    ? { bytesToUpstream: sent, bytesToDownstream: received }
    : { bytesToUpstream: received, bytesToDownstream: sent }
}

/** Why a connection is over that has ended so: the signal knows why it was drained. */
export function endOf(end: EndReason, signal: CutSignal | undefined): EndReason {
  return end === 'drained' && signal !== undefined ? cutReason(signal) : end
}
