// SPDX-License-Identifier: Apache-2.0
// Why policies of waypoints say what they say of a request: every policy with its rules, whether each matches, and what of it does not. For
// people: it is asked by the same functions as requests are, and costs more.

import type { StringMatch } from '../../model/policy.ts'
import {
  isEnforced,
  type PathMatch,
  type RequestMatch,
  type RequestRule,
  type WaypointPolicy,
} from '../../model/waypoint-policy.ts'
import { fieldObstacle, stringMatchText, toldValues } from '../explain.ts'
import { factsOf } from '../call-facts.ts'
import { holds, type Truth } from '../match.ts'
import {
  askedText,
  type CompiledRequestMatch,
  compileRequestRule,
  meets,
  type RequestTest,
} from './request-test.ts'
import { type ConnectionFacts, truthOfConnection, truthOfMatch, truthOfRequest } from './truth.ts'
import type { JudgedCall, JudgedRequest } from './types.ts'

/** A field of a rule that does not hold; `unread`: there is no telling. */
export type RequestObstacle =
  | { readonly kind: 'unread' }
  | {
      readonly kind: 'field'
      /** As a rule names it: of a header with the header's name. */
      readonly field: string
      readonly isNegated: boolean
      /** What it asks for. */
      readonly wanted: string
      /** What there is instead; empty where there is nothing of the sort. */
      readonly had: string
    }

export interface ExplainedRequestRule {
  readonly rule: RequestRule
  readonly truth: Truth
  /** What keeps each of its matches from being true; empty of a rule that matches. */
  readonly obstacles: readonly RequestObstacle[]
}

export interface ExplainedRequestPolicy {
  readonly policy: WaypointPolicy
  /** False of a dry run, and of AUDIT. */
  readonly isEnforced: boolean
  /** `yes` when one of its rules is, else `unknown` when one of them is. */
  readonly truth: Truth
  readonly rules: readonly ExplainedRequestRule[]
}

/** Explains policies in their order. `request`: undefined of a connection that carries none. */
export function explainRequest(
  policies: readonly WaypointPolicy[],
  call: JudgedCall,
  request: JudgedRequest | undefined,
): readonly ExplainedRequestPolicy[] {
  const known = { facts: factsOf(call.connection), sni: call.sni }
  return policies.map((policy) => {
    const rules = policy.rules.map((rule) => explainRule(policy, rule, { call, known, request }))
    const truths = rules.map(({ truth }) => truth)
    const truth = (['yes', 'unknown'] as const).find((each) => truths.includes(each)) ?? 'no'
    return { policy, isEnforced: isEnforced(policy), truth, rules }
  })
}

interface Asked {
  readonly call: JudgedCall
  readonly known: ConnectionFacts
  readonly request: JudgedRequest | undefined
}

function explainRule(
  { action }: WaypointPolicy,
  rule: RequestRule,
  asked: Asked,
): ExplainedRequestRule {
  const { known, request } = asked
  const compiled = compileRequestRule(rule)
  const truth =
    request === undefined
      ? truthOfConnection(compiled, known, action)
      : truthOfRequest(compiled, known, request)
  if (truth === 'yes') return { rule, truth, obstacles: [] }
  const obstacles = compiled.flatMap((matches, clause) =>
    matches.some((match) => truthOfMatch(match, known, request) === 'yes')
      ? []
      : matches.flatMap((match, at) =>
          obstaclesOf(match, rule.clauses[clause]?.matches[at], asked),
        ),
  )
  return { rule, truth, obstacles }
}

function obstaclesOf(
  match: CompiledRequestMatch,
  written: RequestMatch | undefined,
  { call, known, request }: Asked,
): readonly RequestObstacle[] {
  if (written === undefined) return []
  const failing: RequestObstacle[] = match.connection
    .filter((test) => !holds(test, known.facts))
    .map((test) => ({
      ...fieldObstacle(test.field, written.connection, known.facts, call.connection),
      kind: 'field',
      isNegated: test.isNegated,
    }))
  if (request !== undefined)
    for (const test of match.request)
      if (!meets(test, request)) failing.push(requestObstacle(test, written, request))
  const isUnread = failing.length === 0 && truthOfMatch(match, known, request) === 'unknown'
  return isUnread ? [{ kind: 'unread' }] : failing
}

function requestObstacle(
  test: RequestTest,
  written: RequestMatch,
  request: JudgedRequest,
): RequestObstacle {
  const { field, header, isNegated } = test
  const name = header === undefined ? field : `headers[${header.text}]`
  return {
    kind: 'field',
    field: name,
    isNegated,
    wanted: toldValues(writtenOf(test, written).map(pathMatchText)),
    had: askedText(test, request) ?? '',
  }
}

/** The values of the field as its author has written them. */
function writtenOf(
  { field, header, isNegated }: RequestTest,
  match: RequestMatch,
): readonly PathMatch[] {
  switch (field) {
    case 'methods':
      return isNegated ? match.notMethods : match.methods
    case 'paths':
      return isNegated ? match.notPaths : match.paths
    case 'hosts':
      return isNegated ? match.notHosts : match.hosts
    case 'headers':
      return match.headers
        .filter(({ name }) => name === header?.text)
        .flatMap(({ values, notValues }): readonly StringMatch[] =>
          isNegated ? notValues : values,
        )
  }
}

function pathMatchText(match: PathMatch): string {
  return match.kind === 'template' ? match.text : stringMatchText(match)
}
