// SPDX-License-Identifier: Apache-2.0
// The functions of templates that our chart calls, as Go's templates and Helm have them.

import { posix } from 'node:path'
import { stringify } from 'yaml'
import { TemplateError } from './lexer.ts'

/** `fail` of a chart: its own words to whoever gave a wrong value. */
export class ChartRefusal extends Error {}

type TemplateFunction = (...given: readonly unknown[]) => unknown

/** By name. `include` is the renderer's own. */
export const FUNCTIONS: Readonly<Record<string, TemplateFunction>> = {
  default: (fallback, given) => (isTrue(given) ? given : fallback),
  eq: (one, ...others) => others.some((other) => other === one),
  ne: (one, other) => one !== other,
  gt: (one, other) => Number(one) > Number(other),
  int: (given) => Math.trunc(Number(given)),
  add: (...given) => given.reduce<number>((sum, each) => sum + Number(each), 0),
  not: (given) => !isTrue(given),
  and: (...given) => given.find((each) => !isTrue(each)) ?? given.at(-1),
  or: (...given) => given.find(isTrue) ?? given.at(-1),
  quote: (given) => JSON.stringify(shown(given)),
  toYaml: (given) => toYaml(given),
  indent: (count, given) => indented(Number(count), shown(given)),
  nindent: (count, given) => `\n${indented(Number(count), shown(given))}`,
  printf: (format, ...given) => printf(shown(format), given),
  join: (separator, list) => listOf(list).map(shown).join(shown(separator)),
  trunc: (length, given) => shown(given).slice(0, Number(length)),
  trimSuffix: (suffix, given) => {
    const text = shown(given)
    return text.endsWith(shown(suffix)) ? text.slice(0, text.length - shown(suffix).length) : text
  },
  trimPrefix: (prefix, given) => {
    const text = shown(given)
    return text.startsWith(shown(prefix)) ? text.slice(shown(prefix).length) : text
  },
  dir: (given) => posix.dirname(shown(given)),
  replace: (old, by, given) => shown(given).replaceAll(shown(old), shown(by)),
  // Patterns of the chart are such as Go's and JavaScript's regular expressions read alike.
  regexReplaceAll: (pattern, given, by) =>
    shown(given).replaceAll(new RegExp(shown(pattern), 'g'), shown(by)),
  list: (...given) => given,
  dict: (...given) => {
    const pairs = given.flatMap((key, at) => (at % 2 === 0 ? [[shown(key), given[at + 1]]] : []))
    return Object.fromEntries(pairs) as unknown
  },
  index: (from, ...keys) => keys.reduce((value, key) => fieldOf(value, shown(key)), from),
  hasKey: (from, key) => isRecord(from) && Object.hasOwn(from, shown(key)),
  fail: (words) => {
    throw new ChartRefusal(shown(words))
  },
}

/** A field; nothing where there is none, as Helm has it for values. */
export function fieldOf(from: unknown, name: string): unknown {
  if (Array.isArray(from)) return from[Number(name)] as unknown
  return isRecord(from) && Object.hasOwn(from, name) ? from[name] : undefined
}

/** Go's truth: false, 0, nothing and what is empty are not true. */
export function isTrue(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === 0 || value === '')
    return false
  if (Array.isArray(value)) return value.length > 0
  return isRecord(value) ? Object.keys(value).length > 0 : true
}

/** A value as it stands in the output. */
export function shown(value: unknown): string {
  if (value === undefined || value === null) return ''
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  // Go would print its own form of it, which no manifest wants.
  throw new TemplateError('a list or mapping stands where a text should; toYaml is missing')
}

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The items of a list; a mapping has none. */
function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as readonly unknown[]) : []
}

function toYaml(value: unknown): string {
  return stringify(value ?? null, {
    sortMapEntries: true,
    indentSeq: false,
    lineWidth: 0,
    // Words that YAML 1.1 takes for booleans: Kubernetes' parsers do.
    compat: 'yaml-1.1',
  }).trimEnd()
}

function indented(count: number, text: string): string {
  const margin = ' '.repeat(count)
  return text
    .split('\n')
    .map((line) => margin + line)
    .join('\n')
}

function printf(format: string, given: readonly unknown[]): string {
  let at = 0
  return format.replace(/%([sdvq%])/g, (_, verb: string) => {
    if (verb === '%') return '%'
    const value = shown(given[at])
    at += 1
    return verb === 'q' ? JSON.stringify(value) : value
  })
}
