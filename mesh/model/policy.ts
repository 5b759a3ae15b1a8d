// SPDX-License-Identifier: Apache-2.0
// An authorization policy of layer 4, and its form on the wire (istio.security.Authorization). What its words mean is said in
// mesh/policy; how AuthorizationPolicy and PeerAuthentication become it, in the controller.

import {
  type Kind,
  FLAG,
  list,
  optional,
  single,
  TEXT,
  type Value,
  UINT,
  word,
} from './codec/kind.ts'
import { converted, derived, field, OWN_FIELDS, record, wholeRecord } from './codec/record.ts'
import { BYTES, FieldProblem } from './codec/wire-reader.ts'
import { type IpAddress, isIpv4Address } from './address.ts'
import { IP, PORT_NUMBER } from './gateway.ts'

/** Key of a policy, `<namespace>/<name>`: as workloads name it in `authorizationPolicies`. */
export type PolicyKey = string & { readonly __brand: 'PolicyKey' }

/** `workload`: those that name it. */
export type PolicyScope = 'mesh' | 'namespace' | 'workload'

export type PolicyAction = 'allow' | 'deny'

/** How a text is compared; `present` is true of every text but the empty one. */
export type StringMatch =
  | { readonly kind: 'exact' | 'prefix' | 'suffix'; readonly text: string }
  | { readonly kind: 'present' }

export interface AddressRange {
  readonly address: IpAddress
  /** Bits of the address that count. */
  readonly length: number
}

export interface AccountMatch {
  readonly namespace: string
  readonly serviceAccount: string
}

/** True when each of its fields that is not empty is: of a field one value must match, of a `not` field none may. */
export interface PolicyMatch {
  readonly namespaces: readonly StringMatch[]
  readonly notNamespaces: readonly StringMatch[]
  /** Without `spiffe://`. */
  readonly principals: readonly StringMatch[]
  readonly notPrincipals: readonly StringMatch[]
  readonly sourceIps: readonly AddressRange[]
  readonly notSourceIps: readonly AddressRange[]
  readonly destinationIps: readonly AddressRange[]
  readonly notDestinationIps: readonly AddressRange[]
  readonly destinationPorts: readonly number[]
  readonly notDestinationPorts: readonly number[]
  readonly serviceAccounts: readonly AccountMatch[]
  readonly notServiceAccounts: readonly AccountMatch[]
  /** It has conditions that cannot be read here: whether it matches is not known. */
  readonly isPartlyUnread: boolean
}

/** True when one of its matches is. */
export interface PolicyClause {
  readonly matches: readonly PolicyMatch[]
}

/** True when all its clauses are. */
export interface PolicyRule {
  readonly clauses: readonly PolicyClause[]
  /** Its place in the object's `spec.rules`, from 0: rules that cannot be enforced are left out. Undefined when nobody says. */
  readonly place: number | undefined
}

export interface Policy {
  readonly key: PolicyKey
  readonly namespace: string
  readonly name: string
  readonly scope: PolicyScope
  readonly action: PolicyAction
  /** It matches when one of them does. */
  readonly rules: readonly PolicyRule[]
  /** To be evaluated and reported, never to be enforced. */
  readonly isDryRun: boolean
  /** Of the action AUDIT: calls that match are put on record. To readers who do not know this field, it is on trial. */
  readonly isAudit: boolean
  /** The object it was made of, `<kind> <namespace>/<name>`; empty when that is the AuthorizationPolicy of its name. */
  readonly madeOf: string
}

/** What is on the wire of a StringMatch: exactly one of them. */
interface WireStringMatch {
  readonly exact: string | undefined
  readonly prefix: string | undefined
  readonly suffix: string | undefined
  readonly presence: object | undefined
}

const EMPTY = record<object>({})

export const STRING_MATCH: Value<StringMatch> = converted(
  wholeRecord<WireStringMatch>({
    exact: field('exact', 1, optional(TEXT)),
    prefix: field('prefix', 2, optional(TEXT)),
    suffix: field('suffix', 3, optional(TEXT)),
    presence: field('presence', 4, optional(EMPTY)),
  }),
  { kind: 'present' },
  ({ exact, prefix, suffix, presence }) => {
    const found: StringMatch[] = []
    if (exact !== undefined) found.push({ kind: 'exact', text: exact })
    if (prefix !== undefined) found.push({ kind: 'prefix', text: prefix })
    if (suffix !== undefined) found.push({ kind: 'suffix', text: suffix })
    if (presence !== undefined) found.push({ kind: 'present' })
    const [only, another] = found
    // None would match everything or nothing, as one reads it: neither is to be guessed of a policy.
    if (only === undefined) throw new FieldProblem('says no kind of match')
    if (another !== undefined) throw new FieldProblem('says several kinds of match')
    return only
  },
  (match) => ({
    exact: match.kind === 'exact' ? match.text : undefined,
    prefix: match.kind === 'prefix' ? match.text : undefined,
    suffix: match.kind === 'suffix' ? match.text : undefined,
    presence: match.kind === 'present' ? {} : undefined,
  }),
)

export const ADDRESS_RANGE: Value<AddressRange> = converted(
  wholeRecord<AddressRange>({
    address: field('address', 1, single(IP), { isRequired: true }),
    length: field('length', 2, single(UINT)),
  }),
  { address: '' as IpAddress, length: 0 },
  (range) => {
    const longest = isIpv4Address(range.address) ? 32 : 128
    if (range.length > longest)
      throw new FieldProblem(`is ${range.length}, more than ${longest}`, 'length')
    return range
  },
  (range) => range,
)

const ACCOUNT = wholeRecord<AccountMatch>({
  namespace: field('namespace', 1, single(TEXT)),
  serviceAccount: field('service_account', 2, single(TEXT), { isRequired: true }),
})

const EXTENSIONS = 13
const NOTHING = new Uint8Array()

/** Whatever it holds, that it is there is all that can be told of it; and told on: without it the match would be a wider one. */
const UNREAD: Kind<boolean> = {
  absent: false,
  read: (reader, wireType) => {
    reader.skip((EXTENSIONS << 3) | wireType)
    return true
  },
  write: (writer, number, isThere) => {
    if (!isThere) return
    writer.tag(number, BYTES)
    writer.bytes(NOTHING)
  },
  key: String,
}

export const CONNECTION_MATCH = record<PolicyMatch>(
  {
    namespaces: field('namespaces', 1, list(STRING_MATCH)),
    notNamespaces: field('not_namespaces', 2, list(STRING_MATCH)),
    principals: field('principals', 3, list(STRING_MATCH)),
    notPrincipals: field('not_principals', 4, list(STRING_MATCH)),
    sourceIps: field('source_ips', 5, list(ADDRESS_RANGE)),
    notSourceIps: field('not_source_ips', 6, list(ADDRESS_RANGE)),
    destinationIps: field('destination_ips', 7, list(ADDRESS_RANGE)),
    notDestinationIps: field('not_destination_ips', 8, list(ADDRESS_RANGE)),
    destinationPorts: field('destination_ports', 9, list(PORT_NUMBER)),
    notDestinationPorts: field('not_destination_ports', 10, list(PORT_NUMBER)),
    serviceAccounts: field('service_accounts', 11, list(ACCOUNT)),
    notServiceAccounts: field('not_service_accounts', 12, list(ACCOUNT)),
    isPartlyUnread: field('extensions', EXTENSIONS, UNREAD),
  },
  // As with extensions: without a condition the match would be a wider one.
  { unknown: { notedIn: 'isPartlyUnread' } },
)

/** A match that says nothing. */
export const EMPTY_MATCH: PolicyMatch = CONNECTION_MATCH.zero

const CLAUSE = wholeRecord<PolicyClause>({ matches: field('matches', 2, list(CONNECTION_MATCH)) })

const RULE = wholeRecord<PolicyRule>({
  clauses: field('clauses', 1, list(CLAUSE)),
  place: field('ambit_place', OWN_FIELDS, optional(UINT)),
})

export const POLICY = record<Policy>({
  key: derived(
    '' as PolicyKey,
    ({ namespace, name }: Policy) => `${namespace}/${name}` as PolicyKey,
    { dump: () => ({}) },
  ),
  name: field('name', 1, single(TEXT), { isRequired: true }),
  namespace: field('namespace', 2, single(TEXT), { isShared: true }),
  scope: field('scope', 3, single(word<PolicyScope>(['mesh', 'namespace', 'workload'])), {
    dump: (scope) => ({
      scope: { mesh: 'Global', namespace: 'Namespace', workload: 'WorkloadSelector' }[scope],
    }),
  }),
  action: field('action', 4, single(word<PolicyAction>(['allow', 'deny'])), {
    dump: (action) => ({ action: { allow: 'Allow', deny: 'Deny' }[action] }),
  }),
  rules: field('rules', 5, list(RULE)),
  isDryRun: field('dry_run', 6, single(FLAG), { dump: (dryRun) => ({ dryRun }) }),
  isAudit: field('ambit_audit', OWN_FIELDS, single(FLAG), { dump: (audit) => ({ audit }) }),
  madeOf: field('ambit_made_of', OWN_FIELDS + 1, single(TEXT), { dump: (madeOf) => ({ madeOf }) }),
})
