// SPDX-License-Identifier: Apache-2.0
// Which fields of a message go on to the next hop, whichever versions of HTTP the two hops speak: not those that are about the hop it
// came by, and with what a route changes. Codecs of the same version copy lines instead, and must leave out the same.

import type { HeaderEdits } from './header-edits.ts'
import { HEADER, type HeaderName } from './header-names.ts'
import type { Fields, Framing } from './message.ts'

/** Written anew by each hop, or of no use beyond it (RFC 9110 7.6.1, RFC 9113 8.2.2). */
export const OF_THE_HOP: readonly HeaderName[] = [
  HEADER.connection,
  HEADER.keepAlive,
  HEADER.proxyConnection,
  HEADER.te,
  HEADER.upgrade,
  HEADER.transferEncoding,
]

/** They frame, route, authenticate or describe what is already under way (RFC 9110 6.5.1). */
const NEVER_IN_TRAILERS: readonly HeaderName[] = Object.values(HEADER).filter(
  ({ text }) => text !== 'date',
)

const leftHere: ReadonlySet<string> = new Set([...OF_THE_HOP, HEADER.host].map(({ text }) => text))
const noTrailers: ReadonlySet<string> = new Set(NEVER_IN_TRAILERS.map(({ text }) => text))

/** Shows the fields that go on, without those that say where a request goes. Names are in lower case. */
export function eachPassing(
  head: Fields & Framing,
  edits: HeaderEdits | undefined,
  visit: (name: string, value: string) => void,
): void {
  const { nominated } = head
  let hasCookie = false
  head.each((name, value) => {
    if (leftHere.has(name) || nominated.includes(name)) return
    if (edits?.dropped.some(({ text }) => text === name) === true) return
    if (name !== 'cookie') return visit(name, value)
    // RFC 9113 8.2.3: HTTP/2 may have cut it in pieces, HTTP/1.1 must have it whole.
    if (!hasCookie) visit(name, head.joined(HEADER.cookie) ?? value)
    hasCookie = true
  })
  if (edits !== undefined) for (const { name, value } of edits.added) visit(name, value)
}

/** Shows the fields after a body that may go on. */
export function eachPassingTrailer(
  trailers: Fields,
  visit: (name: string, value: string) => void,
): void {
  trailers.each((name, value) => {
    if (!noTrailers.has(name)) visit(name, value)
  })
}
