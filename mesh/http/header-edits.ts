// SPDX-License-Identifier: Apache-2.0
// What a route does to the fields of a head, made ready at the time of configuration: which names go, and the bytes that come.

import { HEADER, type HeaderName, headerName } from './header-names.ts'
import { isFieldValue, isToken } from './octets.ts'

export interface NamedValue {
  readonly name: string
  readonly value: string
}

/** As Gateway API's header modifiers have it: `set` replaces, `add` appends, `remove` takes away. */
export interface HeaderChange {
  readonly set?: readonly NamedValue[]
  readonly add?: readonly NamedValue[]
  readonly remove?: readonly string[]
}

/** A change that is ready for use. Made by headerEdits() only. */
export interface HeaderEdits {
  readonly dropped: readonly HeaderName[]
  readonly added: readonly NamedValue[]
  /** The added fields as HTTP/1.1 writes them. */
  readonly lines: Buffer
}

/** Fields that say how the message is framed, where it goes and whom it belongs to on this hop: the codecs' alone. */
const UNTOUCHABLE: ReadonlySet<string> = new Set(
  [
    HEADER.host,
    HEADER.contentLength,
    HEADER.transferEncoding,
    HEADER.connection,
    HEADER.keepAlive,
    HEADER.proxyConnection,
    HEADER.te,
    HEADER.trailer,
    HEADER.upgrade,
    HEADER.expect,
  ].map(({ text }) => text),
)

/** Why a field cannot be changed so; undefined when it can. `value` undefined: it is to be removed. */
export function headerEditProblem(name: string, value?: string): string | undefined {
  if (!isToken(name)) return 'is no name of a header (RFC 9110 5.1)'
  if (UNTOUCHABLE.has(name.toLowerCase()))
    return 'is a header of the framing, which no route changes'
  if (value !== undefined && !isFieldValue(value))
    return 'has a value with characters that no header may have'
  return undefined
}

/**
 * Makes changes ready, one after the other as if each were applied to what the one before left.
 * @throws Error for a field that headerEditProblem() objects to, which is a bug of the caller
 */
export function headerEdits(...changes: readonly HeaderChange[]): HeaderEdits {
  const dropped = new Set<string>()
  let added: NamedValue[] = []
  const drop = (name: string): void => {
    refuseBad(name, undefined)
    dropped.add(name)
    added = added.filter((one) => one.name !== name)
  }
  for (const { set = [], add = [], remove = [] } of changes) {
    for (const name of remove) drop(name.toLowerCase())
    for (const { name, value } of set) {
      drop(name.toLowerCase())
      added.push({ name: name.toLowerCase(), value })
    }
    for (const { name, value } of add) added.push({ name: name.toLowerCase(), value })
  }
  for (const { name, value } of added) refuseBad(name, value)
  return {
    dropped: [...dropped].map(headerName),
    added,
    lines: Buffer.from(added.map(({ name, value }) => `${name}: ${value}\r\n`).join(''), 'latin1'),
  }
}

/** What of a change an answer gets that has nothing to be changed, as pairs. */
export function addedBy(
  edits: HeaderEdits | undefined,
): readonly (readonly [name: string, value: string])[] {
  return edits?.added.map(({ name, value }) => [name, value] as const) ?? []
}

/** Fields as a change leaves them, their names in lower case. For answers of our own: those that are passed on are edited as they are written. */
export function editedPairs(
  fields: readonly (readonly [name: string, value: string])[],
  edits: HeaderEdits | undefined,
): readonly (readonly [name: string, value: string])[] {
  if (edits === undefined) return fields
  const { dropped } = edits
  const kept = fields.filter(([name]) => !dropped.some(({ text }) => text === name))
  return [...kept, ...addedBy(edits)]
}

/**
 * The same changes, with fields of ours beside them that were made for one request and need no check: their names are known and their
 * values of our own making or as they came. Hot: once a traced request.
 */
export function withFields(
  edits: HeaderEdits | undefined,
  dropped: readonly HeaderName[],
  added: readonly NamedValue[],
): HeaderEdits {
  let text = ''
  for (const { name, value } of added) text += `${name}: ${value}\r\n`
  const lines = Buffer.from(text, 'latin1')
  return edits === undefined
    ? { dropped, added, lines }
    : {
        dropped: [...edits.dropped, ...dropped],
        added: [...edits.added, ...added],
        lines: Buffer.concat([edits.lines, lines]),
      }
}

function refuseBad(name: string, value: string | undefined): void {
  const problem = headerEditProblem(name, value)
  if (problem !== undefined) throw new Error(`header ${name} ${problem}`)
}
