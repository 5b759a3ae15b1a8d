// SPDX-License-Identifier: Apache-2.0
// The routes of one port of a Service, compiled: which rule a request falls under. A table never changes; a change of routes is another
// table, put in the place of the first between two requests.

import type { Fields } from '../../mesh/http/message.ts'
import type { HttpMatch, HttpRule, NamedMatch } from '../../mesh/model/http-routes.ts'
import type { Candidate, ExactTest } from './candidate.ts'
import { CandidateSet } from './candidate-set.ts'
import { PathTrie } from './path-trie.ts'
import { withUpperCaseEscapes } from './normalise-path.ts'
import { asHeadsShow, compilePattern, type Pattern } from './pattern.ts'
import type { PatternMemory } from './pattern-memory.ts'
import { type PatternCandidate, PatternRoutes } from './pattern-routes.ts'
import { compareMatches, prefixOf, takesAnyPath } from './precedence.ts'
import { RequestFields } from './request-fields.ts'
import type { RoutedRequest, RouteHit } from './types.ts'

export class RouteTable {
  /** What could not be compiled, rule by rule; such a match is never true. */
  readonly problems: readonly string[]
  readonly #fields: RequestFields
  readonly #paths: PathTrie<CandidateSet>
  readonly #patterns: PatternRoutes
  /** Those that say nothing of the path. */
  readonly #anyPath: CandidateSet

  /** @param rules As HttpRoutes has them. */
  constructor(rules: readonly HttpRule[], memory: PatternMemory) {
    const maker = new CandidateMaker(memory)
    const exact = new Map<string, Candidate[]>()
    const prefixes = new Map<string, Candidate[]>()
    const patterns: PatternCandidate[] = []
    const anyPath: Candidate[] = []
    for (const [rank, hit] of inPrecedence(rules).entries()) {
      const candidate = maker.make(rank, hit)
      if (candidate === undefined) continue
      const { kind, value } = hit.match.path
      if (takesAnyPath(hit.match.path)) anyPath.push(candidate)
      else if (kind === 'regex') {
        const path = maker.pattern(value, hit)
        if (path !== undefined) patterns.push({ ...candidate, path })
      } else if (kind === 'exact') file(exact, withUpperCaseEscapes(value), candidate)
      else file(prefixes, withUpperCaseEscapes(prefixOf(value)), candidate)
    }
    this.#paths = new PathTrie(setsOf(exact), setsOf(prefixes))
    this.#patterns = new PatternRoutes(patterns)
    this.#anyPath = new CandidateSet(anyPath)
    this.#fields = maker.fields
    this.problems = maker.problems
  }

  /** The rule that a request falls under; undefined: none. Hot: once a request; the bench `router` watches it. */
  match(request: RoutedRequest, headers: Fields): RouteHit | undefined {
    this.#fields.begin(headers, request.query)
    const { method, path } = request
    const found =
      this.#byPath(request) ??
      this.#patterns.first(path, method, this.#fields) ??
      this.#anyPath.first(method, this.#fields)
    this.#fields.end()
    return found?.hit
  }

  #byPath({ method, path }: RoutedRequest): Candidate | undefined {
    const { exact, prefix } = this.#paths.find(path)
    const found = exact?.first(method, this.#fields)
    if (found !== undefined) return found
    for (let longest = prefix; longest !== undefined; longest = longest.shorter) {
      const under = longest.held.first(method, this.#fields)
      if (under !== undefined) return under
    }
    return undefined
  }
}

/** All matches of all rules, the one that goes first of all at the head. */
function inPrecedence(rules: readonly HttpRule[]): readonly RouteHit[] {
  // Sorting is stable: what nothing else tells apart stays as given.
  return rules
    .flatMap((rule) => rule.matches.map((match) => ({ rule, match })))
    .sort((left, right) => compareMatches(left.match, right.match))
}

function file(byPath: Map<string, Candidate[]>, path: string, candidate: Candidate): void {
  const filed = byPath.get(path)
  if (filed === undefined) byPath.set(path, [candidate])
  else filed.push(candidate)
}

function setsOf(byPath: ReadonlyMap<string, readonly Candidate[]>): Map<string, CandidateSet> {
  return new Map([...byPath].map(([path, candidates]) => [path, new CandidateSet(candidates)]))
}

/** Compiles matches; gathers the fields that they ask about, and what is wrong with them. */
class CandidateMaker {
  readonly fields = new RequestFields()
  readonly problems: string[] = []
  readonly #memory: PatternMemory
  /** By their text: routes repeat them. */
  readonly #patterns = new Map<string, Pattern>()

  constructor(memory: PatternMemory) {
    this.#memory = memory
  }

  make(rank: number, hit: RouteHit): Candidate | undefined {
    const { method, headers, queryParams }: HttpMatch = hit.match
    const exact: ExactTest[] = []
    const patterns: { field: number; pattern: Pattern }[] = []
    const add = (field: number, { match }: NamedMatch): boolean => {
      if (match.kind === 'exact') {
        exact.push({ field, value: asHeadsShow(match.value) })
        return true
      }
      const pattern = this.pattern(match.value, hit)
      if (pattern !== undefined) patterns.push({ field, pattern })
      return pattern !== undefined
    }
    for (const header of headers)
      if (!add(this.fields.header(header.name), header)) return undefined
    for (const param of queryParams)
      if (!add(this.fields.query(param.name), param)) return undefined
    return { rank, hit, method, exact, patterns }
  }

  pattern(source: string, { rule: { route } }: RouteHit): Pattern | undefined {
    const known = this.#patterns.get(source)
    if (known !== undefined) return known
    const compiled = compilePattern(source, this.#memory)
    if (compiled.ok) {
      this.#patterns.set(source, compiled.value)
      return compiled.value
    }
    this.problems.push(
      `${route.kind} ${route.namespace}/${route.name}, rule ${route.rule}: the regular expression ${JSON.stringify(source)}: ${compiled.error}`,
    )
    return undefined
  }
}
