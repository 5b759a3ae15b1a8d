// SPDX-License-Identifier: Apache-2.0
// Sample policies and calls, and arbitrary ones of small alphabets, so that matches happen.

import fc from 'fast-check'
import {
  type AccountMatch,
  type AddressRange,
  EMPTY_MATCH,
  type Policy,
  type PolicyKey,
  type PolicyMatch,
  type PolicyRule,
  type StringMatch,
} from '../../mesh/model/policy.ts'
import type { SpiffeId } from '../../mesh/model/types.ts'
import type { PolicyCall } from '../../mesh/policy/types.ts'
import { ip } from '../model/samples.ts'

/** A policy of these matches, each in a rule of its own. */
export function samplePolicy(
  name: string,
  action: Policy['action'],
  matches: readonly Partial<PolicyMatch>[],
  overrides: Partial<Policy> = {},
): Policy {
  const namespace = overrides.namespace ?? 'shop'
  return {
    key: `${namespace}/${name}` as PolicyKey,
    namespace,
    name,
    scope: 'namespace',
    action,
    rules: matches.map((match, place) => ({
      clauses: [{ matches: [{ ...EMPTY_MATCH, ...match }] }],
      place,
    })),
    isDryRun: false,
    isAudit: false,
    madeOf: '',
    ...overrides,
  }
}

/** A call of `cluster.local/ns/shop/sa/frontend` unless told otherwise; of nobody with `identity: undefined`. */
export function sampleCall(overrides: Partial<PolicyCall> = {}): PolicyCall {
  return {
    identity: 'spiffe://cluster.local/ns/shop/sa/frontend' as SpiffeId,
    source: ip('10.244.0.7'),
    destination: { address: ip('10.244.1.9'), port: 8080 },
    ...overrides,
  }
}

/** Objects as literals make them: fast-check would sometimes leave the prototype out. */
export const plain = <Value>(model: { [Key in keyof Value]: fc.Arbitrary<Value[Key]> }) =>
  fc.record<Value>(model, { noNullPrototype: true })

export const few = <Value>(of: fc.Arbitrary<Value>): fc.Arbitrary<Value[]> =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constant<Value[]>([]) },
    { weight: 2, arbitrary: fc.array(of, { minLength: 1, maxLength: 3 }) },
  )

const NAMES = ['a', 'ab', 'b', 'ba'] as const
const name = fc.constantFrom(...NAMES)
const principal = fc
  .tuple(fc.constantFrom('td', 't'), name, name)
  .map(([domain, namespace, account]) => `${domain}/ns/${namespace}/sa/${account}`)
const partOf = (text: fc.Arbitrary<string>, fromEnd: boolean): fc.Arbitrary<string> =>
  fc
    .tuple(text, fc.nat(20))
    .map(([whole, length]) =>
      fromEnd ? whole.slice(-length || whole.length) : whole.slice(0, length),
    )

export const stringMatch = (text: fc.Arbitrary<string>): fc.Arbitrary<StringMatch> =>
  fc.oneof(
    text.map((each) => ({ kind: 'exact', text: each }) as const),
    partOf(text, false).map((each) => ({ kind: 'prefix', text: each }) as const),
    partOf(text, true).map((each) => ({ kind: 'suffix', text: each }) as const),
    fc.constant({ kind: 'present' } as const),
    // What is in no name: an empty text is compared like any other.
    fc.constantFrom('exact', 'prefix', 'suffix').map((kind) => ({ kind, text: '' }) as const),
  )

const ADDRESSES = ['10.0.0.1', '10.0.0.2', '10.128.0.1', '::1', '2001:db8::1', '2001:db8:0:1::1']
const address = fc.constantFrom(...ADDRESSES).map(ip)
const range: fc.Arbitrary<AddressRange> = fc.tuple(address, fc.nat(128)).map(([base, length]) => ({
  address: base,
  length: base.includes(':') ? length : length % 33,
}))
const port = fc.constantFrom(80, 443, 8080)
const account: fc.Arbitrary<AccountMatch> = plain({
  namespace: fc.oneof(name, fc.constant('')),
  serviceAccount: name,
})

const anyMatch: fc.Arbitrary<PolicyMatch> = plain({
  namespaces: few(stringMatch(name)),
  notNamespaces: few(stringMatch(name)),
  principals: few(stringMatch(principal)),
  notPrincipals: few(stringMatch(principal)),
  sourceIps: few(range),
  notSourceIps: few(range),
  destinationIps: few(range),
  notDestinationIps: few(range),
  destinationPorts: few(port),
  notDestinationPorts: few(port),
  serviceAccounts: few(account),
  notServiceAccounts: few(account),
  isPartlyUnread: fc.oneof(
    { weight: 9, arbitrary: fc.constant(false) },
    { weight: 1, arbitrary: fc.constant(true) },
  ),
})

/** Mostly of one or two fields: with twelve hardly anything matches. */
export const sparseMatch: fc.Arbitrary<PolicyMatch> = fc
  .tuple(anyMatch, fc.uniqueArray(fc.constantFrom(...matchFields()), { maxLength: 2 }))
  .map(([match, kept]) => ({
    ...EMPTY_MATCH,
    ...Object.fromEntries(kept.map((field) => [field, match[field]])),
    isPartlyUnread: match.isPartlyUnread,
  }))

function matchFields(): readonly Exclude<keyof PolicyMatch, 'isPartlyUnread'>[] {
  return Object.keys(EMPTY_MATCH).filter(
    (field): field is Exclude<keyof PolicyMatch, 'isPartlyUnread'> => field !== 'isPartlyUnread',
  )
}

const anyRule: fc.Arbitrary<PolicyRule> = plain({
  clauses: fc.array(
    plain({
      matches: fc.array(
        fc.oneof({ weight: 4, arbitrary: sparseMatch }, { weight: 1, arbitrary: anyMatch }),
        {
          maxLength: 3,
        },
      ),
    }),
    { maxLength: 2 },
  ),
  place: fc.option(fc.nat(100), { nil: undefined }),
})

const anyPolicy: fc.Arbitrary<Omit<Policy, 'key' | 'name'>> = plain({
  namespace: name,
  scope: fc.constantFrom('mesh', 'namespace', 'workload'),
  action: fc.constantFrom('allow', 'deny'),
  rules: fc.array(anyRule, { maxLength: 4 }),
  isDryRun: fc.oneof(fc.constant(false), fc.constant(false), fc.boolean()),
  isAudit: fc.oneof(fc.constant(false), fc.constant(false), fc.boolean()),
  madeOf: fc.constantFrom('', 'PeerAuthentication a/b'),
})

/** Up to eight, each with a name of its own. */
export const anyPolicies: fc.Arbitrary<readonly Policy[]> = fc
  .array(anyPolicy, { maxLength: 8 })
  .map((policies) =>
    policies.map((policy, index) => ({
      ...policy,
      name: `p${index}`,
      key: `${policy.namespace}/p${index}` as PolicyKey,
    })),
  )

export const anyCall: fc.Arbitrary<PolicyCall> = plain({
  identity: fc.option(
    principal.map((each) => `spiffe://${each}` as SpiffeId),
    { nil: undefined, freq: 4 },
  ),
  source: address,
  destination: plain({ address, port }),
})
