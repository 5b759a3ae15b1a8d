// SPDX-License-Identifier: Apache-2.0
// A rule as alternatives: every way to take one match of each of its clauses. It matches exactly when all matches of one alternative do.

import type { CompiledMatch, CompiledRule } from './field-test.ts'

/** All matches of it must be true. */
export type Slot = readonly CompiledMatch[]

/** Clauses that would make more are left out. */
const MOST_SLOTS = 16

/**
 * Alternatives of which one is true wherever the rule matches; where clauses had to be left out, also elsewhere. None: it never matches.
 */
export function slotsOf(rule: CompiledRule): readonly Slot[] {
  let slots: readonly Slot[] = [[]]
  for (const clause of rule) {
    // One without matches is true.
    if (clause.length === 0) continue
    const matches = clause.filter(saysSomething)
    if (slots.length * matches.length <= MOST_SLOTS)
      slots = slots.flatMap((slot) => matches.map((match) => [...slot, match]))
  }
  return slots
}

/** One that says nothing is not true. */
function saysSomething({ tests, isPartlyUnread }: CompiledMatch): boolean {
  return tests.length > 0 || isPartlyUnread
}
