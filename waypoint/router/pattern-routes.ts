// SPDX-License-Identifier: Apache-2.0
// The candidates whose path is a regular expression, found by what every path that matches begins with: only those whose beginning
// the request's path has are asked.

import { type Candidate, holds } from './candidate.ts'
import type { Pattern } from './pattern.ts'
import type { RequestFields } from './request-fields.ts'

export interface PatternCandidate extends Candidate {
  readonly path: Pattern
}

export class PatternRoutes {
  /** By their beginning, each in order of rank. */
  readonly #byPrefix = new Map<string, PatternCandidate[]>()
  /** The lengths that beginnings have: a few, however many they are. */
  readonly #lengths: readonly number[]

  /** @param candidates In order of rank. */
  constructor(candidates: readonly PatternCandidate[]) {
    for (const candidate of candidates) {
      const { prefix } = candidate.path
      const filed = this.#byPrefix.get(prefix)
      if (filed === undefined) this.#byPrefix.set(prefix, [candidate])
      else filed.push(candidate)
    }
    this.#lengths = [...new Set([...this.#byPrefix.keys()].map(({ length }) => length))]
  }

  /** The first that is true of the request at hand. Hot: once a request that no other path takes. */
  first(path: string, method: string, fields: RequestFields): Candidate | undefined {
    let best: PatternCandidate | undefined
    for (const length of this.#lengths) {
      if (length > path.length) continue
      const filed = this.#byPrefix.get(length === 0 ? '' : path.slice(0, length))
      if (filed !== undefined) best = firstBefore(best, filed, path, method, fields)
    }
    return best
  }
}

function firstBefore(
  best: PatternCandidate | undefined,
  list: readonly PatternCandidate[],
  path: string,
  method: string,
  fields: RequestFields,
): PatternCandidate | undefined {
  for (const candidate of list) {
    if (best !== undefined && candidate.rank > best.rank) return best
    if (holds(candidate, method, fields) && candidate.path.matches(path)) return candidate
  }
  return best
}
