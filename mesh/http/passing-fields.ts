// SPDX-License-Identifier: Apache-2.0
// Which fields of a message go on to the next hop, whichever versions of HTTP the two hops speak: not those that are about the hop it
// came by, and with what a route changes. Codecs of the same version copy lines instead, and must leave out the same.

import { type Field, FieldList } from './field-list.ts'
import type { HeaderEdits } from './header-edits.ts'
import { HEADER, type HeaderName } from './header-names.ts'
import type { Fields, Framing, ResponseHead } from './message.ts'

/**
 * Written anew by each hop, or of no use beyond it (RFC 9110 7.6.1, RFC 9113 8.2.2). And what Envoy writes of the client's certificate: an app that
 * knows it from a sidecar believes it, so no client may write it itself.
 */
export const OF_THE_HOP: readonly HeaderName[] = [
  HEADER.connection,
  HEADER.keepAlive,
  HEADER.proxyConnection,
  HEADER.te,
  HEADER.upgrade,
  HEADER.transferEncoding,
  HEADER.forwardedClientCert,
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
  const dropped = edits?.dropped ?? NOBODY
  let hasCookie = false
  head.each((name, value) => {
    if (!goesOn(name, nominated, dropped)) return
    if (name !== 'cookie') return visit(name, value)
    // RFC 9113 8.2.3: HTTP/2 may have cut it in pieces, HTTP/1.1 must have it whole.
    if (!hasCookie) visit(name, head.joined(HEADER.cookie) ?? value)
    hasCookie = true
  })
  if (edits !== undefined) for (const { name, value } of edits.added) visit(name, value)
}

/** The same, added to a list; a field that passes as it is stays the same pair. Hot: once a request and once an answer of HTTP/2. */
export function addPassing(
  fields: Field[],
  head: Fields & Framing,
  edits: HeaderEdits | undefined,
): void {
  if (!(head instanceof FieldList))
    return eachPassing(head, edits, (name, value) => void fields.push([name, value]))
  const { nominated, fields: all } = head
  const dropped = edits?.dropped ?? NOBODY
  let hasCookie = false
  for (let at = 0; at < all.length; at += 1) {
    const field = all[at]
    if (field === undefined || !goesOn(field[0], nominated, dropped)) continue
    if (field[0] !== 'cookie') fields.push(field)
    else if (!hasCookie) {
      fields.push(['cookie', head.joined(HEADER.cookie) ?? field[1]])
      hasCookie = true
    }
  }
  if (edits !== undefined) for (const { name, value } of edits.added) fields.push([name, value])
}

const NOBODY: readonly HeaderName[] = []

function goesOn(
  name: string,
  nominated: readonly string[],
  dropped: readonly HeaderName[],
): boolean {
  if (leftHere.has(name)) return false
  if (nominated.length > 0 && nominated.includes(name)) return false
  for (let at = 0; at < dropped.length; at += 1) if (dropped[at]?.text === name) return false
  return true
}

/**
 * Whether an answer without Date is to get one: who passes on a final answer says when it came (RFC 9110 6.6.1), unless its route says, or
 * wants none.
 */
export function lacksDate({ status }: ResponseHead, edits: HeaderEdits | undefined): boolean {
  if (status < 200) return false
  const { text } = HEADER.date
  return (
    edits?.dropped.some((name) => name.text === text) !== true &&
    edits?.added.some(({ name }) => name === text) !== true
  )
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
