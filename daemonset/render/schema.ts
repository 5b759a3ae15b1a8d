// SPDX-License-Identifier: Apache-2.0
// Holds the values of the chart to its schema. The validator takes its time to load: only who renders the chart does so.

import { readFileSync } from 'node:fs'
import { Ajv, type ErrorObject } from 'ajv'
import { refused, type Values } from './values.ts'

const SCHEMA = new URL('../chart/values.schema.json', import.meta.url)
const validate = new Ajv({ allErrors: true, strictTypes: false }).compile(
  JSON.parse(readFileSync(SCHEMA, 'utf8')) as object,
)

/** Holds values, the chart's own included, to its schema. Throws AMB_CHART_VALUES, which names every wrong one by its path. */
export function requireValid(values: Values): void {
  if (validate(values)) return
  const problems = problemsOf(validate.errors ?? [])
  throw refused(`Cannot take these values: ${problems.join('; ')}`)
}

/** One sentence a value: of several ways in which it might have been right, all. */
function problemsOf(errors: readonly ErrorObject[]): readonly string[] {
  const byPath = new Map<string, string[]>()
  for (const error of errors) {
    if (/^(anyOf|allOf|if)$/.test(error.keyword) || isOuter(error, errors)) continue
    const path = pathOf(error)
    byPath.set(path, [...(byPath.get(path) ?? []), wordsOf(error)])
  }
  return [...byPath].map(([path, words]) => `${path} ${[...new Set(words)].join(', or ')}`)
}

/** What is wrong with a name is said twice: by what it breaks, and as a name that does. */
function isOuter(
  { keyword, instancePath, params }: ErrorObject,
  all: readonly ErrorObject[],
): boolean {
  if (keyword !== 'propertyNames') return false
  return all.some(
    (each) => each.instancePath === instancePath && each.propertyName === params['propertyName'],
  )
}

function pathOf({ instancePath, keyword, params, propertyName }: ErrorObject): string {
  const parts = instancePath.split('/').slice(1).map(unescaped)
  if (keyword === 'additionalProperties') parts.push(String(params['additionalProperty']))
  if (keyword === 'required') parts.push(String(params['missingProperty']))
  if (propertyName !== undefined) parts.push(propertyName)
  const path = parts.map((part) => (/^\d+$/.test(part) ? `[${part}]` : `.${part}`)).join('')
  return path === '' ? 'the whole' : path.replace(/^\./, '')
}

const unescaped = (part: string): string => part.replaceAll('~1', '/').replaceAll('~0', '~')

function wordsOf({ keyword, params, message }: ErrorObject): string {
  if (keyword === 'additionalProperties') return 'is no value of this chart'
  if (keyword === 'required') return 'is missing'
  if (keyword === 'not') return 'is set by the chart itself'
  if (keyword === 'enum') {
    const allowed = (params['allowedValues'] as unknown[]).join(', ')
    return allowed === '' ? 'must be empty' : `must be one of ${allowed}`
  }
  return message ?? `breaks ${keyword}`
}
