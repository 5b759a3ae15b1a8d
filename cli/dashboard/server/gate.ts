// SPDX-License-Identifier: Apache-2.0
// Who may see the dashboard: whoever has the URL that the command printed, in a browser that was not led here by a page of somebody else's.
// Any process and any web page of the machine can reach a port on loopback, so being there proves nothing.

import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'

/** By which a request got in, or why it did not. */
export type Entry =
  | { readonly kind: 'welcome' }
  /** It has the token in its URL: it gets the cookie, and the URL without. */
  | { readonly kind: 'arrival' }
  | { readonly kind: 'refused'; readonly reason: string }

export interface Visit {
  readonly method: string
  readonly headers: IncomingHttpHeaders
  readonly urlToken: string | undefined
}

export interface Gate {
  readonly judge: (visit: Visit) => Entry
  /** The value of Set-Cookie: for this browser alone, unseen by scripts, never sent along with another site's requests. */
  readonly cookie: string
}

const READING: ReadonlySet<string> = new Set(['GET', 'HEAD'])

/** The gate of the server on this port of 127.0.0.1. */
export function createGate(token: string, port: number): Gate {
  // Cookies know no ports: several dashboards share the host.
  const cookieName = `ambit_dashboard_${port.toString()}`
  const authorities = new Set([`127.0.0.1:${port.toString()}`, `localhost:${port.toString()}`])
  const judge = ({ method, headers, urlToken }: Visit): Entry => {
    const refuse = (reason: string): Entry => ({ kind: 'refused', reason })
    // A name of somebody's that was turned to 127.0.0.1 (DNS rebinding) stands in Host.
    if (!authorities.has(headers.host ?? '')) return refuse('the Host header must name loopback')
    if (!READING.has(method)) return refuse('nothing can be changed here')
    const { origin } = headers
    if (origin !== undefined && origin !== `http://${headers.host ?? ''}`)
      return refuse('another site asks')
    const site = headers['sec-fetch-site']
    if (site !== undefined && site !== 'same-origin' && site !== 'none')
      return refuse('another site asks')
    if (urlToken !== undefined)
      return isSame(urlToken, token)
        ? { kind: 'arrival' }
        : refuse('the token is not that of this dashboard: open the URL that the command printed')
    if (isSame(cookieOf(headers.cookie, cookieName), token)) return { kind: 'welcome' }
    return refuse('open the URL that `ambit dashboard` printed')
  }
  return { judge, cookie: `${cookieName}=${token}; HttpOnly; SameSite=Strict; Path=/` }
}

function cookieOf(header: string | undefined, name: string): string {
  for (const pair of (header ?? '').split(';')) {
    const at = pair.indexOf('=')
    if (pair.slice(0, at).trim() === name) return pair.slice(at + 1).trim()
  }
  return ''
}

/** In a time that does not tell how much of it was right. */
function isSame(given: string, token: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(token))
}
