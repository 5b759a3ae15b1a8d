// SPDX-License-Identifier: Apache-2.0
// The truth of rules, and of what they are made of, for one call. The meaning is Istio's: of a rule all clauses must match, of a
// clause one match, of a match all fields, of a field one value, of a field's negation none.

import type { StringMatch } from '../model/policy.ts'
import { type AddressBits, sharesBits } from './address-bits.ts'
import type { CallFacts } from './call-facts.ts'
import type { CompiledMatch, CompiledRule, FieldTest } from './field-test.ts'
import type { RangeBits } from './value-tables.ts'

/** `unknown`: some of it could not be read, and nothing else of it says no. */
export type Truth = 'yes' | 'no' | 'unknown'

/** Whether a rule matches. One without clauses does. Hot: for every rule that the index cannot rule out. */
export function truthOfRule(rule: CompiledRule, facts: CallFacts): Truth {
  let truth: Truth = 'yes'
  for (const clause of rule) {
    const next = truthOfClause(clause, facts)
    if (next === 'no') return 'no'
    if (next === 'unknown') truth = 'unknown'
  }
  return truth
}

/** Whether a clause matches. One without matches does. */
export function truthOfClause(clause: readonly CompiledMatch[], facts: CallFacts): Truth {
  let truth: Truth = clause.length === 0 ? 'yes' : 'no'
  for (const match of clause) {
    const next = truthOfMatch(match, facts)
    if (next === 'yes') return 'yes'
    if (next === 'unknown') truth = 'unknown'
  }
  return truth
}

/** Whether a match is true. One that says nothing is not. */
export function truthOfMatch({ tests, isPartlyUnread }: CompiledMatch, facts: CallFacts): Truth {
  for (const test of tests) if (!holds(test, facts)) return 'no'
  // What cannot be read may say anything, also of a match that says nothing else.
  if (isPartlyUnread) return 'unknown'
  return tests.length === 0 ? 'no' : 'yes'
}

/** Whether a call meets one field of a match. */
export function holds(test: FieldTest, facts: CallFacts): boolean {
  return isNamed(test, facts) !== test.isNegated
}

function isNamed(test: FieldTest, facts: CallFacts): boolean {
  switch (test.asks) {
    case 'principal':
      // Without an identity there is nothing to compare: not even a prefix of no characters is one of it.
      if (facts.principal === '') return false
      return test.table?.has(facts.principal) ?? someText(test.values, facts.principal)
    case 'namespace':
      return test.table?.has(facts.namespace) ?? someText(test.values, facts.namespace)
    case 'account':
      return test.table?.has(facts.account) ?? test.values.includes(facts.account)
    case 'source':
      return test.table?.has(facts.source) ?? someRange(test.values, facts.source)
    case 'destination':
      return test.table?.has(facts.destination) ?? someRange(test.values, facts.destination)
    case 'port':
      return test.table?.has(facts.port) ?? test.values.includes(facts.port)
  }
}

function someText(values: readonly StringMatch[], text: string): boolean {
  for (const value of values) if (matchesText(value, text)) return true
  return false
}

/** Whether a text is one that the value asks for. */
export function matchesText(value: StringMatch, text: string): boolean {
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

function someRange(values: readonly RangeBits[], address: AddressBits): boolean {
  for (const { base, length } of values) if (sharesBits(base, address, length)) return true
  return false
}
