// SPDX-License-Identifier: Apache-2.0
// The witness: routes as the Gateway API words them, rule by rule and match by match, without any index.

import type { HttpMatch, HttpRule, NamedMatch, PathMatch } from '../../../mesh/model/http-routes.ts'

export interface PlainRequest {
  readonly method: string
  readonly path: string
  readonly params: readonly (readonly [name: string, value: string])[]
  readonly headers: readonly (readonly [name: string, value: string])[]
}

/** The rule's and match's places that a request falls under; undefined: none. */
export function naiveMatch(
  rules: readonly HttpRule[],
  request: PlainRequest,
): { rule: HttpRule; match: HttpMatch } | undefined {
  let best: { rule: HttpRule; match: HttpMatch } | undefined
  for (const rule of rules)
    for (const match of rule.matches)
      if (isTrue(match, request) && (best === undefined || goesBefore(match, best.match)))
        best = { rule, match }
  return best
}

function isTrue(match: HttpMatch, { method, path, params, headers }: PlainRequest): boolean {
  const named = (
    { name, match: { kind, value } }: NamedMatch,
    present: readonly (readonly [string, string])[],
  ): boolean => {
    const found = present.find(([each]) => each === name)
    if (found === undefined) return false
    return kind === 'exact' ? found[1] === value : new RegExp(`^(?:${value})$`).test(found[1])
  }
  return (
    isTrueOfPath(match.path, path) &&
    (match.method === undefined || match.method === method) &&
    match.headers.every((header) => named(header, headers)) &&
    match.queryParams.every((param) => named(param, params))
  )
}

function isTrueOfPath({ kind, value }: PathMatch, path: string): boolean {
  if (kind === 'exact') return path === value
  if (kind === 'regex') return new RegExp(`^(?:${value})$`).test(path)
  const wanted = value.split('/').slice(1)
  if (wanted.at(-1) === '') wanted.pop()
  const segments = path.split('/').slice(1)
  return wanted.every((segment, place) => segments[place] === segment)
}

function goesBefore(match: HttpMatch, other: HttpMatch): boolean {
  const marks = (each: HttpMatch): readonly number[] => {
    const isOfAnyPath = each.path.kind === 'prefix' && each.path.value === '/'
    return [
      isOfAnyPath ? 0 : { exact: 3, prefix: 2, regex: 1 }[each.path.kind],
      each.path.kind === 'prefix'
        ? each.path.value.replace(/\/$/, '').length
        : each.path.value.length,
      each.method === undefined ? 0 : 1,
      each.headers.length,
      each.queryParams.length,
    ]
  }
  const theirs = marks(other)
  for (const [place, mark] of marks(match).entries()) {
    const difference = mark - (theirs[place] ?? 0)
    if (difference !== 0) return difference > 0
  }
  return false
}
