// SPDX-License-Identifier: Apache-2.0
// What a router is asked, and what it answers. Plain data: a waypoint, `why` and the dashboard read the same.

import type { HttpMatch, HttpRule, RouteName } from '../../mesh/model/http-routes.ts'
import type { AnswerOutcome, ForwardOutcome } from '../exchange/types.ts'

/** A request as routes see it, beside its fields. */
export interface RoutedRequest {
  readonly method: string
  /** Normalised (normalise-path.ts), without the query. */
  readonly path: string
  /** As written, without the question mark; empty where there is none. */
  readonly query: string
}

/** The rule that a request falls under, and by which of its matches. */
export interface RouteHit {
  readonly rule: HttpRule
  readonly match: HttpMatch
}

/** A request is answered by a rule itself. */
export interface RoutedAnswer extends AnswerOutcome {
  readonly route: RouteName | undefined
  /** Why the rule cannot be followed; undefined: it was. */
  readonly message: string | undefined
}

/** A request goes on by a rule. */
export interface RoutedForward extends ForwardOutcome {
  readonly route: RouteName
}
