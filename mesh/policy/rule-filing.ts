// SPDX-License-Identifier: Apache-2.0
// Under which values each rule is filed: those of one of its clauses, one field of each match; and of the clauses the one whose values
// the fewest other rules name. Where all are named by too many, it is left to classes (rule-classes.ts). Made for 100,000 rules at
// once: numbers in long arrays, and nothing allocated a rule.

import type { Sliced } from '../async/sliced.ts'
import type { CompiledMatch, CompiledRule } from './field-test.ts'
import { isTelling, type ValueIds } from './value-ids.ts'

/** The places of rules in their list, by the number of the value that they are filed under. */
export interface Filing {
  /** Those of value `id` are `places[starts[id]]` to `places[starts[id + 1]]`, exclusive; ascending. */
  readonly starts: Int32Array
  readonly places: Int32Array
  /** Rules in which no value rules anything out, or each so few that too many would be under it; ascending. */
  readonly unfiled: readonly number[]
}

/** What is walked through for a value that a call meets is at most this part of the rules: at 100,000 some 2 us. */
const LEAST_PART = 512
const FEW = 32
/** Between two breaks. */
export const RULES_A_STEP = 256

/** At so many under one value it is a matter for classes. */
export function crowd(rules: number): number {
  return Math.max(FEW, Math.ceil(rules / LEAST_PART))
}

export function* fileRules(rules: readonly CompiledRule[], ids: ValueIds): Sliced<Filing> {
  const named = yield* nameAll(rules, ids)
  const most = crowd(rules.length)
  const counts = new Int32Array(ids.count)
  for (const id of named) counts[id] = (counts[id] ?? 0) + 1
  const reader = new Chooser(named, counts)
  const pairs: number[] = []
  const unfiled: number[] = []
  const lastPlaces = new Int32Array(ids.count).fill(-1)
  for (const [place, rule] of rules.entries()) {
    if (place % RULES_A_STEP === 0) yield
    const chosen = reader.choose(rule, most)
    if (chosen === 'never') continue
    if (chosen === undefined) unfiled.push(place)
    else
      for (const id of chosen) {
        // A rule may name a value twice.
        if (lastPlaces[id] === place) continue
        lastPlaces[id] = place
        pairs.push(id, place)
      }
  }
  yield
  return { ...sortedByValue(pairs, ids.count), unfiled }
}

/** The numbers of all values of all telling fields, in the order of rules, clauses, matches and fields. */
function* nameAll(rules: readonly CompiledRule[], ids: ValueIds): Sliced<readonly number[]> {
  const named: number[] = []
  for (const [place, rule] of rules.entries()) {
    if (place % RULES_A_STEP === 0) yield
    for (const clause of rule)
      for (const match of clause)
        for (const test of match.tests) if (isTelling(test)) ids.name(test, named)
  }
  return named
}

/** Walks the rules again as nameAll() did, and chooses. */
class Chooser {
  readonly #named: readonly number[]
  readonly #counts: Int32Array
  #at = 0

  constructor(named: readonly number[], counts: Int32Array) {
    this.#named = named
    this.#counts = counts
  }

  /** The values to file the next rule under; undefined when there are none that fewer rules than `crowded` name. */
  choose(rule: CompiledRule, crowded: number): readonly number[] | 'never' | undefined {
    let isNever = false
    let best: number[] | undefined
    let least = crowded
    for (const clause of rule) {
      const chosen: number[] = []
      let most = 0
      let canBeFiled = false
      let isOpen = clause.length === 0
      for (const match of clause) {
        const field = this.#leastNamedField(match)
        // What says nothing matches nothing: the clause is as good as without it.
        if (match.tests.length === 0 && !match.isPartlyUnread) continue
        if (field === undefined) isOpen = true
        else {
          canBeFiled = true
          most = Math.max(most, field.named)
          for (let at = field.from; at < field.to; at += 1) chosen.push(this.#named[at] ?? 0)
        }
      }
      if (isOpen) continue
      if (!canBeFiled) isNever = true
      else if (most < least) {
        best = chosen
        least = most
      }
    }
    return isNever ? 'never' : best
  }

  #leastNamedField(
    match: CompiledMatch,
  ): { readonly from: number; readonly to: number; readonly named: number } | undefined {
    let best: { readonly from: number; readonly to: number; readonly named: number } | undefined
    for (const test of match.tests) {
      if (!isTelling(test)) continue
      const from = this.#at
      const to = from + test.values.length
      this.#at = to
      let most = 0
      for (let at = from; at < to; at += 1)
        most = Math.max(most, this.#counts[this.#named[at] ?? 0] ?? 0)
      if (best === undefined || most < best.named) best = { from, to, named: most }
    }
    return best
  }
}

/** Pairs of value and place, by value; of one value they stay in their order. */
export function sortedByValue(
  pairs: readonly number[],
  values: number,
): { readonly starts: Int32Array; readonly places: Int32Array } {
  const starts = new Int32Array(values + 1)
  for (let at = 0; at < pairs.length; at += 2) {
    const after = (pairs[at] ?? 0) + 1
    starts[after] = (starts[after] ?? 0) + 1
  }
  for (let id = 1; id <= values; id += 1) starts[id] = (starts[id] ?? 0) + (starts[id - 1] ?? 0)
  const next = starts.slice()
  const places = new Int32Array(pairs.length / 2)
  for (let at = 0; at < pairs.length; at += 2) {
    const id = pairs[at] ?? 0
    const to = next[id] ?? 0
    places[to] = pairs[at + 1] ?? 0
    next[id] = to + 1
  }
  return { starts, places }
}
