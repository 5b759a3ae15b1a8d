// SPDX-License-Identifier: Apache-2.0
// Which connections or requests have a line in the access log: a filter, and a share of those that ended well. Can be changed at run time.

import { err, ok, type Result } from '../result.ts'
import { parseConnectionFilter } from './access-filter/fields.ts'

/** Plain data: threads are told of it. */
export interface AccessSpec {
  /** An expression that parseAccessFilter() takes; undefined: every one. */
  readonly filter: string | undefined
  /** From 0 to 1: how much of the lines of connections that ended well is written. The others are written always. */
  readonly sample: number
}

export const EVERY_LINE: AccessSpec = { filter: undefined, sample: 1 }

/** Changes what is given; an empty filter is none. The error says which of the two is wrong, and how. */
export function changeAccessSpec(
  before: AccessSpec,
  {
    filter,
    sample,
  }: { readonly filter?: string | undefined; readonly sample?: string | undefined },
  readFilter: FilterReader = readConnectionFilter,
): Result<AccessSpec, string> {
  const wanted = filter === undefined ? ok(before.filter) : readFilter(filter)
  if (!wanted.ok) return err(`filter: ${wanted.error}`)
  const share = sample === undefined ? ok(before.sample) : readShare(sample)
  if (!share.ok) return err(`sample: ${share.error}`)
  return ok({ filter: wanted.value, sample: share.value })
}

/** Reads an expression, to keep it as it is written. */
export type FilterReader = (text: string) => Result<string | undefined, string>

/** Makes a reader of expressions; `parse` says what is wrong with one. */
export function filterReader(parse: (text: string) => Result<unknown, string>): FilterReader {
  return (text) => {
    const trimmed = text.trim()
    if (trimmed === '') return ok(undefined)
    const parsed = parse(trimmed)
    return parsed.ok ? ok(trimmed) : parsed
  }
}

/** Of expressions over the fields of connections. */
export const readConnectionFilter = filterReader(parseConnectionFilter)

/** Reads a share from 0 to 1. */
export function readShare(text: string): Result<number, string> {
  const share = Number(text)
  return text.trim() !== '' && share >= 0 && share <= 1
    ? ok(share)
    : err('It must be a share from 0 to 1, e.g. 0.1.')
}
