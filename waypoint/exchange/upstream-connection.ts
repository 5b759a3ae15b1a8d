// SPDX-License-Identifier: Apache-2.0
// A connection to an endpoint as an exchange uses it and as its owner, a pool, keeps it between exchanges.

import type { SocketAddress, Workload } from '../../mesh/model/types.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'

/** What a connection leads to. */
export interface Endpoint {
  /** Of the app. */
  readonly address: SocketAddress
  readonly workload: Workload | undefined
}

export interface UpstreamConnection {
  readonly endpoint: Endpoint
  /** A request went over it before: when it ends without a byte of an answer, it may have been closing already. */
  readonly isReused: boolean
  /** Closes an idle one; a busy one is cut. */
  cut(reason: EndReason): void
}

/** Who keeps it. */
export interface UpstreamOwner {
  /** It is free for another request; it is its owner's again. */
  idle(connection: UpstreamConnection): void
  /** It is over: in use or idle. Last call. */
  gone(connection: UpstreamConnection, reason: EndReason): void
}
