// SPDX-License-Identifier: Apache-2.0
// Reads what a rule says of time, of second tries, and of coming back to the same endpoint.

import { hashText } from '../../mesh/hash-text.ts'
import type { HttpRetry, HttpSession, HttpTimeouts } from '../../mesh/model/http-routes.ts'
import { type FlawReader, isAbsent } from '../istio-api/flaw.ts'
import {
  type Form,
  readDuration,
  readEntries,
  readInteger,
  readMap,
  readText,
  readWord,
} from './route-fields.ts'

export const NO_TIMEOUTS: HttpTimeouts = { requestMs: 0, backendRequestMs: 0 }
/** A route that asks for tries and not for how many gets as many as Istio gives. */
const ATTEMPTS = 2
/** More would be an attack on the backend, whoever wrote it. */
const MOST_ATTEMPTS = 100
/** Before a second try, where nothing is said: as Istio's proxies have it. */
const BACKOFF_MS = 25
const MOST_CODES = 200
/** A cookie's name is a token (RFC 6265, 4.1.1), and a header's, too. */
const SESSION_NAME: Form = {
  pattern: /^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/,
  longest: 128,
  words: 'the name of a cookie or header',
}
const SESSION_FIELDS = ['sessionName', 'absoluteTimeout', 'idleTimeout', 'type', 'cookieConfig']

/** As waypoints have it, but for its key, which no object says. */
export type SessionFacts = Omit<HttpSession, 'key'>

/** How long it may take. */
export function readTimeouts(reader: FlawReader, field: string, value: unknown): HttpTimeouts {
  if (isAbsent(value)) return NO_TIMEOUTS
  const fields = readMap(reader, field, value, ['request', 'backendRequest'])
  const requestMs = readDuration(reader, `${field}.request`, fields?.request) ?? 0
  const place = `${field}.backendRequest`
  const backendRequestMs = readDuration(reader, place, fields?.backendRequest) ?? 0
  if (requestMs > 0 && backendRequestMs > requestMs)
    reader.note(place, 'is longer than the request may take')
  return { requestMs, backendRequestMs }
}

/** What is tried again. */
export function readRetry(
  reader: FlawReader,
  field: string,
  value: unknown,
): HttpRetry | undefined {
  if (isAbsent(value)) return undefined
  const fields = readMap(reader, field, value, ['codes', 'attempts', 'backoff'])
  if (fields === undefined) return undefined
  const { codes, attempts, backoff } = fields
  const found = readEntries(reader, `${field}.codes`, codes, MOST_CODES).flatMap(
    (code, at) => readInteger(reader, `${field}.codes[${at}]`, code, 400, 599) ?? [],
  )
  return {
    attempts: readInteger(reader, `${field}.attempts`, attempts ?? ATTEMPTS, 0, MOST_ATTEMPTS) ?? 0,
    codes: [...new Set(found)],
    backoffMs: readDuration(reader, `${field}.backoff`, backoff) ?? BACKOFF_MS,
  }
}

/**
 * By what a client comes back to its endpoint.
 *
 * @param rule what tells the rule from all others, of which a name is made where it says none
 */
export function readSession(
  reader: FlawReader,
  field: string,
  value: unknown,
  rule: string,
): SessionFacts | undefined {
  if (isAbsent(value)) return undefined
  const fields = readMap(reader, field, value, SESSION_FIELDS)
  if (fields === undefined) return undefined
  const { sessionName, absoluteTimeout, idleTimeout, type, cookieConfig } = fields
  const kind = readWord(reader, `${field}.type`, type ?? 'Cookie', ['Cookie', 'Header'] as const)
  const name =
    isAbsent(sessionName) || sessionName === ''
      ? `ambit-session-${hashText(rule).toString(36)}`
      : readText(reader, `${field}.sessionName`, sessionName, SESSION_NAME)
  const absoluteMs = readDuration(reader, `${field}.absoluteTimeout`, absoluteTimeout) ?? 0
  const isPermanent = readIsPermanent(reader, `${field}.cookieConfig`, cookieConfig)
  if (kind === 'Header' && !isAbsent(cookieConfig))
    reader.note(`${field}.cookieConfig`, 'is for sessions by cookie only')
  if (isPermanent && absoluteMs === 0)
    reader.note(`${field}.absoluteTimeout`, 'must say how long a permanent cookie lives')
  if (kind === undefined || name === undefined) return undefined
  return {
    kind: kind === 'Cookie' ? 'cookie' : 'header',
    name: kind === 'Cookie' ? name : name.toLowerCase(),
    absoluteMs,
    idleMs: readDuration(reader, `${field}.idleTimeout`, idleTimeout) ?? 0,
    isPermanent,
  }
}

function readIsPermanent(reader: FlawReader, field: string, value: unknown): boolean {
  if (isAbsent(value)) return false
  const fields = readMap(reader, field, value, ['lifetimeType'])
  const lifetime = readWord(reader, `${field}.lifetimeType`, fields?.lifetimeType ?? 'Session', [
    'Session',
    'Permanent',
  ] as const)
  return lifetime === 'Permanent'
}
