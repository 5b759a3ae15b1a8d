// SPDX-License-Identifier: Apache-2.0
// RequestRedirect: where a client is sent instead (Gateway API, HTTPRequestRedirectFilter). What the filter does not name stays as the
// client had it.

import type { HttpFilter } from '../../mesh/model/http-routes.ts'
import { editPath, isWholeServer } from './edit-path.ts'

export type RedirectFilter = Extract<HttpFilter, { readonly kind: 'redirect' }>

/** What of a request counts. In the mesh requests are of the scheme http: TLS is the tunnel's. */
export interface RedirectedRequest {
  readonly authority: string
  readonly path: string
  readonly query: string
  /** The prefix that the path was matched by, without trailing slash. */
  readonly matched: string
}

const DEFAULT_PORTS: Readonly<Record<string, number>> = { http: 80, https: 443 }

/** The answer's Location. */
export function redirectLocation(filter: RedirectFilter, request: RedirectedRequest): string {
  const { authority, path, query, matched } = request
  const target = isWholeServer(path) ? '' : targetOf(filter, { path, query, matched })
  const asked = splitAuthority(authority)
  const host = filter.hostname ?? asked.host
  // HTTP/1.0 may name no host; then a reference without one says the same.
  if (host === '') return target === '' ? '/' : target
  const scheme = filter.scheme ?? 'http'
  const port = filter.port ?? (filter.scheme === undefined ? asked.port : undefined)
  const shown = port === undefined || port === DEFAULT_PORTS[scheme] ? '' : `:${port}`
  return `${scheme}://${host}${shown}${target}`
}

function targetOf(
  { path: edit }: RedirectFilter,
  { path, query, matched }: Omit<RedirectedRequest, 'authority'>,
): string {
  const edited = edit === undefined ? path : editPath(edit, path, matched)
  return query === '' ? edited : `${edited}?${query}`
}

function splitAuthority(authority: string): { host: string; port: number | undefined } {
  // RFC 3986 3.2.3: a port may be empty, and then says nothing.
  const [, host = authority, port = ''] = /^(.*?)(?::(\d{0,5}))?$/.exec(authority) ?? []
  return { host, port: port === '' ? undefined : Number(port) }
}
