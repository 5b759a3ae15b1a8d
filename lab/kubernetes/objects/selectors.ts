// SPDX-License-Identifier: Apache-2.0
// Label and field selectors: parsing their text forms and matching objects against them.

import { type Result, err, ok } from '../../../mesh/result.ts'
import { at, record, records, stringMap, texts } from './json.ts'
import type { StoredObject } from './stored-object.ts'
import type { ListOptions } from './cluster-api.ts'

export type Matcher = (object: StoredObject) => boolean
export type LabelMatcher = (labels: { readonly [key: string]: string }) => boolean

const KEY = String.raw`[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?`
const SET_REQUIREMENT = new RegExp(String.raw`^(${KEY})\s+(in|notin)\s*\(([^()]*)\)$`)
const EQUALITY = new RegExp(String.raw`^(${KEY})\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)$`)
const EXISTENCE = new RegExp(String.raw`^(!?)\s*(${KEY})$`)

/** Splits at commas outside parentheses. */
function splitRequirements(selector: string): readonly string[] {
  const parts: string[] = []
  let depth = 0
  let start = 0
  for (let index = 0; index < selector.length; index += 1) {
    const character = selector[index]
    if (character === '(') depth += 1
    if (character === ')') depth -= 1
    if (character === ',' && depth === 0) {
      parts.push(selector.slice(start, index))
      start = index + 1
    }
  }
  parts.push(selector.slice(start))
  return parts.map((part) => part.trim()).filter((part) => part !== '')
}

function parseRequirement(requirement: string): LabelMatcher | undefined {
  const set = SET_REQUIREMENT.exec(requirement)
  if (set !== null) {
    const [, key = '', operator, members = ''] = set
    const values = new Set(members.split(',').map((value) => value.trim()))
    return operator === 'in'
      ? (labels) => labels[key] !== undefined && values.has(labels[key])
      : (labels) => labels[key] === undefined || !values.has(labels[key])
  }
  const equality = EQUALITY.exec(requirement)
  if (equality !== null) {
    const [, key = '', operator, value] = equality
    return operator === '!=' ? (labels) => labels[key] !== value : (labels) => labels[key] === value
  }
  const existence = EXISTENCE.exec(requirement)
  if (existence !== null) {
    const [, negation, key = ''] = existence
    return negation === '!'
      ? (labels) => labels[key] === undefined
      : (labels) => labels[key] !== undefined
  }
  return undefined
}

/** Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k`; the error is a sentence. */
function parseLabelSelector(selector: string): Result<LabelMatcher, string> {
  const matchers: LabelMatcher[] = []
  for (const requirement of splitRequirements(selector)) {
    const matcher = parseRequirement(requirement)
    if (matcher === undefined)
      return err(`unable to parse requirement: ${JSON.stringify(requirement)} in ${selector}`)
    matchers.push(matcher)
  }
  return ok((labels) => matchers.every((matches) => matches(labels)))
}

/** Builds a matcher from a metav1.LabelSelector object (matchLabels, matchExpressions). */
export function labelSelectorObject(selector: unknown): LabelMatcher {
  const wanted = Object.entries(stringMap(at(selector, 'matchLabels')))
  const expressions = records(at(selector, 'matchExpressions'))
  return (labels) =>
    wanted.every(([key, value]) => labels[key] === value) &&
    expressions.every((expression) => {
      const actual = labels[String(expression.key)]
      const values = texts(expression.values)
      switch (expression.operator) {
        case 'In':
          return actual !== undefined && values.includes(actual)
        case 'NotIn':
          return actual === undefined || !values.includes(actual)
        case 'Exists':
          return actual !== undefined
        case 'DoesNotExist':
          return actual === undefined
        default:
          return false
      }
    })
}

/** The value a field selector compares: scalars as text, absent as the empty string, as Kubernetes does. */
function fieldText(object: StoredObject, path: readonly string[]): string {
  const value = at(object, ...path)
  return value === undefined || value === null || record(value) !== undefined ? '' : String(value)
}

/**
 * Parses `spec.nodeName=node-a,status.phase!=Failed`. Any scalar field may be named: real clusters allow
 * fewer, so what works there works here.
 */
function parseFieldSelector(selector: string): Result<Matcher, string> {
  const matchers: Matcher[] = []
  for (const requirement of splitRequirements(selector)) {
    const parts = /^([A-Za-z0-9.]+)\s*(==|=|!=)\s*(.*)$/.exec(requirement)
    if (parts === null)
      return err(`invalid field selector requirement ${JSON.stringify(requirement)}`)
    const [, field = '', operator, value] = parts
    const path = field.split('.')
    matchers.push((object) => (fieldText(object, path) === value) === (operator !== '!='))
  }
  return ok((object) => matchers.every((matches) => matches(object)))
}

/** One matcher for the selectors of a list or watch; the error is a sentence. */
export function parseSelectors(options: ListOptions): Result<Matcher, string> {
  const byLabel = parseLabelSelector(options.labelSelector ?? '')
  if (!byLabel.ok) return byLabel
  const byField = parseFieldSelector(options.fieldSelector ?? '')
  if (!byField.ok) return byField
  const { namespace } = options
  return ok(
    (object) =>
      (namespace === undefined || object.metadata.namespace === namespace) &&
      byLabel.value(object.metadata.labels ?? {}) &&
      byField.value(object),
  )
}
