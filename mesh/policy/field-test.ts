// SPDX-License-Identifier: Apache-2.0
// Rules made ready to be asked: of a match only the fields that it has are left, addresses are numbers, long lists are tables.

import type {
  AccountMatch,
  AddressRange,
  PolicyMatch,
  PolicyRule,
  StringMatch,
} from '../model/policy.ts'
import { finish } from '../async/sliced.ts'
import { addressBits, leadingBits } from './address-bits.ts'
import { accountText } from './call-facts.ts'
import { type RangeBits, RangeTable, type TextMatch, TextTable } from './value-tables.ts'

/** A field of a match that holds values. */
export type MatchField = Exclude<keyof PolicyMatch, 'isPartlyUnread'>

interface Asked {
  readonly field: MatchField
  /** None of the values may match, instead of one of them must. */
  readonly isNegated: boolean
}

/** One field of a match: what of the call it asks about, and for which values. Where there is a table, it holds the same values. */
export type FieldTest =
  | (Asked & {
      readonly asks: 'principal' | 'namespace'
      readonly values: readonly StringMatch[]
      readonly table: TextTable<true> | undefined
    })
  | (Asked & {
      readonly asks: 'account'
      readonly values: readonly string[]
      readonly table: ReadonlySet<string> | undefined
    })
  | (Asked & {
      readonly asks: 'source' | 'destination'
      readonly values: readonly RangeBits[]
      readonly table: RangeTable<true> | undefined
    })
  | (Asked & {
      readonly asks: 'port'
      readonly values: readonly number[]
      readonly table: ReadonlySet<number> | undefined
    })

export interface CompiledMatch {
  /** The most telling first: so most calls are told after one look. */
  readonly tests: readonly FieldTest[]
  readonly isPartlyUnread: boolean
}

/** Clauses of matches. */
export type CompiledRule = readonly (readonly CompiledMatch[])[]

/** So many are looked through as fast as a table answers. */
const FEW_VALUES = 12

export function compileRule(rule: PolicyRule): CompiledRule {
  return rule.clauses.map(({ matches }) => matches.map(compileMatch))
}

export function compileMatch(match: PolicyMatch): CompiledMatch {
  const tests: FieldTest[] = []
  addTexts(tests, match, 'principals', 'principal', false)
  addAccounts(tests, match, 'serviceAccounts', false)
  addRanges(tests, match, 'sourceIps', 'source', false)
  addTexts(tests, match, 'namespaces', 'namespace', false)
  addRanges(tests, match, 'destinationIps', 'destination', false)
  addPorts(tests, match, 'destinationPorts', false)
  addTexts(tests, match, 'notPrincipals', 'principal', true)
  addAccounts(tests, match, 'notServiceAccounts', true)
  addRanges(tests, match, 'notSourceIps', 'source', true)
  addTexts(tests, match, 'notNamespaces', 'namespace', true)
  addRanges(tests, match, 'notDestinationIps', 'destination', true)
  addPorts(tests, match, 'notDestinationPorts', true)
  return { tests, isPartlyUnread: match.isPartlyUnread }
}

/** The fields of a match that hold values of this type. */
type FieldOf<Value> = {
  [Field in MatchField]: PolicyMatch[Field] extends readonly Value[] ? Field : never
}[MatchField]

function addTexts(
  tests: FieldTest[],
  match: PolicyMatch,
  field: FieldOf<StringMatch>,
  asks: 'principal' | 'namespace',
  isNegated: boolean,
): void {
  const values = match[field]
  if (values.length > 0) tests.push({ field, asks, isNegated, values, table: textTable(values) })
}

function addAccounts(
  tests: FieldTest[],
  match: PolicyMatch,
  field: FieldOf<AccountMatch>,
  isNegated: boolean,
): void {
  const values = match[field].map(({ namespace, serviceAccount }) =>
    accountText(namespace, serviceAccount),
  )
  if (values.length > 0)
    tests.push({ field, asks: 'account', isNegated, values, table: setOf(values) })
}

function addRanges(
  tests: FieldTest[],
  match: PolicyMatch,
  field: FieldOf<AddressRange>,
  asks: 'source' | 'destination',
  isNegated: boolean,
): void {
  if (match[field].length === 0) return
  const values = match[field].map(({ address, length }) => ({
    base: leadingBits(addressBits(address), length),
    length,
  }))
  tests.push({ field, asks, isNegated, values, table: rangeTable(values) })
}

function addPorts(
  tests: FieldTest[],
  match: PolicyMatch,
  field: FieldOf<number>,
  isNegated: boolean,
): void {
  const values = match[field]
  if (values.length > 0)
    tests.push({ field, asks: 'port', isNegated, values, table: setOf(values) })
}

const keepAll = (): boolean => true
const makeTrue = (): true => true

/** A table of long lists. None for a list that asks for presence: that is no value, and true of almost everything. */
export function textTable(values: readonly StringMatch[]): TextTable<true> | undefined {
  const looking = values.filter((value): value is TextMatch => value.kind !== 'present')
  if (looking.length <= FEW_VALUES || looking.length < values.length) return undefined
  const table = new TextTable<true>()
  for (const value of looking) table.take(value, makeTrue)
  finish(table.seal(keepAll))
  return table
}

function rangeTable(values: readonly RangeBits[]): RangeTable<true> | undefined {
  if (values.length <= FEW_VALUES) return undefined
  const table = new RangeTable<true>()
  for (const value of values) table.take(value, makeTrue)
  finish(table.seal(keepAll))
  return table
}

function setOf<Value>(values: readonly Value[]): ReadonlySet<Value> | undefined {
  return values.length <= FEW_VALUES ? undefined : new Set(values)
}
