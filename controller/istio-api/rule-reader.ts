// SPDX-License-Identifier: Apache-2.0
// One rule of an AuthorizationPolicy: `from`, `to` and `when`, each a clause or several, all of which must hold.

import { type Fields, fieldsOf, hasOthers, isAbsent, shown } from './flaw.ts'
import type { ConditionReader, MatchPart, RuleContext, Vocabulary } from './rule-conditions.ts'

export interface RuleFacts<Match> {
  /** Its place in `spec.rules`. */
  readonly place: number
  /** What of it can be evaluated: all must hold, of each one match. Principals stand as they are written. */
  readonly clauses: readonly ClauseFacts<Match>[]
  /** It says more than its clauses do: whoever goes by these alone lets the rule match more often than it is written. */
  readonly isPartial: boolean
}

export interface ClauseFacts<Match> {
  readonly matches: readonly Match[]
}

/** A part of a rule: what of it can be evaluated, undefined when that is always true, and whether that is all of it. */
interface Part<Match> {
  readonly match: Match | undefined
  readonly isWhole: boolean
}

const ACCOUNT_FIELDS = ['serviceAccounts', 'notServiceAccounts'] as const
/** What service accounts cannot stand beside, for they say the same in other words. */
const IDENTITY_FIELDS = ['principals', 'notPrincipals', 'namespaces', 'notNamespaces'] as const

/** Reads a rule. Never throws; a rule that is none is one that matches everything, in part. */
export function readRule<Match>(
  context: RuleContext,
  vocabulary: Vocabulary<Match>,
  place: number,
  value: unknown,
): RuleFacts<Match> {
  const { reader } = context
  const field = `spec.rules[${place}]`
  const rule = fieldsOf(value)
  if (rule === undefined) {
    reader.note(field, isAbsent(value) ? 'is empty' : 'is not a map')
    return { place, clauses: [], isPartial: true }
  }
  const clauses: ClauseFacts<Match>[] = []
  let isPartial = hasOthers(reader, field, rule, ['from', 'to', 'when'])
  for (const [name, inner, table] of [
    ['from', 'source', vocabulary.source],
    ['to', 'operation', vocabulary.operation],
  ] as const) {
    if (isAbsent(rule[name])) continue
    const parts = readAlternatives(context, `${field}.${name}`, rule[name], (at, each) =>
      readInner(context, vocabulary, at, each, { inner, table }),
    )
    if (!parts.every(({ isWhole }) => isWhole)) isPartial = true
    // One of them is enough: where one is always true, the clause is.
    const matches = parts.map(({ match }) => match).filter((match) => match !== undefined)
    if (matches.length === parts.length) clauses.push({ matches: compact(matches) })
  }
  for (const { match, isWhole } of readWhen(context, vocabulary, `${field}.when`, rule.when)) {
    if (!isWhole) isPartial = true
    if (match !== undefined) clauses.push({ matches: [match] })
  }
  return { place, clauses: compact(clauses), isPartial }
}

/** Without the room for sixteen more that a list which grew has: it is kept. */
function compact<T>(list: readonly T[]): readonly T[] {
  return list.slice()
}

const ANYTHING: Part<never> = { match: undefined, isWhole: false }

/** `from` or `to`: a list of alternatives. */
function readAlternatives<Match>(
  { reader, spend }: RuleContext,
  field: string,
  value: unknown,
  read: (field: string, value: unknown) => Part<Match>,
): readonly Part<Match>[] {
  if (!Array.isArray(value)) reader.note(field, 'is not a list')
  else if (value.length === 0) reader.note(field, 'is an empty list')
  else if (spend(value.length))
    return (value as readonly unknown[]).map((each, index) => read(`${field}[${index}]`, each))
  return [ANYTHING]
}

/** An entry of `from` or `to`, with the one field that it has. */
function readInner<Match>(
  context: RuleContext,
  vocabulary: Vocabulary<Match>,
  field: string,
  value: unknown,
  { inner, table }: { readonly inner: string; readonly table: Vocabulary<Match>['source'] },
): Part<Match> {
  const { reader } = context
  const entry = fieldsOf(value)
  const fields = fieldsOf(entry?.[inner])
  if (entry === undefined || fields === undefined) {
    reader.note(`${field}.${inner}`, 'is not a map')
    return ANYTHING
  }
  const isWhole = !hasOthers(reader, field, entry, [inner])
  const part = readConditions(context, vocabulary, `${field}.${inner}`, fields, table)
  return { ...part, isWhole: isWhole && part.isWhole }
}

function readConditions<Match>(
  context: RuleContext,
  vocabulary: Vocabulary<Match>,
  field: string,
  fields: Fields,
  table: ReadonlyMap<string, ConditionReader>,
): Part<Match> {
  const { reader } = context
  const parts: MatchPart[] = []
  let isWhole = true
  const said = Object.entries(fields).filter(([, value]) => !isAbsent(value))
  if (said.length === 0) {
    reader.note(field, 'says nothing')
    return ANYTHING
  }
  const isContradicting =
    ACCOUNT_FIELDS.some((name) => !isAbsent(fields[name])) &&
    IDENTITY_FIELDS.some((name) => !isAbsent(fields[name]))
  if (isContradicting) reader.note(field, 'has service accounts beside principals or namespaces')
  const left = isContradicting
    ? new Set<string>([...ACCOUNT_FIELDS, ...IDENTITY_FIELDS])
    : undefined
  for (const [name, value] of said) {
    const read = table.get(name)
    if (read === undefined) reader.note(`${field}.${name}`, 'is no field that is known')
    const part = read?.(context, `${field}.${name}`, value)
    if (part === undefined || left?.has(name) === true) isWhole = false
    else parts.push(part)
  }
  return { match: parts.length === 0 ? undefined : vocabulary.joined(parts), isWhole }
}

function readWhen<Match>(
  context: RuleContext,
  vocabulary: Vocabulary<Match>,
  field: string,
  value: unknown,
): readonly Part<Match>[] {
  const { reader, spend } = context
  if (isAbsent(value)) return []
  if (!Array.isArray(value)) {
    reader.note(field, 'is not a list')
    return [ANYTHING]
  }
  if (!spend(value.length)) return [ANYTHING]
  return (value as readonly unknown[]).map((each, index) =>
    readCondition(context, vocabulary, `${field}[${index}]`, each),
  )
}

function readCondition<Match>(
  context: RuleContext,
  vocabulary: Vocabulary<Match>,
  field: string,
  value: unknown,
): Part<Match> {
  const { reader } = context
  const entry = fieldsOf(value)
  if (entry === undefined) {
    reader.note(field, 'is not a map')
    return ANYTHING
  }
  const { key, values, notValues } = entry
  const condition = typeof key === 'string' ? vocabulary.conditionOf(key) : undefined
  if (condition === undefined) {
    reader.note(`${field}.key`, `${shown(key)} is no key that is known`)
    return ANYTHING
  }
  if (isAbsent(values) && isAbsent(notValues)) {
    reader.note(field, 'has neither values nor notValues')
    return ANYTHING
  }
  let isWhole = !hasOthers(reader, field, entry, ['key', 'values', 'notValues'])
  const parts: MatchPart[] = []
  for (const name of ['values', 'notValues'] as const) {
    if (isAbsent(entry[name])) continue
    const part = condition[name](context, `${field}.${name}`, entry[name])
    if (part === undefined) isWhole = false
    else parts.push(part)
  }
  return { match: parts.length === 0 ? undefined : vocabulary.joined(parts), isWhole }
}
