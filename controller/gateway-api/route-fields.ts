// SPDX-License-Identifier: Apache-2.0
// Reads single fields of routes. Each notes what is wrong with a field, and then gives nothing: a rule with a flaw is not used as if the
// field were not there. Bounds and forms are those of the Gateway API, which an API server may not have checked.

import {
  type FlawReader,
  fieldsOf,
  type Fields,
  hasOthers,
  isAbsent,
  shown,
} from '../istio-api/flaw.ts'

/** What a text must look like. */
export interface Form {
  readonly pattern: RegExp
  readonly longest: number
  /** For people: `is not ...`. */
  readonly words: string
}

/** The name of a header (RFC 9110, 5.1: a token), and in the Gateway API of a query parameter, too. */
export const HEADER_NAME: Form = {
  pattern: /^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/,
  longest: 256,
  words: 'the name of a header',
}
export const HOSTNAME: Form = {
  pattern: /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/,
  longest: 253,
  words: 'a host name in lower case without wildcard',
}
export const OBJECT_NAME: Form = {
  pattern: /^[a-z0-9](?:[-.a-z0-9]*[a-z0-9])?$/,
  longest: 253,
  words: 'the name of an object',
}
export const ANY_TEXT: Form = { pattern: /^/, longest: 253, words: 'a text' }

/** GEP-2257. */
const DURATION = /^(?:\d{1,5}(?:h|m|s|ms)){1,4}$/
const UNIT_MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 }

/** The entries; absent is none, and of a list with too many nothing is read. */
export function readEntries(
  reader: FlawReader,
  field: string,
  value: unknown,
  most: number,
): readonly unknown[] {
  if (isAbsent(value)) return []
  if (!Array.isArray(value)) {
    reader.note(field, `${shown(value)} is not a list`)
    return []
  }
  if (value.length > most) {
    reader.note(field, `has more than ${most} entries`)
    return []
  }
  return value as readonly unknown[]
}

/** A map with these fields and no others. */
export function readMap(
  reader: FlawReader,
  field: string,
  value: unknown,
  known: readonly string[],
): Fields | undefined {
  const fields = fieldsOf(value)
  if (fields === undefined) reader.note(field, `${shown(value)} is not a map`)
  else hasOthers(reader, field, fields, known)
  return fields
}

/** A text of this form, which must be there. */
export function readText(
  reader: FlawReader,
  field: string,
  value: unknown,
  { pattern, longest, words }: Form,
): string | undefined {
  if (typeof value === 'string' && value.length <= longest && pattern.test(value)) return value
  reader.note(field, isAbsent(value) ? 'is not there' : `${shown(value)} is not ${words}`)
  return undefined
}

/** As readText, where the field may be left out. */
export function readOptionalText(
  reader: FlawReader,
  field: string,
  value: unknown,
  form: Form,
): string | undefined {
  return isAbsent(value) ? undefined : readText(reader, field, value, form)
}

/** One of these words. */
export function readWord<T extends string>(
  reader: FlawReader,
  field: string,
  value: unknown,
  words: readonly T[],
): T | undefined {
  const found = words.find((word) => word === value)
  if (found === undefined) {
    const reason = isAbsent(value) ? 'is not there' : `${shown(value)} is none of them`
    // Words of a later version, perhaps: well formed, and not to be guessed.
    reader.unsupported(field, `${reason}: ${words.join(', ')}`)
  }
  return found
}

/** A whole number of this range. */
export function readInteger(
  reader: FlawReader,
  field: string,
  value: unknown,
  from: number,
  to: number,
): number | undefined {
  if (typeof value === 'number' && Number.isInteger(value) && value >= from && value <= to)
    return value
  const what = typeof value === 'number' ? String(value) : shown(value)
  reader.note(
    field,
    isAbsent(value) ? 'is not there' : `${what} is not a whole number from ${from} to ${to}`,
  )
  return undefined
}

/** Milliseconds; undefined where nothing is said. */
export function readDuration(
  reader: FlawReader,
  field: string,
  value: unknown,
): number | undefined {
  if (isAbsent(value)) return undefined
  if (typeof value !== 'string' || !DURATION.test(value)) {
    reader.note(field, `${shown(value)} is not a duration like 1h30m or 500ms`)
    return undefined
  }
  let ms = 0
  for (const [, count = '', unit = ''] of value.matchAll(/(\d+)(ms|h|m|s)/g))
    ms += Number(count) * (UNIT_MS[unit] ?? 0)
  return ms
}
