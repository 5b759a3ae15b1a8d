// SPDX-License-Identifier: Apache-2.0
// The truth of rules of waypoints' policies, for a request and for a connection that carries none that could be read. The meaning is
// Istio's: of a rule all clauses must match, of a clause one match, of a match all fields. Of a connection that is no HTTP, what is asked of
// requests cannot be so: a rule that allows by it allows nothing, and one that denies by it denies by what is left.

import type { CallFacts } from '../call-facts.ts'
import { holds, matchesText, type Truth } from '../match.ts'
import {
  type CompiledRequestMatch,
  type CompiledRequestRule,
  meets,
  type SniTest,
} from './request-test.ts'
import type { JudgedRequest } from './types.ts'

/** What is known of a connection, in the words that policies ask about. */
export interface ConnectionFacts {
  readonly facts: CallFacts
  readonly sni: string | undefined
}

/** Whether a rule matches a request. One without clauses does. Hot. */
export function truthOfRequest(
  rule: CompiledRequestRule,
  connection: ConnectionFacts,
  request: JudgedRequest,
): Truth {
  return truthOfClauses(rule, connection, request)
}

/** Whether a rule matches a connection that carries no requests. */
export function truthOfConnection(
  rule: CompiledRequestRule,
  connection: ConnectionFacts,
  action: 'allow' | 'deny',
): Truth {
  if (action === 'allow' && asksOfRequests(rule)) return 'no'
  return truthOfClauses(rule, connection, undefined)
}

/** Whether some request of this connection could match: where not, none of its requests need be asked. */
export function mayMatch(rule: CompiledRequestRule, connection: ConnectionFacts): boolean {
  for (const clause of rule) {
    let isOpen = clause.length === 0
    for (const match of clause)
      if (truthOfConnectionPart(match, connection) !== 'no') {
        isOpen = true
        break
      }
    if (!isOpen) return false
  }
  return true
}

function asksOfRequests(rule: CompiledRequestRule): boolean {
  return rule.some((clause) => clause.some(({ request }) => request.length > 0))
}

function truthOfClauses(
  rule: CompiledRequestRule,
  connection: ConnectionFacts,
  request: JudgedRequest | undefined,
): Truth {
  let truth: Truth = 'yes'
  for (const clause of rule) {
    const next = truthOfClause(clause, connection, request)
    if (next === 'no') return 'no'
    if (next === 'unknown') truth = 'unknown'
  }
  return truth
}

/** Whether a clause matches; without a request, by what it says of the connection. */
function truthOfClause(
  clause: readonly CompiledRequestMatch[],
  connection: ConnectionFacts,
  request: JudgedRequest | undefined,
): Truth {
  let truth: Truth = clause.length === 0 ? 'yes' : 'no'
  for (const match of clause) {
    const next = truthOfMatch(match, connection, request)
    if (next === 'yes') return 'yes'
    if (next === 'unknown') truth = 'unknown'
  }
  return truth
}

/** Whether a match is true; without a request, by what it says of the connection. */
export function truthOfMatch(
  match: CompiledRequestMatch,
  connection: ConnectionFacts,
  request: JudgedRequest | undefined,
): Truth {
  const truth = truthOfConnectionPart(match, connection)
  if (truth === 'no' || request === undefined) return truth
  for (const test of match.request) if (!meets(test, request)) return 'no'
  return truth
}

/** What a match says of the connection; one that says nothing of it, nor of requests, is never true. */
function truthOfConnectionPart(
  { connection, isPartlyUnread, snis, request }: CompiledRequestMatch,
  { facts, sni }: ConnectionFacts,
): Truth {
  for (const test of connection) if (!holds(test, facts)) return 'no'
  let truth: Truth = isPartlyUnread ? 'unknown' : 'yes'
  for (const test of snis)
    if (sni === undefined) truth = 'unknown'
    else if (!meetsSni(test, sni)) return 'no'
  const saysNothing = connection.length + snis.length + request.length === 0
  return saysNothing && !isPartlyUnread ? 'no' : truth
}

/** Whether a server name meets what a match asks of it. */
function meetsSni({ values, isNegated }: SniTest, sni: string): boolean {
  return values.some((value) => matchesText(value, sni)) !== isNegated
}
