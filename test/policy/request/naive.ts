// SPDX-License-Identifier: Apache-2.0
// Policies of waypoints evaluated as their specification reads, sentence by sentence and with no thought of cost: the witness of the
// product's evaluator, with which it shares no code.

import type { StringMatch } from '../../../mesh/model/policy.ts'
import type {
  PathMatch,
  RequestMatch,
  RequestRule,
  WaypointPolicy,
} from '../../../mesh/model/waypoint-policy.ts'
import type { JudgedCall } from '../../../mesh/policy/request/types.ts'
import { naiveMatch, naiveText, type NaiveTruth } from '../naive.ts'

/** A request as plain data. */
export interface PlainRequest {
  readonly method: string
  readonly path: string
  readonly authority: string
  readonly headers: Readonly<Record<string, string>>
}

/** `{*}` is one segment that is there, `{**}` whatever follows. */
function naiveTemplate(template: string, path: string): boolean {
  const end = template.indexOf('{**}')
  if (end < 0) {
    const wanted = template.split('/')
    const had = path.split('/')
    return (
      wanted.length === had.length &&
      wanted.every((each, at) => (each === '{*}' ? had[at] !== '' : each === had[at]))
    )
  }
  const tail = template.slice(end + '{**}'.length)
  const depth = template.slice(0, end).split('/').length
  const head =
    path
      .split('/')
      .slice(0, depth - 1)
      .join('/') + '/'
  const rest = path.slice(head.length)
  return (
    path.split('/').length >= depth &&
    naiveTemplate(template.slice(0, end - 1), head.slice(0, -1)) &&
    rest.length >= tail.length &&
    rest.endsWith(tail)
  )
}

function naivePath(match: PathMatch, path: string): boolean {
  return match.kind === 'template' ? naiveTemplate(match.text, path) : naiveText(match, path)
}

function naiveHeader(match: StringMatch, value: string | undefined): boolean {
  if (value === undefined) return false
  return match.kind === 'present' || naiveText(match, value)
}

const lower = (match: StringMatch): StringMatch =>
  match.kind === 'present' ? match : { kind: match.kind, text: match.text.toLowerCase() }

/** All that is said holds; of a field one value, of a negation none. */
function naiveFields(match: RequestMatch, request: PlainRequest | undefined): boolean {
  if (request === undefined) return true
  const { method, path, authority, headers } = request
  const host = authority === '' ? undefined : authority.toLowerCase()
  const isHost = (each: StringMatch): boolean => host !== undefined && naiveText(lower(each), host)
  const isMethod = (each: StringMatch): boolean => naiveText(each, method)
  const isPath = (each: PathMatch): boolean => naivePath(each, path)
  const said: readonly (readonly [readonly unknown[], boolean])[] = [
    [match.hosts, match.hosts.some(isHost)],
    [match.notHosts, !match.notHosts.some(isHost)],
    [match.methods, match.methods.some(isMethod)],
    [match.notMethods, !match.notMethods.some(isMethod)],
    [match.paths, match.paths.some(isPath)],
    [match.notPaths, !match.notPaths.some(isPath)],
    ...match.headers.flatMap(({ name, values, notValues }) => {
      const isValue = (each: StringMatch): boolean => naiveHeader(each, headers[name])
      return [
        [values, values.some(isValue)],
        [notValues, !notValues.some(isValue)],
      ] as const
    }),
  ]
  return said.every(([values, isTrue]) => values.length === 0 || isTrue)
}

function saysOfRequests(match: RequestMatch): boolean {
  return [
    match.hosts,
    match.notHosts,
    match.methods,
    match.notMethods,
    match.paths,
    match.notPaths,
    ...match.headers.flatMap(({ values, notValues }) => [values, notValues]),
  ].some((values) => values.length > 0)
}

function naiveRequestMatch(
  match: RequestMatch,
  { connection, sni }: JudgedCall,
  request: PlainRequest | undefined,
): NaiveTruth {
  const { snis, notSnis } = match
  const saysOfSni = snis.length + notSnis.length > 0
  const isEmpty = Object.entries(match.connection).every(
    ([, value]) => value === false || (Array.isArray(value) && value.length === 0),
  )
  if (isEmpty && !saysOfSni && !saysOfRequests(match)) return 'no'
  const ofConnection = isEmpty ? 'yes' : naiveMatch(match.connection, connection)
  const isName = (each: StringMatch): boolean => naiveText(each, sni ?? '')
  const ofSni =
    !saysOfSni || sni === undefined
      ? saysOfSni
        ? 'unknown'
        : 'yes'
      : (snis.length === 0 || snis.some(isName)) && !notSnis.some(isName)
        ? 'yes'
        : 'no'
  const ofRequest = naiveFields(match, request) ? 'yes' : 'no'
  const all = [ofConnection, ofSni, ofRequest]
  if (all.includes('no')) return 'no'
  return all.includes('unknown') ? 'unknown' : 'yes'
}

function naiveRequestRule(
  rule: RequestRule,
  action: WaypointPolicy['action'],
  call: JudgedCall,
  request: PlainRequest | undefined,
): NaiveTruth {
  // Of a connection without requests: who allows by what only requests have allows nothing by it.
  const asks = rule.clauses.some(({ matches }) => matches.some(saysOfRequests))
  if (request === undefined && action === 'allow' && asks) return 'no'
  const clauses = rule.clauses.map(({ matches }): NaiveTruth => {
    if (matches.length === 0) return 'yes'
    const truths = matches.map((match) => naiveRequestMatch(match, call, request))
    if (truths.includes('yes')) return 'yes'
    return truths.includes('unknown') ? 'unknown' : 'no'
  })
  if (clauses.includes('no')) return 'no'
  return clauses.includes('unknown') ? 'unknown' : 'yes'
}

/** What comes of it, and by whom: `denied ns/name#rule`, `allowed`, `notAllowed ns/a ns/b` and so on. */
export function naiveRequestVerdict(
  policies: readonly WaypointPolicy[],
  call: JudgedCall,
  request: PlainRequest | undefined,
): string {
  const find = (action: WaypointPolicy['action'], truth: NaiveTruth): string | undefined =>
    policies
      .filter((policy) => policy.action === action)
      .flatMap(({ key, rules }) => rules.map((rule, index) => ({ key, index, rule }) as const))
      .filter(({ rule }) => naiveRequestRule(rule, action, call, request) === truth)
      .map(({ key, index }) => `${key}#${index}`)[0]
  const denied = find('deny', 'yes')
  if (denied !== undefined) return `denied ${denied}`
  const unknown = find('deny', 'unknown')
  if (unknown !== undefined) return `unknown ${unknown}`
  const allowing = policies.filter(({ action }) => action === 'allow')
  if (allowing.length === 0) return 'allowed'
  const allowed = find('allow', 'yes')
  return allowed === undefined
    ? `notAllowed ${allowing.map(({ key }) => key).join(' ')}`
    : `allowed ${allowed}`
}

/** Of each policy that wants calls on record, the first rule that matches. */
export function naiveAudited(
  policies: readonly WaypointPolicy[],
  call: JudgedCall,
  request: PlainRequest | undefined,
): readonly string[] {
  return policies
    .filter(({ isAudit }) => isAudit)
    .flatMap(({ key, rules }) => {
      const index = rules.findIndex(
        (rule) => naiveRequestRule(rule, 'deny', call, request) === 'yes',
      )
      return index < 0 ? [] : [`${key}#${index}`]
    })
}
