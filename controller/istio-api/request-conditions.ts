// SPDX-License-Identifier: Apache-2.0
// The conditions that a waypoint can evaluate: those on connections, and those on requests that need no token of the caller's.

import { isToken } from '../../mesh/http/octets.ts'
import {
  EMPTY_REQUEST_MATCH,
  type HeaderCondition,
  type PathMatch,
  type RequestMatch,
} from '../../mesh/model/waypoint-policy.ts'
import { err, ok } from '../../mesh/result.ts'
import { readStringMatch, type ValueReader } from './condition-values.ts'
import { shown } from './flaw.ts'
import {
  both,
  compared,
  CONNECTION_KEYS,
  CONNECTION_OPERATION,
  CONNECTION_SOURCE,
  type ConditionReader,
  FILTER_KEY,
  joinedConnection,
  type KeyedCondition,
  type MatchPart,
  type Vocabulary,
} from './rule-conditions.ts'

function unsupported(reason: string): ConditionReader {
  return ({ reader }, field) => {
    reader.unsupported(field, reason)
    return undefined
  }
}

const tokens = unsupported('is about a token (JWT), and waypoints do not validate tokens yet')
const remote = unsupported(
  'is about what X-Forwarded-For says, which waypoints do not trust: ipBlocks and source.ip see the true client',
)
const trust = unsupported('is not evaluated: write principals, such as "domain/*"')
const filters = unsupported('is about filters of Envoy, of which a waypoint has none')

/** One segment: `{*}`; any number of characters: `{**}`. */
const OPERATOR = /^\{\*\*?\}$/

/** As other texts, or a template (Istio's rules: an operator is a whole segment, and `{**}` is the last one). */
const readPath: ValueReader<PathMatch> = (value, namespace) => {
  if (typeof value !== 'string' || !/[{}]/.test(value)) return readStringMatch(value, namespace)
  let hasAnything = false
  for (const segment of value.split('/')) {
    if (OPERATOR.test(segment)) {
      if (hasAnything) return err(`${shown(value)} has an operator after {**}`)
      hasAnything = segment === '{**}'
    } else if (/[{}*]/.test(segment))
      return err(`${shown(value)} has a segment that is neither {*}, {**} nor without { } and *`)
  }
  // Its length and what else a text must be.
  const checked = readStringMatch(value.replaceAll(/\{\*\*?\}/g, 'x'), namespace)
  return checked.ok ? ok({ kind: 'template', text: value }) : checked
}

const SOURCE: ReadonlyMap<string, ConditionReader> = new Map([
  ...CONNECTION_SOURCE,
  ['requestPrincipals', tokens],
  ['notRequestPrincipals', tokens],
  ['remoteIpBlocks', remote],
  ['notRemoteIpBlocks', remote],
  ['trustDomains', trust],
  ['notTrustDomains', trust],
])

const OPERATION: ReadonlyMap<string, ConditionReader> = new Map([
  ...CONNECTION_OPERATION,
  ['hosts', compared('hosts', readStringMatch)],
  ['notHosts', compared('notHosts', readStringMatch)],
  ['methods', compared('methods', readStringMatch)],
  ['notMethods', compared('notMethods', readStringMatch)],
  ['paths', compared('paths', readPath)],
  ['notPaths', compared('notPaths', readPath)],
])

const KEYS: ReadonlyMap<string, KeyedCondition> = new Map([
  ...CONNECTION_KEYS,
  ['connection.sni', both('snis', 'notSnis', readStringMatch)],
  ['remote.ip', { values: remote, notValues: remote }],
  ['source.trustDomain', { values: trust, notValues: trust }],
])
const TOKEN_KEY = /^request\.auth\.(?:principal|audiences|presenter|claims\[.+\])$/
const HEADER_KEY = /^request\.headers\[(.+)\]$/

function conditionOf(key: string): KeyedCondition | undefined {
  const known = KEYS.get(key)
  if (known !== undefined) return known
  const header = HEADER_KEY.exec(key)?.[1]
  if (header !== undefined)
    return { values: ofHeader(header, 'values'), notValues: ofHeader(header, 'notValues') }
  if (TOKEN_KEY.test(key)) return { values: tokens, notValues: tokens }
  return FILTER_KEY.test(key) ? { values: filters, notValues: filters } : undefined
}

function ofHeader(written: string, part: 'values' | 'notValues'): ConditionReader {
  const read = compared('hosts', readStringMatch)
  return (context, field, value) => {
    if (!isToken(written)) {
      context.reader.note(field, `is about ${shown(written)}, which is no name of a header`)
      return undefined
    }
    const values = read(context, field, value)?.hosts
    if (values === undefined) return undefined
    const name = written.toLowerCase()
    const none: HeaderCondition = { name, values: [], notValues: [] }
    return { headers: [{ ...none, [part]: values }] }
  }
}

/** What waypoints can evaluate. */
export const OF_WAYPOINTS: Vocabulary<RequestMatch> = {
  source: SOURCE,
  operation: OPERATION,
  conditionOf,
  joined,
}

function joined(parts: readonly MatchPart[]): RequestMatch {
  const said = Object.assign({}, ...parts) as MatchPart
  const none = EMPTY_REQUEST_MATCH
  return {
    connection: joinedConnection(said),
    hosts: said.hosts ?? none.hosts,
    notHosts: said.notHosts ?? none.notHosts,
    methods: said.methods ?? none.methods,
    notMethods: said.notMethods ?? none.notMethods,
    paths: said.paths ?? none.paths,
    notPaths: said.notPaths ?? none.notPaths,
    headers: parts.flatMap(({ headers = [] }) => headers),
    snis: said.snis ?? none.snis,
    notSnis: said.notSnis ?? none.notSnis,
  }
}
