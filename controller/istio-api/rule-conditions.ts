// SPDX-License-Identifier: Apache-2.0
// The conditions of a rule of an AuthorizationPolicy: which there are, which of them an agent can evaluate, and what each becomes.
// A condition that cannot be evaluated is noted and left out; what that means for the rule depends on the policy's action.

import { EMPTY_MATCH, type PolicyMatch } from '../../mesh/model/policy.ts'
import type { RequestMatch } from '../../mesh/model/waypoint-policy.ts'
import {
  readAccount,
  readAddressRange,
  readPort,
  readPrincipal,
  readStringMatch,
  type ValueReader,
} from './condition-values.ts'
import type { FlawReader } from './flaw.ts'

/** What is compared, whoever does it: of connections, and of requests. */
type Compared = Omit<PolicyMatch, 'isPartlyUnread'> & Omit<RequestMatch, 'connection'>

/** The fields of a match that hold lists of what a condition compares with. */
type ListField = Exclude<keyof Compared, 'headers'>

export type MatchPart = Partial<Compared>

/** What reading a policy has to go by. */
export interface RuleContext {
  readonly reader: FlawReader
  /** Of the policy. */
  readonly namespace: string
  /** False when the object has said more than anybody may. */
  readonly spend: (entries: number) => boolean
}

/** Which conditions there are for somebody who enforces policies, and what a match is to them. */
export interface Vocabulary<Match> {
  /** The fields of `from[].source` and of `to[].operation`. */
  readonly source: ReadonlyMap<string, ConditionReader>
  readonly operation: ReadonlyMap<string, ConditionReader>
  /** The condition of a key of `when`; undefined when there is none. */
  readonly conditionOf: (key: string) => KeyedCondition | undefined
  /** A match of which all of these parts must hold. */
  readonly joined: (parts: readonly MatchPart[]) => Match
}

/** Gives what the condition becomes; undefined when it cannot be evaluated, which has been noted. */
export type ConditionReader = (
  context: RuleContext,
  field: string,
  value: unknown,
) => MatchPart | undefined

/** Istio's own bound of a list of service accounts. */
const MOST_ACCOUNTS = 16

/** A condition that compares with a list of values. */
export function compared<F extends ListField>(
  into: F,
  read: ValueReader<Compared[F][number]>,
  most = Infinity,
): ConditionReader {
  return ({ reader, namespace, spend }, field, value) => {
    if (!Array.isArray(value)) {
      reader.note(field, 'is not a list')
      return undefined
    }
    const values: readonly unknown[] = value
    // Whoever makes lists by a template may mean "nobody", which no condition would be the opposite of.
    if (values.length === 0) reader.note(field, 'is an empty list')
    else if (values.length > most) reader.note(field, `has ${values.length}, more than ${most}`)
    else if (spend(values.length)) {
      const items = readValues(reader, field, values, (each) => read(each, namespace))
      return items === undefined ? undefined : { [into]: items }
    }
    return undefined
  }
}

function readValues<T>(
  reader: FlawReader,
  field: string,
  values: readonly unknown[],
  read: (value: unknown) => ReturnType<ValueReader<T>>,
): readonly T[] | undefined {
  const items: T[] = []
  for (const [index, value] of values.entries()) {
    const item = read(value)
    if (item.ok) items.push(item.value)
    else reader.note(`${field}[${index}]`, item.error)
  }
  // Some of a list are less than the list, also where more of them deny. Kept without the room that it has for more.
  return items.length === values.length ? items.slice() : undefined
}

const requests: ConditionReader = ({ reader }, field) => {
  reader.unsupported(
    field,
    'is a condition on requests, and agents see connections: attach the policy to a waypoint, by spec.targetRefs',
  )
  return undefined
}

const trust: ConditionReader = ({ reader }, field) => {
  reader.unsupported(field, 'is not evaluated by agents: write principals, such as "domain/*"')
  return undefined
}

const notServed: ConditionReader = ({ reader }, field) => {
  reader.unsupported(field, 'is not evaluated by agents')
  return undefined
}

/** The fields of `from[].source` that say who calls. */
export const CONNECTION_SOURCE: ReadonlyMap<string, ConditionReader> = new Map([
  ['principals', compared('principals', readPrincipal)],
  ['notPrincipals', compared('notPrincipals', readPrincipal)],
  ['namespaces', compared('namespaces', readStringMatch)],
  ['notNamespaces', compared('notNamespaces', readStringMatch)],
  ['serviceAccounts', compared('serviceAccounts', readAccount, MOST_ACCOUNTS)],
  ['notServiceAccounts', compared('notServiceAccounts', readAccount, MOST_ACCOUNTS)],
  ['ipBlocks', compared('sourceIps', readAddressRange)],
  ['notIpBlocks', compared('notSourceIps', readAddressRange)],
])

const SOURCE: ReadonlyMap<string, ConditionReader> = new Map([
  ...CONNECTION_SOURCE,
  ['requestPrincipals', requests],
  ['notRequestPrincipals', requests],
  ['remoteIpBlocks', requests],
  ['notRemoteIpBlocks', requests],
  ['trustDomains', trust],
  ['notTrustDomains', trust],
])

/** The fields of `to[].operation` that say what is called. */
export const CONNECTION_OPERATION: ReadonlyMap<string, ConditionReader> = new Map([
  ['ports', compared('destinationPorts', readPort)],
  ['notPorts', compared('notDestinationPorts', readPort)],
])

const OPERATION: ReadonlyMap<string, ConditionReader> = new Map([
  ...CONNECTION_OPERATION,
  ...['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths'].map(
    (name) => [name, requests] as const,
  ),
])

/** What a condition of `when` compares, for its `values` and for its `notValues`. */
export interface KeyedCondition {
  readonly values: ConditionReader
  readonly notValues: ConditionReader
}

/** The keys of `when` that are about connections. */
export const CONNECTION_KEYS: ReadonlyMap<string, KeyedCondition> = new Map([
  ['source.ip', both('sourceIps', 'notSourceIps', readAddressRange)],
  ['source.namespace', both('namespaces', 'notNamespaces', readStringMatch)],
  ['source.principal', both('principals', 'notPrincipals', readPrincipal)],
  ['source.serviceAccount', both('serviceAccounts', 'notServiceAccounts', readAccount)],
  ['destination.ip', both('destinationIps', 'notDestinationIps', readAddressRange)],
  ['destination.port', both('destinationPorts', 'notDestinationPorts', readPort)],
])

const KEYS: ReadonlyMap<string, KeyedCondition> = new Map([
  ...CONNECTION_KEYS,
  ['source.trustDomain', { values: trust, notValues: trust }],
  ['remote.ip', { values: requests, notValues: requests }],
  ['connection.sni', { values: notServed, notValues: notServed }],
])

const REQUEST_KEY =
  /^request\.(?:headers\[.+\]|auth\.(?:principal|audiences|presenter|claims\[.+\]))$/
export const FILTER_KEY = /^experimental\.envoy\.filters\./

function conditionOf(key: string): KeyedCondition | undefined {
  const known = KEYS.get(key)
  if (known !== undefined) return known
  if (REQUEST_KEY.test(key)) return { values: requests, notValues: requests }
  return FILTER_KEY.test(key) ? { values: notServed, notValues: notServed } : undefined
}

/** A condition of `when` that becomes these fields. */
export function both<F extends ListField, N extends ListField>(
  into: F,
  notInto: N,
  read: ValueReader<Compared[F][number] & Compared[N][number]>,
): KeyedCondition {
  return { values: compared(into, read), notValues: compared(notInto, read) }
}

/** What agents can evaluate: connections. */
export const OF_AGENTS: Vocabulary<PolicyMatch> = {
  source: SOURCE,
  operation: OPERATION,
  conditionOf,
  joined: (parts) => joinedConnection(Object.assign({}, ...parts) as MatchPart),
}

/** What of the parts is about the connection. Written out, so that all have one shape. */
export function joinedConnection(said: MatchPart): PolicyMatch {
  const none = EMPTY_MATCH
  return {
    namespaces: said.namespaces ?? none.namespaces,
    notNamespaces: said.notNamespaces ?? none.notNamespaces,
    principals: said.principals ?? none.principals,
    notPrincipals: said.notPrincipals ?? none.notPrincipals,
    sourceIps: said.sourceIps ?? none.sourceIps,
    notSourceIps: said.notSourceIps ?? none.notSourceIps,
    destinationIps: said.destinationIps ?? none.destinationIps,
    notDestinationIps: said.notDestinationIps ?? none.notDestinationIps,
    destinationPorts: said.destinationPorts ?? none.destinationPorts,
    notDestinationPorts: said.notDestinationPorts ?? none.notDestinationPorts,
    serviceAccounts: said.serviceAccounts ?? none.serviceAccounts,
    notServiceAccounts: said.notServiceAccounts ?? none.notServiceAccounts,
    isPartlyUnread: false,
  }
}
