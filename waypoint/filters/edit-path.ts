// SPDX-License-Identifier: Apache-2.0
// Another path in place of a request's: the whole, or that part of it by which its route was found (Gateway API, HTTPPathModifier).

import type { PathEdit } from '../../mesh/model/http-routes.ts'

/** What OPTIONS asks about as a whole, `*`, is no path, and stays what it is. */
export function isWholeServer(path: string): boolean {
  return path === '*'
}

/** @param matched The prefix that the path was matched by, without trailing slash. */
export function editPath({ kind, value }: PathEdit, path: string, matched: string): string {
  if (kind === 'full') return rooted(value)
  const prefix = value.endsWith('/') ? value.slice(0, -1) : value
  return rooted(prefix + path.slice(matched.length))
}

/** RFC 3986 3.3: beside a host a path begins with a slash. Without it `.evil` would be the end of a redirect's host, and `x` no target. */
function rooted(path: string): string {
  return path.startsWith('/') ? path : `/${path}`
}
