// SPDX-License-Identifier: Apache-2.0
// Rules filed under what a request must be for them to match: its path, else its method. A request looks only at those filed under what it
// is, and at the rest; of the rest a connection leaves those out that none of its requests could match.

import { finish } from '../../async/sliced.ts'
import type { RequestClause, RequestMatch } from '../../model/waypoint-policy.ts'
import { taken, TextTable } from '../value-tables.ts'
import { narrowedPath } from './path-pattern.ts'
import { type CompiledRequestRule, compileRequestRule } from './request-test.ts'
import type { RequestHit } from './types.ts'

export interface FiledRule extends RequestHit {
  readonly compiled: CompiledRequestRule
  /** In the set. */
  readonly place: number
}

export interface FiledRules {
  readonly all: readonly FiledRule[]
  readonly byPath: TextTable<FiledRule[]>
  readonly byMethod: ReadonlyMap<string, readonly FiledRule[]>
  /** That are to be asked whatever the request is. */
  readonly others: readonly FiledRule[]
}

/** Files rules in their order. */
export function fileRequestRules(hits: readonly RequestHit[]): FiledRules {
  const byPath = new TextTable<FiledRule[]>()
  const byMethod = new Map<string, FiledRule[]>()
  const others: FiledRule[] = []
  const all = hits.map(({ policy, rule }, place): FiledRule => {
    const filed = { policy, rule, compiled: compileRequestRule(rule), place }
    const paths = telling(rule.clauses, pathsOf)
    const methods = paths === undefined ? telling(rule.clauses, methodsOf) : undefined
    if (paths !== undefined) for (const path of paths) byPath.take(path, none).push(filed)
    else if (methods !== undefined)
      for (const method of new Set(methods)) taken(byMethod, method, none).push(filed)
    else others.push(filed)
    return filed
  })
  finish(byPath.seal(() => true))
  return { all, byPath, byMethod, others }
}

const none = (): FiledRule[] => []

/** Of the first clause that has any in each of its matches, all of them: without one of these it cannot match. */
function telling<T>(
  clauses: readonly RequestClause[],
  of: (match: RequestMatch) => readonly T[] | undefined,
): readonly T[] | undefined {
  for (const { matches } of clauses) {
    const found: T[] = []
    const isTelling =
      matches.length > 0 &&
      matches.every((match) => {
        const each = of(match)
        if (each !== undefined) found.push(...each)
        return each !== undefined
      })
    if (isTelling) return found
  }
  return undefined
}

function pathsOf({ paths }: RequestMatch) {
  const found = paths.flatMap((path) => narrowedPath(path) ?? [])
  return paths.length > 0 && found.length === paths.length ? found : undefined
}

function methodsOf({ methods }: RequestMatch): readonly string[] | undefined {
  const found = methods.flatMap((method) => (method.kind === 'exact' ? [method.text] : []))
  return methods.length > 0 && found.length === methods.length ? found : undefined
}
