// SPDX-License-Identifier: Apache-2.0
// A tunnel of a client's that is served here, and what those who serve one need.

import type { Drain } from '../../mesh/async/drain.ts'
import type { RosterMember } from '../../mesh/async/roster.ts'
import type { Service, SocketAddress, SpiffeId, Workload } from '../../mesh/model/types.ts'
import type { JudgedPlace } from '../../mesh/model/waypoint-policy-index.ts'
import type { ByteCounts, DecidedBy } from '../../mesh/telemetry/connection-record.ts'
import type { EndReason } from '../../mesh/telemetry/end-reason.ts'
import type { Backend, RequestSource } from '../exchange/types.ts'
import type { Enforcement } from '../policy/enforcement.ts'
import type { Upstreams } from '../upstream/upstreams.ts'

/** Who calls by a tunnel: from where is always known. */
export interface CallSource extends RequestSource {
  readonly address: SocketAddress
}

/** What is known of a tunnel when it is let in. */
export interface Call {
  readonly source: CallSource
  /** What was called, as policies name it: a Service, or the workload by its own address. */
  readonly called: JudgedPlace['called']
  /** What was called. */
  readonly target: SocketAddress
  readonly backend: Backend
  readonly service: Service | undefined
  /** The workload that was called by its own address. */
  readonly workload: Workload | undefined
  /** Of a call that is carried as it is: whom its client asks for by TLS, empty where it does not; left out where nobody has looked. */
  readonly serverName?: string | undefined
  /** Milliseconds of performance.now(). */
  readonly startedAt: number
}

/** How a call that was carried as it is, or not at all, came to its end. */
export interface CallEnd extends ByteCounts {
  readonly end: EndReason
  readonly message: string | undefined
  /** The policy that refused or cut it. */
  readonly by: DecidedBy | undefined
  /** Where it led. */
  readonly endpoint:
    | {
        readonly address: SocketAddress
        readonly workload: Workload | undefined
        readonly identity: SpiffeId | undefined
      }
    | undefined
}

/** A caller who got no tunnel, or not even a connection. */
export interface Refused {
  readonly peer: SocketAddress | undefined
  readonly peerIdentity: SpiffeId | undefined
  readonly reason: EndReason
  readonly message: string
}

/** A call that is open, for whoever looks into the waypoint. */
export interface OpenCall {
  readonly call: Call
  /** `undecided`: nobody knows yet what it speaks, or whom it asks for. */
  readonly servedAs: 'requests' | 'bytes' | 'undecided'
  /** Where its bytes go; of requests each goes its own way. */
  readonly endpoint: SocketAddress | undefined
}

/** A call while it runs, for whoever ends the waypoint. */
export interface ServedCall extends RosterMember {
  describe(): OpenCall
  /** The waypoint goes: takes no new request, and ends when it is idle. */
  drain(): void
  /** Policies have changed, or who has them: it ends if it would not be let through any more. Requests are judged one by one. */
  review(): void
  cut(reason: EndReason): void
}

export interface CallParts {
  readonly upstreams: Upstreams
  /** All that run. */
  readonly calls: Drain<ServedCall>
  readonly policies: Pick<
    Enforcement,
    'connection' | 'admitsConnection' | 'again' | 'asksServerName'
  >
  /** Told once of each call that was not served as HTTP. */
  readonly onEnd: (call: Call, end: CallEnd) => void
}

export const NO_BYTES: ByteCounts = { bytesToUpstream: 0, bytesToDownstream: 0 }
