// SPDX-License-Identifier: Apache-2.0
// What RFC 9113 8.2 and 8.3 ask of the fields of a message. Whatever breaks it is malformed, and its stream is reset: what is let through
// here is written as lines of HTTP/1.1 there.

import type { Field } from '../field-list.ts'
import { CLASSES, TOKEN, VALUE } from '../octets.ts'

const COLON = 0x3a
const SPACE = 0x20
const TAB = 0x09

/** RFC 9113 8.2.2: HTTP/2 has its own ways for what these say. */
const OF_THE_CONNECTION: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
])

/** Where the pseudo-fields end. */
export function countPseudo(fields: readonly Field[]): number {
  let count = 0
  while (count < fields.length && fields[count]?.[0].charCodeAt(0) === COLON) count += 1
  return count
}

/** What is wrong with the fields from such a place on, none of which may be a pseudo-field; undefined: nothing. Hot: once a field. */
export function fieldsProblem(fields: readonly Field[], from: number): string | undefined {
  for (let at = from; at < fields.length; at += 1) {
    const field = fields[at]
    if (field === undefined) continue
    const [name, value] = field
    if (!isLowerCaseToken(name)) return 'a field has no name in lower case (RFC 9113 8.2.1)'
    if (!isTrimmedValue(value)) return `field ${name} has octets that no value may have`
    if (OF_THE_CONNECTION.has(name)) return `field ${name} is about a connection (RFC 9113 8.2.2)`
    if (name === 'te' && value !== 'trailers')
      return 'field te asks for more than trailers (RFC 9113 8.2.2)'
  }
  return undefined
}

/**
 * The stated length of a body; undefined where none is stated, or the problem. Of two the one is as good as the other only while they are
 * equal, and an app of HTTP/1.1 would be sent both (RFC 9110 8.6).
 */
export function statedLength(
  fields: readonly Field[],
  from: number,
): number | undefined | { readonly problem: string } {
  let stated: string | undefined
  for (let at = from; at < fields.length; at += 1) {
    const field = fields[at]
    if (field?.[0] !== 'content-length') continue
    if (stated !== undefined) return { problem: 'there are two lengths of the content' }
    stated = field[1]
  }
  if (stated === undefined) return undefined
  return /^\d{1,15}$/.test(stated)
    ? Number(stated)
    : { problem: 'the length of the content is no number' }
}

function isLowerCaseToken(name: string): boolean {
  if (name === '') return false
  for (let at = 0; at < name.length; at += 1) {
    const code = name.charCodeAt(at)
    if (((CLASSES[code] ?? 0) & TOKEN) === 0 || (code >= 0x41 && code <= 0x5a)) return false
  }
  return true
}

function isTrimmedValue(value: string): boolean {
  const { length } = value
  if (length === 0) return true
  if (isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(length - 1))) return false
  for (let at = 0; at < length; at += 1)
    if (((CLASSES[value.charCodeAt(at)] ?? 0) & VALUE) === 0) return false
  return true
}

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB
}
