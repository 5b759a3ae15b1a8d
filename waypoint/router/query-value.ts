// SPDX-License-Identifier: Apache-2.0
// A parameter's value in the query of a request, as written: percent-encoding is left as it is, as Envoy leaves it.

/** The value of the first parameter of that name; undefined: there is none. Linear in the query. */
export function queryValue(query: string, name: string): string | undefined {
  for (let at = query.indexOf(name); at >= 0; at = query.indexOf(name, at + 1)) {
    if (at > 0 && query[at - 1] !== '&') continue
    const end = at + name.length
    if (end === query.length || query[end] === '&') return ''
    if (query[end] !== '=') continue
    const next = query.indexOf('&', end)
    return query.slice(end + 1, next < 0 ? query.length : next)
  }
  return undefined
}
