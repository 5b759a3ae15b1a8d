// SPDX-License-Identifier: Apache-2.0
// The candidates of one path. A thousand tenants told apart by a header are found by one look at a table: the cost is that of the
// distinct names asked about, not of the routes.

import { type Candidate, type ExactTest, holds } from './candidate.ts'
import type { FieldPlace, RequestFields } from './request-fields.ts'

/** So many are gone through as fast as a table answers. */
const FEW_CANDIDATES = 4

/** Candidates that ask for a value of one field, by that value; of each value in order of rank. */
interface ValueIndex {
  readonly field: FieldPlace
  readonly byValue: ReadonlyMap<string, readonly Candidate[]>
}

export class CandidateSet {
  readonly #indexes: readonly ValueIndex[]
  /** Those in no index, in order of rank. */
  readonly #others: readonly Candidate[]

  /** @param candidates In order of rank. */
  constructor(candidates: readonly Candidate[]) {
    const indexed = candidates.length > FEW_CANDIDATES ? indexByValue(candidates) : []
    this.#indexes = indexed
    this.#others =
      indexed.length === 0 ? candidates : candidates.filter(({ exact }) => exact.length === 0)
  }

  /** The first that is true of the request at hand. Hot: for every path of the table that the request is under. */
  first(method: string, fields: RequestFields): Candidate | undefined {
    let best: Candidate | undefined
    for (const { field, byValue } of this.#indexes) {
      const value = fields.value(field)
      const filed = value === undefined ? undefined : byValue.get(value)
      if (filed !== undefined) best = firstBefore(best, filed, method, fields)
    }
    return firstBefore(best, this.#others, method, fields)
  }
}

/** The first of a list that is true, if it comes before what was found already. */
function firstBefore(
  best: Candidate | undefined,
  list: readonly Candidate[],
  method: string,
  fields: RequestFields,
): Candidate | undefined {
  for (const candidate of list) {
    if (best !== undefined && candidate.rank > best.rank) return best
    if (holds(candidate, method, fields)) return candidate
  }
  return best
}

/** Files each candidate under that field of its exact tests which tells most candidates apart. */
function indexByValue(candidates: readonly Candidate[]): readonly ValueIndex[] {
  const values = new Map<FieldPlace, Set<string>>()
  for (const { exact } of candidates)
    for (const { field, value } of exact)
      values.set(field, (values.get(field) ?? new Set()).add(value))
  const variety = (field: FieldPlace): number => values.get(field)?.size ?? 0
  const indexes = new Map<FieldPlace, Map<string, Candidate[]>>()
  for (const candidate of candidates) {
    const [first, ...others] = candidate.exact
    if (first === undefined) continue
    const best = others.reduce<ExactTest>(
      (found, test) => (variety(test.field) > variety(found.field) ? test : found),
      first,
    )
    const index = indexes.get(best.field) ?? new Map<string, Candidate[]>()
    indexes.set(best.field, index)
    const filed = index.get(best.value)
    if (filed === undefined) index.set(best.value, [candidate])
    else filed.push(candidate)
  }
  return [...indexes].map(([field, byValue]) => ({ field, byValue }))
}
