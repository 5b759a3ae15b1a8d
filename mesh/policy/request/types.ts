// SPDX-License-Identifier: Apache-2.0
// What the policies of waypoints are asked about, and what they answer. Plain data: a waypoint and `why` read the same.

import type { HeaderName } from '../../http/header-names.ts'
import type { RequestRule, WaypointPolicy } from '../../model/waypoint-policy.ts'
import type { PolicyCall } from '../types.ts'

/** A call as it arrives at a waypoint, whatever it carries. */
export interface JudgedCall {
  /** Who calls, and what was called: the address and port of the Service, or of the pod. */
  readonly connection: PolicyCall
  /** The server name of the TLS that the client opens inside; empty where it opens none, undefined where nobody has looked. */
  readonly sni: string | undefined
}

/** A request as policies see it; valid while they are asked. */
export interface JudgedRequest {
  readonly method: string
  /** As routes have it and as it goes on: normalised, without the query. */
  readonly path: string
  /** Host or :authority as it came; empty where there was none. */
  readonly authority: string
  readonly headers: {
    /** All values of that name, joined; undefined when there is none. */
    joined(name: HeaderName): string | undefined
  }
}

/** A rule that matches, and the policy it is of. */
export interface RequestHit {
  readonly policy: WaypointPolicy
  readonly rule: RequestRule
}

/** As PolicyVerdict. */
export type RequestVerdict =
  | { readonly kind: 'denied' | 'unknown'; readonly by: RequestHit }
  | { readonly kind: 'notAllowed'; readonly policies: readonly WaypointPolicy[] }
  | { readonly kind: 'allowed'; readonly by: RequestHit | undefined }
