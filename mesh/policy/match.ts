// SPDX-License-Identifier: Apache-2.0
// The truth of rules, and of what they are made of, for one call. The meaning is Istio's: of a rule all clauses must match, of a
// clause one match, of a match all fields, of a field one value, of a field's negation none. Rules are compiled first: of a match
// only the fields that it has are left, addresses as numbers.

import type {
  AccountMatch,
  AddressRange,
  PolicyMatch,
  PolicyRule,
  StringMatch,
} from '../model/policy.ts'
import { type AddressBits, addressBits, type CallFacts, sharesBits } from './call-facts.ts'

/** `unknown`: some of it could not be read, and nothing else of it says no. */
export type Truth = 'yes' | 'no' | 'unknown'

/** A field of a match that holds values. */
export type MatchField = Exclude<keyof PolicyMatch, 'isPartlyUnread'>

export interface RangeBits {
  readonly base: AddressBits
  readonly length: number
}

interface Asked {
  readonly field: MatchField
  /** None of the values may match, instead of one of them must. */
  readonly isNegated: boolean
}

/** One field of a match: whom it asks about, and for which values. */
export type FieldTest =
  | (Asked & { readonly asks: 'principal' | 'namespace'; readonly values: readonly StringMatch[] })
  | (Asked & { readonly asks: 'serviceAccount'; readonly values: readonly AccountMatch[] })
  | (Asked & { readonly asks: 'source' | 'destination'; readonly values: readonly RangeBits[] })
  | (Asked & { readonly asks: 'port'; readonly values: readonly number[] })

export interface CompiledMatch {
  readonly tests: readonly FieldTest[]
  readonly isPartlyUnread: boolean
}

/** Clauses of matches. */
export type CompiledRule = readonly (readonly CompiledMatch[])[]

export function compileRule(rule: PolicyRule): CompiledRule {
  return rule.clauses.map(({ matches }) => matches.map(compileMatch))
}

export function compileMatch(match: PolicyMatch): CompiledMatch {
  const all: readonly FieldTest[] = [
    text('principals', 'principal', false, match.principals),
    text('notPrincipals', 'principal', true, match.notPrincipals),
    text('namespaces', 'namespace', false, match.namespaces),
    text('notNamespaces', 'namespace', true, match.notNamespaces),
    account('serviceAccounts', false, match.serviceAccounts),
    account('notServiceAccounts', true, match.notServiceAccounts),
    range('sourceIps', 'source', false, match.sourceIps),
    range('notSourceIps', 'source', true, match.notSourceIps),
    range('destinationIps', 'destination', false, match.destinationIps),
    range('notDestinationIps', 'destination', true, match.notDestinationIps),
    port('destinationPorts', false, match.destinationPorts),
    port('notDestinationPorts', true, match.notDestinationPorts),
  ]
  return {
    tests: all.filter(({ values }) => values.length > 0),
    isPartlyUnread: match.isPartlyUnread,
  }
}

/** Whether a rule matches. One without clauses does, and so does a clause without matches. */
export function truthOfRule(rule: CompiledRule, facts: CallFacts): Truth {
  let truth: Truth = 'yes'
  for (const clause of rule) {
    const next = truthOfClause(clause, facts)
    if (next === 'no') return 'no'
    if (next === 'unknown') truth = 'unknown'
  }
  return truth
}

function truthOfClause(clause: readonly CompiledMatch[], facts: CallFacts): Truth {
  let truth: Truth = clause.length === 0 ? 'yes' : 'no'
  for (const match of clause) {
    const next = truthOfMatch(match, facts)
    if (next === 'yes') return 'yes'
    if (next === 'unknown') truth = 'unknown'
  }
  return truth
}

/** Whether a match is true; one that says nothing is not. */
export function truthOfMatch({ tests, isPartlyUnread }: CompiledMatch, facts: CallFacts): Truth {
  for (const test of tests) if (!holds(test, facts)) return 'no'
  // What cannot be read may say anything, also of a match that says nothing else.
  if (isPartlyUnread) return 'unknown'
  return tests.length === 0 ? 'no' : 'yes'
}

/** Whether a call meets one field of a match. Hot: for every rule that the index cannot rule out. */
export function holds(test: FieldTest, facts: CallFacts): boolean {
  return isAmong(test, facts) !== test.isNegated
}

function isAmong(test: FieldTest, facts: CallFacts): boolean {
  switch (test.asks) {
    case 'principal':
      // Without an identity there is nothing to compare: not even a prefix of no characters is one of it.
      return facts.principal !== '' && someText(test.values, facts.principal)
    case 'namespace':
      return someText(test.values, facts.namespace)
    case 'serviceAccount':
      return someAccount(test.values, facts)
    case 'source':
      return someRange(test.values, facts.source)
    case 'destination':
      return someRange(test.values, facts.destination)
    case 'port':
      return test.values.includes(facts.port)
  }
}

function someText(values: readonly StringMatch[], text: string): boolean {
  for (const value of values) if (matchesText(value, text)) return true
  return false
}

function matchesText(value: StringMatch, text: string): boolean {
  switch (value.kind) {
    case 'exact':
      return text === value.text
    case 'prefix':
      return text.startsWith(value.text)
    case 'suffix':
      return text.endsWith(value.text)
    case 'present':
      return text !== ''
  }
}

function someAccount(values: readonly AccountMatch[], facts: CallFacts): boolean {
  if (facts.serviceAccount === '') return false
  for (const { namespace, serviceAccount } of values)
    if (serviceAccount === facts.serviceAccount && namespace === facts.namespace) return true
  return false
}

function someRange(values: readonly RangeBits[], address: AddressBits): boolean {
  for (const { base, length } of values) if (sharesBits(base, address, length)) return true
  return false
}

const text = (
  field: MatchField,
  asks: 'principal' | 'namespace',
  isNegated: boolean,
  values: readonly StringMatch[],
): FieldTest => ({ field, asks, isNegated, values })

const account = (
  field: MatchField,
  isNegated: boolean,
  values: readonly AccountMatch[],
): FieldTest => ({ field, asks: 'serviceAccount', isNegated, values })

const range = (
  field: MatchField,
  asks: 'source' | 'destination',
  isNegated: boolean,
  values: readonly AddressRange[],
): FieldTest => ({
  field,
  asks,
  isNegated,
  values: values.map(({ address, length }) => ({ base: addressBits(address), length })),
})

const port = (field: MatchField, isNegated: boolean, values: readonly number[]): FieldTest => ({
  field,
  asks: 'port',
  isNegated,
  values,
})
