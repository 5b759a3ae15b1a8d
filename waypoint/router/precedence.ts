// SPDX-License-Identifier: Apache-2.0
// Which match a request falls under when several are true of it: Gateway API, HTTPRouteRule.matches. Exact paths, then longer prefixes,
// then (left to the implementation) regular expressions, the longer text first; then those of a method, of more headers, of more
// query parameters; then as given. What says nothing of the path comes after all that does, expressions as well: a GRPCRoute's match of a
// method alone is one, and goes before any number of headers (GRPCRouteRule.matches).

import type { HttpMatch, PathMatch } from '../../mesh/model/http-routes.ts'

/** Negative: the left one goes first. 0: the one that was given first does. */
export function compareMatches(left: HttpMatch, right: HttpMatch): number {
  return (
    classOf(left) - classOf(right) ||
    lengthOf(right.path) - lengthOf(left.path) ||
    Number(left.method === undefined) - Number(right.method === undefined) ||
    right.headers.length - left.headers.length ||
    right.queryParams.length - left.queryParams.length
  )
}

/** Whether a match says nothing of the path. */
export function takesAnyPath({ kind, value }: PathMatch): boolean {
  return kind === 'prefix' && prefixOf(value) === ''
}

/** A prefix without its trailing slash, which says nothing: by segments `/a/` is `/a`, and `/` the beginning of all. */
export function prefixOf(value: string): string {
  return value.endsWith('/') ? value.slice(0, -1) : value
}

function classOf({ path }: HttpMatch): number {
  switch (path.kind) {
    case 'exact':
      return 0
    case 'prefix':
      return takesAnyPath(path) ? 3 : 1
    case 'regex':
      return 2
  }
}

function lengthOf({ kind, value }: PathMatch): number {
  return kind === 'prefix' ? prefixOf(value).length : value.length
}
