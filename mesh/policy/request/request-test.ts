// SPDX-License-Identifier: Apache-2.0
// Rules of waypoints' policies made ready to be asked: what they say of a connection apart from what they say of a request, for a waypoint
// asks the one once a connection, and the other of each request.

import { type HeaderName, headerName } from '../../http/header-names.ts'
import type { StringMatch } from '../../model/policy.ts'
import type { PathMatch, RequestMatch, RequestRule } from '../../model/waypoint-policy.ts'
import { compileMatch, type FieldTest, textTable } from '../field-test.ts'
import { matchesText } from '../match.ts'
import type { TextTable } from '../value-tables.ts'
import { pathLiteral, templatePattern } from './path-pattern.ts'
import type { JudgedRequest } from './types.ts'

/** A field of a match that asks about requests; a header's condition is one or two. */
export type RequestField = 'hosts' | 'methods' | 'paths' | 'headers'

/** One field of a match: true when one of its values matches, or, negated, none. */
export interface RequestTest {
  readonly field: RequestField
  /** Of `headers`. */
  readonly header: HeaderName | undefined
  readonly isNegated: boolean
  readonly values: readonly StringMatch[]
  /** Of `paths`. */
  readonly templates: readonly RegExp[]
  /** Holds the values where they are many. */
  readonly table: TextTable<true> | undefined
}

export interface SniTest {
  readonly isNegated: boolean
  readonly values: readonly StringMatch[]
}

export interface CompiledRequestMatch {
  readonly connection: readonly FieldTest[]
  readonly isPartlyUnread: boolean
  readonly snis: readonly SniTest[]
  readonly request: readonly RequestTest[]
}

export type CompiledRequestRule = readonly (readonly CompiledRequestMatch[])[]

export function compileRequestRule(rule: RequestRule): CompiledRequestRule {
  return rule.clauses.map(({ matches }) => matches.map(compileRequestMatch))
}

function compileRequestMatch(match: RequestMatch): CompiledRequestMatch {
  const { tests: connection, isPartlyUnread } = compileMatch(match.connection)
  const request: RequestTest[] = []
  const add = (
    field: RequestField,
    values: readonly PathMatch[],
    isNegated: boolean,
    header?: HeaderName,
  ): void => {
    if (values.length > 0) request.push(requestTest(field, values, isNegated, header))
  }
  add('methods', match.methods, false)
  add('methods', match.notMethods, true)
  add('paths', match.paths, false)
  add('hosts', match.hosts, false)
  add('hosts', match.notHosts, true)
  add('paths', match.notPaths, true)
  for (const { name, values, notValues } of match.headers) {
    add('headers', values, false, headerName(name))
    add('headers', notValues, true, headerName(name))
  }
  const snis: SniTest[] = []
  const named = (values: readonly StringMatch[]): readonly StringMatch[] => values.map(inLowerCase)
  if (match.snis.length > 0) snis.push({ values: named(match.snis), isNegated: false })
  if (match.notSnis.length > 0) snis.push({ values: named(match.notSnis), isNegated: true })
  return { connection, isPartlyUnread, snis, request }
}

function requestTest(
  field: RequestField,
  written: readonly PathMatch[],
  isNegated: boolean,
  header: HeaderName | undefined,
): RequestTest {
  const values = written.flatMap((value) =>
    value.kind === 'template' ? [] : [comparable(field, value)],
  )
  const templates = written.flatMap((value) =>
    value.kind === 'template' ? [templatePattern(value.text)] : [],
  )
  return { field, header, isNegated, values, templates, table: textTable(values) }
}

/** Case does not count in a host name. */
function inLowerCase(value: StringMatch): StringMatch {
  return value.kind === 'present' ? value : { kind: value.kind, text: value.text.toLowerCase() }
}

/** What a host begins with may end at any dot. */
function asHost(value: StringMatch): StringMatch {
  if (value.kind === 'present') return value
  const text = value.kind === 'prefix' ? value.text.toLowerCase() : hostText(value.text)
  return { kind: value.kind, text }
}

const ROOT_DOT = /\.(?=(?::\d*)?$)/

/** A host as it is compared: case does not count, nor the dot at the end of a name, by which clients may write the same host (RFC 1034 3.1). */
function hostText(authority: string): string {
  const text = authority.toLowerCase()
  return text.endsWith('.') || text.includes('.:') ? text.replace(ROOT_DOT, '') : text
}

/** As what it is compared with is written. */
function comparable(field: RequestField, value: StringMatch): StringMatch {
  if (value.kind === 'present') return value
  if (field === 'hosts') return asHost(value)
  if (field === 'paths') return pathLiteral(value)
  // Heads show their bytes as Latin-1.
  return { kind: value.kind, text: Buffer.from(value.text, 'utf8').toString('latin1') }
}

/** Whether a request meets one field of a match. Hot: for every rule that the index cannot rule out. */
export function meets(test: RequestTest, request: JudgedRequest): boolean {
  return isNamed(test, request) !== test.isNegated
}

function isNamed(test: RequestTest, request: JudgedRequest): boolean {
  const text = askedText(test, request)
  if (text === undefined) return false
  if (test.table?.has(text) === true) return true
  if (test.table === undefined)
    for (const value of test.values) if (isValue(value, text, test.field)) return true
  for (const template of test.templates) if (template.test(text)) return true
  return false
}

/** A header that is there may be empty, and is there all the same. */
function isValue(value: StringMatch, text: string, field: RequestField): boolean {
  return value.kind === 'present' ? field === 'headers' || text !== '' : matchesText(value, text)
}

/** What a test asks about; undefined where there is nothing of the sort. */
export function askedText(
  { field, header }: RequestTest,
  { method, path, authority, headers }: JudgedRequest,
): string | undefined {
  switch (field) {
    case 'methods':
      return method
    case 'paths':
      return path
    case 'hosts':
      return authority === '' ? undefined : hostText(authority)
    case 'headers':
      return header === undefined ? undefined : headers.joined(header)
  }
}
