// SPDX-License-Identifier: Apache-2.0
// Kubernetes' label selectors, whole: matchLabels and matchExpressions. What each asks of single values comes first, for that is what
// selectors are looked up by.

import { createHash } from 'node:crypto'
import type { ObjectReader } from '../reading/object-reader.ts'
import { fieldsOf, isAbsent, shown } from '../istio-api/flaw.ts'

const OPERATORS = ['In', 'NotIn', 'Exists', 'DoesNotExist'] as const

export interface Requirement {
  readonly key: string
  readonly operator: (typeof OPERATORS)[number]
  /** In their order, each once. */
  readonly values: readonly string[]
}

export interface LabelSelector {
  /** What each of these labels must be, in the order of keys. */
  readonly exact: ReadonlyMap<string, string>
  /** What else is asked, in an order of its own. */
  readonly others: readonly Requirement[]
}

export type Labels = ReadonlyMap<string, string>

/** Selects all. */
export const EVERYTHING: LabelSelector = { exact: new Map(), others: [] }

export function selectsAll({ exact, others }: LabelSelector): boolean {
  return exact.size === 0 && others.length === 0
}

/** Whether the labels are all that is asked. */
export function selects({ exact, others }: LabelSelector, labels: Labels): boolean {
  for (const [key, value] of exact) if (labels.get(key) !== value) return false
  return others.every((requirement) => meets(requirement, labels))
}

function meets({ key, operator, values }: Requirement, labels: Labels): boolean {
  const value = labels.get(key)
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value)
    case 'NotIn':
      return value === undefined || !values.includes(value)
    case 'Exists':
      return value !== undefined
    case 'DoesNotExist':
      return value === undefined
  }
}

/** A name of the selectors, the same for those that ask the same; that another has it nobody can bring about. */
export function selectorName(...parts: readonly (LabelSelector | string | undefined)[]): string {
  const text = JSON.stringify(
    parts.map((each) =>
      each === undefined || typeof each === 'string'
        ? (each ?? null)
        : [[...each.exact], each.others],
    ),
  )
  // 128 bits: who could find a second selector of one name would be let in as somebody else's peer.
  return createHash('sha256').update(text).digest('base64url').slice(0, 22)
}

/** Reads a selector; undefined, and a note, when any of it cannot be read: a part of it would select others than were meant. */
export function readLabelSelector(
  reader: ObjectReader,
  field: string,
  value: unknown,
): LabelSelector | undefined {
  const fields = fieldsOf(value)
  if (fields === undefined) {
    reader.note(field, 'is not a map')
    return undefined
  }
  const unknown = Object.keys(fields).find(
    (key) => key !== 'matchLabels' && key !== 'matchExpressions',
  )
  if (unknown !== undefined) {
    reader.note(`${field}.${unknown}`, 'is no field of a selector')
    return undefined
  }
  const requirements = [
    ...(readMatchLabels(reader, `${field}.matchLabels`, fields.matchLabels) ?? [undefined]),
    ...(readExpressions(reader, `${field}.matchExpressions`, fields.matchExpressions) ?? [
      undefined,
    ]),
  ]
  return requirements.includes(undefined)
    ? undefined
    : selectorOf(requirements.filter((each) => each !== undefined))
}

function selectorOf(requirements: readonly Requirement[]): LabelSelector {
  const exact = new Map<string, string>()
  const others: Requirement[] = []
  for (const requirement of requirements) {
    const { key, operator, values } = requirement
    const [value, another] = values
    // Two that contradict each other are both kept: nothing meets both.
    if (operator === 'In' && another === undefined && value !== undefined && !exact.has(key))
      exact.set(key, value)
    else others.push(requirement)
  }
  const text = (each: Requirement): string => JSON.stringify([each.key, each.operator, each.values])
  return {
    exact: new Map([...exact].toSorted(([left], [right]) => (left < right ? -1 : 1))),
    others: others.toSorted((left, right) => (text(left) < text(right) ? -1 : 1)),
  }
}

function readMatchLabels(
  reader: ObjectReader,
  field: string,
  value: unknown,
): readonly (Requirement | undefined)[] | undefined {
  if (isAbsent(value)) return []
  const labels = fieldsOf(value)
  if (labels === undefined) {
    reader.note(field, 'is not a map')
    return undefined
  }
  return Object.entries(labels).map(([key, wanted]) => {
    if (typeof wanted === 'string') return { key, operator: 'In', values: [wanted] }
    reader.note(`${field}[${key}]`, `${shown(wanted)} is not a text`)
    return undefined
  })
}

function readExpressions(
  reader: ObjectReader,
  field: string,
  value: unknown,
): readonly (Requirement | undefined)[] | undefined {
  if (isAbsent(value)) return []
  if (!Array.isArray(value)) {
    reader.note(field, 'is not a list')
    return undefined
  }
  return (value as readonly unknown[]).map((each, place) =>
    readExpression(reader, `${field}[${place}]`, each),
  )
}

function readExpression(
  reader: ObjectReader,
  field: string,
  value: unknown,
): Requirement | undefined {
  const { key, operator: wanted, values = [] } = fieldsOf(value) ?? {}
  const operator = OPERATORS.find((each) => each === wanted)
  if (typeof key !== 'string' || key === '' || operator === undefined) {
    reader.note(field, 'is not a key with one of the operators In, NotIn, Exists and DoesNotExist')
    return undefined
  }
  const list = isAbsent(values) ? [] : values
  const isList = (texts: unknown): texts is readonly string[] =>
    Array.isArray(texts) && texts.every((text) => typeof text === 'string')
  const hasValues = operator === 'In' || operator === 'NotIn'
  if (!isList(list) || list.length > 0 !== hasValues) {
    reader.note(`${field}.values`, `is not what ${operator} takes`)
    return undefined
  }
  return { key, operator, values: [...new Set(list)].toSorted() }
}
