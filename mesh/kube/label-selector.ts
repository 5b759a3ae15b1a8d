// SPDX-License-Identifier: Apache-2.0
// Label selectors in their text form, as kubectl and the API take them: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.

import { err, ok, type Result } from '../result.ts'

export type LabelMatcher = (labels: { readonly [key: string]: string }) => boolean

const KEY = String.raw`[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?`
const SET_REQUIREMENT = new RegExp(String.raw`^(${KEY})\s+(in|notin)\s*\(([^()]*)\)$`)
const EQUALITY = new RegExp(String.raw`^(${KEY})\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)$`)
const EXISTENCE = new RegExp(String.raw`^(!?)\s*(${KEY})$`)

/** Parses it; the error is a sentence. An empty text selects everything. */
export function parseLabelSelector(selector: string): Result<LabelMatcher, string> {
  const matchers: LabelMatcher[] = []
  for (const requirement of splitRequirements(selector)) {
    const matcher = parseRequirement(requirement)
    if (matcher === undefined)
      return err(`unable to parse requirement: ${JSON.stringify(requirement)} in ${selector}`)
    matchers.push(matcher)
  }
  return ok((labels) => matchers.every((matches) => matches(labels)))
}

/** Splits at commas outside parentheses; what is empty is none. */
export function splitRequirements(selector: string): readonly string[] {
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
  if (existence === null) return undefined
  const [, negation, key = ''] = existence
  return negation === '!'
    ? (labels) => labels[key] === undefined
    : (labels) => labels[key] !== undefined
}
