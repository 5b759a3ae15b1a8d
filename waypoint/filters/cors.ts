// SPDX-License-Identifier: Apache-2.0
// CORS: which pages of other origins may read answers, and the answer to a browser's question before it asks (Fetch, 3.2; Gateway API,
// HTTPCORSFilter). A preflight is answered here whether or not the origin is allowed: the app is asked by none. A request of an origin
// that is not allowed goes on, and its answer allows nobody.

import { headerName } from '../../mesh/http/header-names.ts'
import type { Fields } from '../../mesh/http/message.ts'
import type { HttpFilter } from '../../mesh/model/http-routes.ts'

export type CorsFilter = Extract<HttpFilter, { readonly kind: 'cors' }>

type Header = readonly [name: string, value: string]

const ORIGIN = headerName('origin')
const ASKED_METHOD = headerName('access-control-request-method')
const ASKED_HEADERS = headerName('access-control-request-headers')
const ALL = '*'

/** Whether a request asks in a browser's name what another one would be allowed. */
export function isPreflight(method: string, fields: Fields): boolean {
  return (
    method === 'OPTIONS' &&
    fields.value(ORIGIN) !== undefined &&
    fields.value(ASKED_METHOD) !== undefined
  )
}

/** The fields of the answer to a preflight. */
export function preflightHeaders(filter: CorsFilter, fields: Fields): readonly Header[] {
  const headers: Header[] = [...allowance(filter, fields)]
  if (headers.length === 0) return headers
  const { allowMethods, allowHeaders, allowCredentials, maxAgeSeconds } = filter
  const listed = (name: string, allowed: readonly string[], asked: string | undefined): void => {
    // With credentials `*` is but a name to browsers: what they ask for is said instead.
    const list = allowed.includes(ALL) ? (allowCredentials ? asked : ALL) : allowed.join(', ')
    if (list !== undefined && list !== '') headers.push([name, list])
  }
  listed('access-control-allow-methods', allowMethods, fields.value(ASKED_METHOD))
  listed('access-control-allow-headers', allowHeaders, fields.joined(ASKED_HEADERS))
  headers.push(['access-control-max-age', String(maxAgeSeconds)])
  return headers
}

/** The fields that the answer to a request has on top; none where its origin is not allowed, or there is none. */
export function answerHeaders(filter: CorsFilter, fields: Fields): readonly Header[] {
  const allowed = allowance(filter, fields)
  const { allowCredentials, exposeHeaders } = filter
  // With credentials `*` would be but the name of a header, and which headers there will be nobody knows yet.
  const exposed = allowCredentials ? exposeHeaders.filter((name) => name !== ALL) : exposeHeaders
  if (allowed.length === 0 || exposed.length === 0) return allowed
  return [...allowed, ['access-control-expose-headers', exposed.join(', ')]]
}

function allowance(filter: CorsFilter, fields: Fields): readonly Header[] {
  const origin = fields.value(ORIGIN)
  if (origin === undefined || !filter.allowOrigins.some((each) => isOrigin(each, origin))) return []
  if (filter.allowCredentials)
    return [
      ['access-control-allow-origin', origin],
      ['access-control-allow-credentials', 'true'],
      ['vary', 'Origin'],
    ]
  if (filter.allowOrigins.includes(ALL)) return [['access-control-allow-origin', ALL]]
  return [
    ['access-control-allow-origin', origin],
    ['vary', 'Origin'],
  ]
}

/** A port that its scheme has anyway: browsers do not write it. */
const OWN_PORT = /^(?:(http:.*):80|(https:.*):443)$/

/**
 * Origins are compared as browsers write them: scheme and host in lower case, and no port that goes without saying. `*` stands for labels
 * of the host.
 */
function isOrigin(allowed: string, asked: string): boolean {
  if (allowed === ALL) return true
  const pattern = withoutOwnPort(allowed.toLowerCase())
  const origin = withoutOwnPort(asked)
  const star = pattern.indexOf(ALL)
  if (star < 0) return pattern === origin
  const end = pattern.length - star - 1
  const labels = origin.slice(star, origin.length - end)
  return (
    origin.length > pattern.length - 1 &&
    origin.startsWith(pattern.slice(0, star)) &&
    origin.endsWith(pattern.slice(star + 1)) &&
    /^[a-z0-9.-]+$/.test(labels)
  )
}

function withoutOwnPort(origin: string): string {
  return origin.replace(OWN_PORT, '$1$2')
}
