// SPDX-License-Identifier: Apache-2.0
// Reads which requests a rule of an HTTPRoute is about. A match that cannot be read is none, and its rule is not used.

import type { HttpMatch, NamedMatch, PathMatch, TextMatch } from '../../mesh/model/http-routes.ts'
import { withNormalEscapes } from '../../mesh/http/path-escapes.ts'
import { type FlawReader, isAbsent } from '../istio-api/flaw.ts'
import { type Form, HEADER_NAME, readEntries, readMap, readText, readWord } from './route-fields.ts'
import { checkRegex } from './route-regex.ts'

const MOST_MATCHES = 64
const MOST_NAMED = 16
const MATCH_FIELDS = ['path', 'headers', 'queryParams', 'method']
const METHODS = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
] as const
const LONGEST_PATH = 1024
/** As RFC 3986 has them, 3.3. */
const PATH: Form = {
  pattern: /^\/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*$/,
  longest: LONGEST_PATH,
  words: 'an absolute path',
}
/** What a path is normalised to before it is matched has none of these: such a match would never be one. */
const NEVER_IN_PATHS = /\/\/|\/\.{1,2}(?:\/|$)|%2[fF]/
const EVERY_PATH: PathMatch = { kind: 'prefix', value: '/' }
const EVERYTHING: HttpMatch = { path: EVERY_PATH, method: undefined, headers: [], queryParams: [] }

/** What any header and query parameter is matched with. */
const VALUE = (longest: number): Form => ({
  pattern: /^[^\r\n\0]+$/,
  longest,
  words: 'a text of one line',
})
const HEADER_VALUE = VALUE(4096)
const PARAMETER_VALUE = VALUE(1024)

/** Any of these; a rule that says nothing is about all. */
export function readMatches(
  reader: FlawReader,
  field: string,
  value: unknown,
  readOne: typeof readMatch = readMatch,
): readonly HttpMatch[] {
  if (isAbsent(value) || (Array.isArray(value) && value.length === 0)) return [EVERYTHING]
  return readEntries(reader, field, value, MOST_MATCHES).flatMap(
    (each, at) => readOne(reader, `${field}[${at}]`, each) ?? [],
  )
}

function readMatch(reader: FlawReader, field: string, value: unknown): HttpMatch | undefined {
  const fields = readMap(reader, field, value, MATCH_FIELDS)
  if (fields === undefined) return undefined
  const before = reader.flaws.length
  const method = isAbsent(fields.method)
    ? undefined
    : readWord(reader, `${field}.method`, fields.method, METHODS)
  const path = readPath(reader, `${field}.path`, fields.path)
  const headers = readHeaderMatches(reader, `${field}.headers`, fields.headers)
  const parameters = readNamed(reader, `${field}.queryParams`, fields.queryParams, PARAMETER_VALUE)
  // Without the part that cannot be read it would take more than was meant.
  if (reader.flaws.length > before || path === undefined) return undefined
  return { path, method, headers, queryParams: parameters }
}

/** Matches of headers: their names are the same in any case. */
export function readHeaderMatches(
  reader: FlawReader,
  field: string,
  value: unknown,
): readonly NamedMatch[] {
  return readNamed(reader, field, value, HEADER_VALUE, (name) => name.toLowerCase())
}

function readPath(reader: FlawReader, field: string, value: unknown): PathMatch | undefined {
  if (isAbsent(value)) return EVERY_PATH
  const fields = readMap(reader, field, value, ['type', 'value'])
  if (fields === undefined) return undefined
  const type = readWord(reader, `${field}.type`, fields.type ?? 'PathPrefix', [
    'Exact',
    'PathPrefix',
    'RegularExpression',
  ] as const)
  if (type === undefined) return undefined
  const written = fields.value ?? '/'
  const place = `${field}.value`
  if (type === 'RegularExpression') {
    const regex = checkRegex(reader, place, written, LONGEST_PATH)
    return regex === undefined ? undefined : { kind: 'regex', value: regex }
  }
  const text = readText(reader, place, written, PATH)
  if (text === undefined) return undefined
  const path = withNormalEscapes(text)
  if (NEVER_IN_PATHS.test(path)) {
    reader.note(place, 'has empty segments, dots or %2F, which no normalised path has')
    return undefined
  }
  if (type === 'Exact') return { kind: 'exact', value: path }
  // A trailing slash of a prefix says nothing.
  return { kind: 'prefix', value: path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path }
}

function readNamed(
  reader: FlawReader,
  field: string,
  value: unknown,
  form: Form,
  nameOf: (name: string) => string = (name) => name,
): readonly NamedMatch[] {
  const found = new Map<string, NamedMatch>()
  for (const [at, each] of readEntries(reader, field, value, MOST_NAMED).entries()) {
    const place = `${field}[${at}]`
    const fields = readMap(reader, place, each, ['type', 'name', 'value'])
    if (fields === undefined) continue
    const written = readText(reader, `${place}.name`, fields.name, HEADER_NAME)
    const match = readTextMatch(reader, place, fields, form)
    if (written === undefined || match === undefined) continue
    const name = nameOf(written)
    // Of several for one name the first counts alone.
    if (!found.has(name)) found.set(name, { name, match })
  }
  return [...found.values()]
}

function readTextMatch(
  reader: FlawReader,
  field: string,
  { type, value }: { readonly type?: unknown; readonly value?: unknown },
  form: Form,
): TextMatch | undefined {
  const kind = readWord(reader, `${field}.type`, type ?? 'Exact', [
    'Exact',
    'RegularExpression',
  ] as const)
  if (kind === undefined) return undefined
  const text =
    kind === 'Exact'
      ? readText(reader, `${field}.value`, value, form)
      : checkRegex(reader, `${field}.value`, value, form.longest)
  if (text === undefined) return undefined
  return { kind: kind === 'Exact' ? 'exact' : 'regex', value: text }
}
