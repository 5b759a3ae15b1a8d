// SPDX-License-Identifier: Apache-2.0
// Reads the filters of a rule or of one of its backends. A filter that is not known is never left out: without it the rule would be another
// one than somebody wrote, so the rule is not used.

import type { HeaderEdit, HeaderValue, HttpFilter, PathEdit } from '../../mesh/model/http-routes.ts'
import { type Fields, type FlawReader, fieldsOf, isAbsent } from '../istio-api/flaw.ts'
import { readCors } from './cors-filter.ts'
import {
  type Form,
  HEADER_NAME,
  HOSTNAME,
  readEntries,
  readInteger,
  readMap,
  readOptionalText,
  readText,
  readWord,
} from './route-fields.ts'
import { BACKEND_FIELDS, type BackendRef, readBackendRef } from './route-refs.ts'

/** As waypoints have it, but for the backend of a mirror, which is still to be found. */
export type FilterFacts =
  | Exclude<HttpFilter, { readonly kind: 'mirror' }>
  | {
      readonly kind: 'mirror'
      readonly backend: BackendRef
      readonly numerator: number
      readonly denominator: number
    }

export interface FilterContext {
  readonly reader: FlawReader
  /** The route's. */
  readonly namespace: string
  /** Those that its kind of route may have. */
  readonly types: readonly FilterType[]
}

const MOST_FILTERS = 16
const MOST_HEADERS = 16
const LONGEST_PATH = 1024
/** Each type, and the field that says what it is to do. */
const BODIES = {
  RequestHeaderModifier: 'requestHeaderModifier',
  ResponseHeaderModifier: 'responseHeaderModifier',
  RequestMirror: 'requestMirror',
  RequestRedirect: 'requestRedirect',
  URLRewrite: 'urlRewrite',
  CORS: 'cors',
} as const
export type FilterType = keyof typeof BODIES
export const HTTP_FILTERS = Object.keys(BODIES) as readonly FilterType[]
export const GRPC_FILTERS: readonly FilterType[] = [
  'RequestHeaderModifier',
  'ResponseHeaderModifier',
  'RequestMirror',
]

const REDIRECT_FIELDS = ['scheme', 'hostname', 'path', 'port', 'statusCode']
const REDIRECT_CODES: readonly unknown[] = [301, 302, 303, 307, 308]
/** Where a redirect says none. */
const REDIRECT_CODE = 302
/** What is written into a header must not end it: one line of plain characters. */
const HEADER_VALUE: Form = {
  pattern: /^[\t\x20-\x7e]*$/,
  longest: 4096,
  words: 'one line of ASCII characters',
}
/** A connection's own: who changes them changes where a message ends (RFC 9110, 7.6.1). The host is changed by URLRewrite. */
const UNTOUCHABLE: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'host',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])
const NEW_PATH: Form = {
  pattern: /^[-A-Za-z0-9/._~!$&'()*+,;=:@%?]*$/,
  longest: LONGEST_PATH,
  words: 'a path',
}
const SEVERAL: ReadonlySet<HttpFilter['kind']> = new Set(['mirror'])

/** Reads a list of filters. */
export function readFilters(
  context: FilterContext,
  field: string,
  value: unknown,
): readonly FilterFacts[] {
  const { reader } = context
  const found: FilterFacts[] = []
  for (const [at, each] of readEntries(reader, field, value, MOST_FILTERS).entries()) {
    const place = `${field}[${at}]`
    const filter = readFilter(context, place, each)
    if (filter === undefined) continue
    if (!SEVERAL.has(filter.kind) && found.some(({ kind }) => kind === filter.kind))
      reader.note(place, 'is the second filter of its type')
    found.push(filter)
  }
  return found
}

/** Whether these cannot be had together: the request would go to two places. */
export function areIncompatible(filters: readonly FilterFacts[]): boolean {
  return ['redirect', 'rewrite'].every((kind) => filters.some((each) => each.kind === kind))
}

function readFilter(
  context: FilterContext,
  field: string,
  value: unknown,
): FilterFacts | undefined {
  const { reader, types } = context
  const written = fieldsOf(value)?.type
  const type = readWord(reader, `${field}.type`, written, types)
  if (type === undefined) return undefined
  const name = BODIES[type]
  const fields = readMap(reader, field, value, ['type', name])
  const body = fieldsOf(fields?.[name])
  const place = `${field}.${name}`
  if (body === undefined) {
    reader.note(place, 'is not there')
    return undefined
  }
  switch (type) {
    case 'RequestHeaderModifier':
      return { kind: 'requestHeaders', edit: readEdit(reader, place, body) }
    case 'ResponseHeaderModifier':
      return { kind: 'responseHeaders', edit: readEdit(reader, place, body) }
    case 'RequestMirror':
      return readMirror(context, place, body)
    case 'RequestRedirect':
      return readRedirect(reader, place, body)
    case 'URLRewrite':
      return readRewrite(reader, place, body)
    case 'CORS':
      return readCors(reader, place, body)
  }
}

function readEdit(reader: FlawReader, field: string, body: Fields): HeaderEdit {
  readMap(reader, field, body, ['set', 'add', 'remove'])
  const values = (key: 'set' | 'add'): readonly HeaderValue[] => {
    const found = new Map<string, HeaderValue>()
    const entries = readEntries(reader, `${field}.${key}`, body[key], MOST_HEADERS)
    for (const [at, each] of entries.entries()) {
      const place = `${field}.${key}[${at}]`
      const fields = readMap(reader, place, each, ['name', 'value'])
      if (fields === undefined) continue
      const name = readEditable(reader, `${place}.name`, fields.name)
      const value = readText(reader, `${place}.value`, fields.value, HEADER_VALUE)
      if (name === undefined || value === undefined) continue
      // Of several for one name, in whatever case, the first counts alone (HTTPHeader.name).
      if (!found.has(name)) found.set(name, { name, value: value.trim() })
    }
    return [...found.values()]
  }
  return {
    set: values('set'),
    add: values('add'),
    remove: readEntries(reader, `${field}.remove`, body.remove, MOST_HEADERS).flatMap(
      (each, at) => readEditable(reader, `${field}.remove[${at}]`, each) ?? [],
    ),
  }
}

function readEditable(reader: FlawReader, field: string, value: unknown): string | undefined {
  const name = readText(reader, field, value, HEADER_NAME)?.toLowerCase()
  if (name === undefined || !UNTOUCHABLE.has(name)) return name
  reader.unsupported(field, `${name} is none that a filter may change`)
  return undefined
}

function readMirror(
  { reader, namespace }: FilterContext,
  field: string,
  body: Fields,
): FilterFacts | undefined {
  readMap(reader, field, body, ['backendRef', 'percent', 'fraction'])
  const place = `${field}.backendRef`
  const fields = readMap(reader, place, body.backendRef, BACKEND_FIELDS)
  const backend = fields && readBackendRef(reader, namespace, place, fields)
  const share = readShare(reader, field, body)
  return backend && share && { kind: 'mirror', backend, ...share }
}

/** Of which requests; of all where nothing is said. */
function readShare(
  reader: FlawReader,
  field: string,
  { percent, fraction }: Fields,
): { readonly numerator: number; readonly denominator: number } | undefined {
  if (!isAbsent(percent) && !isAbsent(fraction)) {
    reader.note(`${field}.fraction`, 'stands beside percent, and a mirror can have one of them')
    return undefined
  }
  if (isAbsent(fraction)) {
    const numerator = readInteger(reader, `${field}.percent`, percent ?? 100, 0, 100)
    return numerator === undefined ? undefined : { numerator, denominator: 100 }
  }
  const place = `${field}.fraction`
  const fields = readMap(reader, place, fraction, ['numerator', 'denominator'])
  if (fields === undefined) return undefined
  const most = 2 ** 31 - 1
  const denominator = readInteger(
    reader,
    `${place}.denominator`,
    fields.denominator ?? 100,
    1,
    most,
  )
  if (denominator === undefined) return undefined
  const numerator = readInteger(reader, `${place}.numerator`, fields.numerator, 0, denominator)
  return numerator === undefined ? undefined : { numerator, denominator }
}

function readRedirect(reader: FlawReader, field: string, body: Fields): FilterFacts | undefined {
  readMap(reader, field, body, REDIRECT_FIELDS)
  const scheme = isAbsent(body.scheme)
    ? undefined
    : readWord(reader, `${field}.scheme`, body.scheme, ['http', 'https'] as const)
  const status = body.statusCode ?? REDIRECT_CODE
  if (!REDIRECT_CODES.includes(status))
    reader.unsupported(`${field}.statusCode`, `is none of ${REDIRECT_CODES.join(', ')}`)
  return {
    kind: 'redirect',
    scheme,
    hostname: readOptionalText(reader, `${field}.hostname`, body.hostname, HOSTNAME),
    port: isAbsent(body.port)
      ? undefined
      : readInteger(reader, `${field}.port`, body.port, 1, 65_535),
    path: readPathEdit(reader, `${field}.path`, body.path),
    status: Number(status),
  }
}

function readRewrite(reader: FlawReader, field: string, body: Fields): FilterFacts {
  readMap(reader, field, body, ['hostname', 'path'])
  return {
    kind: 'rewrite',
    hostname: readOptionalText(reader, `${field}.hostname`, body.hostname, HOSTNAME),
    path: readPathEdit(reader, `${field}.path`, body.path),
  }
}

function readPathEdit(reader: FlawReader, field: string, value: unknown): PathEdit | undefined {
  if (isAbsent(value)) return undefined
  const fields = readMap(reader, field, value, ['type', 'replaceFullPath', 'replacePrefixMatch'])
  if (fields === undefined) return undefined
  const type = readWord(reader, `${field}.type`, fields.type, [
    'ReplaceFullPath',
    'ReplacePrefixMatch',
  ] as const)
  if (type === undefined) return undefined
  const [own, other] =
    type === 'ReplaceFullPath'
      ? (['replaceFullPath', 'replacePrefixMatch'] as const)
      : (['replacePrefixMatch', 'replaceFullPath'] as const)
  if (!isAbsent(fields[other])) reader.note(`${field}.${other}`, `stands beside the type ${type}`)
  const text = readText(reader, `${field}.${own}`, fields[own], NEW_PATH)
  return text === undefined
    ? undefined
    : { kind: type === 'ReplaceFullPath' ? 'full' : 'prefix', value: text }
}
