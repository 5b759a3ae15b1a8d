// SPDX-License-Identifier: Apache-2.0
// Reads what may be anything: an agent of another version, or whoever answers in its place, must not take the page down. What is not as
// it should be is as if it were absent.

export type Fields = Readonly<Record<string, unknown>>

/** The fields of an object; none when it is none. */
export function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : {}
}

/** The entries of a list; none when it is none. */
export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

/** The texts of a list. */
export function texts(value: unknown): readonly string[] {
  return list(value).filter((each) => typeof each === 'string')
}

/** The text; empty when it is none. */
export function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** The text; undefined when it is none or empty. */
export function optionalText(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** A whole number from 0; undefined when it is none. */
export function count(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : undefined
}

/** A time by RFC 3339 as milliseconds since the epoch. */
export function time(value: unknown): number | undefined {
  const at = typeof value === 'string' ? Date.parse(value) : Number.NaN
  return Number.isNaN(at) ? undefined : at
}
