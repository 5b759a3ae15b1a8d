// SPDX-License-Identifier: Apache-2.0
// A match of a rule without its path: what else must be true of a request.

import type { Pattern } from './pattern.ts'
import type { FieldPlace, RequestFields } from './request-fields.ts'
import type { RouteHit } from './types.ts'

export interface ExactTest {
  readonly field: FieldPlace
  readonly value: string
}

interface PatternTest {
  readonly field: FieldPlace
  readonly pattern: Pattern
}

export interface Candidate {
  /** Its place among all of the table, by precedence. */
  readonly rank: number
  readonly hit: RouteHit
  readonly method: string | undefined
  readonly exact: readonly ExactTest[]
  readonly patterns: readonly PatternTest[]
}

/** Whether it is true of the request at hand, path aside. Hot: for every candidate that the indexes leave. */
export function holds(candidate: Candidate, method: string, fields: RequestFields): boolean {
  if (candidate.method !== undefined && candidate.method !== method) return false
  for (const { field, value } of candidate.exact) if (fields.value(field) !== value) return false
  for (const { field, pattern } of candidate.patterns) {
    const value = fields.value(field)
    if (value === undefined || !pattern.matches(value)) return false
  }
  return true
}
