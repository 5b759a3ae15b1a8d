// SPDX-License-Identifier: Apache-2.0
// The conditions of a rule of an AuthorizationPolicy: which there are, which of them an agent can evaluate, and what each becomes.
// A condition that cannot be evaluated is noted and left out; what that means for the rule depends on the policy's action.

import type { PolicyMatch } from '../../mesh/model/policy.ts'
import {
  readAccount,
  readAddressRange,
  readPort,
  readPrincipal,
  readStringMatch,
  type ValueReader,
} from './condition-values.ts'
import type { FlawReader } from './flaw.ts'

/** The fields of a match that hold lists of what a condition compares with. */
type ListField = Exclude<keyof PolicyMatch, 'isPartlyUnread'>

export type MatchPart = Partial<Omit<PolicyMatch, 'isPartlyUnread'>>

/** What reading a policy has to go by. */
export interface RuleContext {
  readonly reader: FlawReader
  /** Of the policy. */
  readonly namespace: string
  /** False when the object has said more than anybody may. */
  readonly spend: (entries: number) => boolean
}

/** Gives what the condition becomes; undefined when it cannot be evaluated, which has been noted. */
export type ConditionReader = (
  context: RuleContext,
  field: string,
  value: unknown,
) => MatchPart | undefined

/** Istio's own bound of a list of service accounts. */
const MOST_ACCOUNTS = 16

function compared<F extends ListField>(
  into: F,
  read: ValueReader<PolicyMatch[F][number]>,
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

/** The fields of `from[].source`. */
export const SOURCE: ReadonlyMap<string, ConditionReader> = new Map([
  ['principals', compared('principals', readPrincipal)],
  ['notPrincipals', compared('notPrincipals', readPrincipal)],
  ['namespaces', compared('namespaces', readStringMatch)],
  ['notNamespaces', compared('notNamespaces', readStringMatch)],
  ['serviceAccounts', compared('serviceAccounts', readAccount, MOST_ACCOUNTS)],
  ['notServiceAccounts', compared('notServiceAccounts', readAccount, MOST_ACCOUNTS)],
  ['ipBlocks', compared('sourceIps', readAddressRange)],
  ['notIpBlocks', compared('notSourceIps', readAddressRange)],
  ['requestPrincipals', requests],
  ['notRequestPrincipals', requests],
  ['remoteIpBlocks', requests],
  ['notRemoteIpBlocks', requests],
  ['trustDomains', trust],
  ['notTrustDomains', trust],
])

/** The fields of `to[].operation`. */
export const OPERATION: ReadonlyMap<string, ConditionReader> = new Map([
  ['ports', compared('destinationPorts', readPort)],
  ['notPorts', compared('notDestinationPorts', readPort)],
  ...['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths'].map(
    (name) => [name, requests] as const,
  ),
])

/** What a condition of `when` compares, for its `values` and for its `notValues`. */
export interface KeyedCondition {
  readonly values: ConditionReader
  readonly notValues: ConditionReader
}

const KEYS: ReadonlyMap<string, KeyedCondition> = new Map([
  ['source.ip', both('sourceIps', 'notSourceIps', readAddressRange)],
  ['source.namespace', both('namespaces', 'notNamespaces', readStringMatch)],
  ['source.principal', both('principals', 'notPrincipals', readPrincipal)],
  ['source.serviceAccount', both('serviceAccounts', 'notServiceAccounts', readAccount)],
  ['destination.ip', both('destinationIps', 'notDestinationIps', readAddressRange)],
  ['destination.port', both('destinationPorts', 'notDestinationPorts', readPort)],
  ['source.trustDomain', { values: trust, notValues: trust }],
  ['remote.ip', { values: requests, notValues: requests }],
  ['connection.sni', { values: notServed, notValues: notServed }],
])

const REQUEST_KEY =
  /^request\.(?:headers\[.+\]|auth\.(?:principal|audiences|presenter|claims\[.+\]))$/
const FILTER_KEY = /^experimental\.envoy\.filters\./

/** The condition of this key; undefined when there is none. */
export function conditionOf(key: string): KeyedCondition | undefined {
  const known = KEYS.get(key)
  if (known !== undefined) return known
  if (REQUEST_KEY.test(key)) return { values: requests, notValues: requests }
  return FILTER_KEY.test(key) ? { values: notServed, notValues: notServed } : undefined
}

function both<F extends ListField, N extends ListField>(
  into: F,
  notInto: N,
  read: ValueReader<PolicyMatch[F][number] & PolicyMatch[N][number]>,
): KeyedCondition {
  return { values: compared(into, read), notValues: compared(notInto, read) }
}
