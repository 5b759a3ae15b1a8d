// SPDX-License-Identifier: Apache-2.0
// The `forwarded` header of HBONE (RFC 7239): the client's address, and the service it called, for telemetry only.
// Hot: written and read once per tunnel, so it is scanned by hand.

import { formatSocketAddress, parseSocketAddress } from '../model/address.ts'
import type { SocketAddress } from '../model/types.ts'

export interface Forwarded {
  readonly for?: SocketAddress | undefined
  /** The service's hostname, when a service was addressed. */
  readonly host?: string | undefined
}

/** The longest header that is read; what is longer is not from a mesh peer. */
const LONGEST_FORWARDED = 1024
/** RFC 1035 2.3.4, without the root's dot. */
const LONGEST_HOST = 253

/**
 * Writes the header value; a host that is no host name is left out.
 *
 * @example formatForwarded({ for: { address: '10.1.2.3', port: 4 }, host: 'catalog.shop.svc.cluster.local' })
 * // 'for="10.1.2.3:4";host=catalog.shop.svc.cluster.local'
 */
export function formatForwarded({ for: client, host }: Forwarded): string {
  const by = client === undefined ? '' : `for="${formatSocketAddress(client)}"`
  if (host === undefined || !isHostName(host)) return by
  return by === '' ? `host=${host}` : `${by};host=${host}`
}

/**
 * Reads the first element of the header, `name=value` pairs joined by semicolons, values as tokens or quoted. What is malformed,
 * and all that follows it, is as if it were absent; of equal names the first counts.
 */
export function parseForwarded(header: string): Forwarded {
  if (header.length > LONGEST_FORWARDED) return {}
  const found: { for?: string; host?: string } = {}
  for (let at = 0; at < header.length; at += 1) {
    const equals = header.indexOf('=', at)
    if (equals < 0) break
    const name = header.slice(at, equals).trim().toLowerCase()
    if (!isToken(name)) break
    const value = readValue(header, equals + 1)
    if (value === undefined) break
    if (name === 'for' || name === 'host') found[name] ??= value.text
    at = skipBlanks(header, value.end)
    // A comma ends the element; anything but a semicolon is malformed.
    if (header[at] !== ';') break
  }
  const client = found.for === undefined ? undefined : parseSocketAddress(found.for)
  return {
    ...(client !== undefined && { for: client }),
    ...(found.host !== undefined && isHostName(found.host) && { host: found.host }),
  }
}

interface Value {
  readonly text: string
  /** Where the header goes on. */
  readonly end: number
}

function readValue(header: string, start: number): Value | undefined {
  if (header[start] === '"') return readQuoted(header, start + 1)
  let end = start
  while (end < header.length && isTokenCode(header.charCodeAt(end))) end += 1
  return { text: header.slice(start, end), end }
}

/** RFC 9110 5.6.4: a backslash stands for the character after it. */
function readQuoted(header: string, start: number): Value | undefined {
  const close = header.indexOf('"', start)
  if (close < 0) return undefined
  const escape = header.indexOf('\\', start)
  if (escape < 0 || escape > close) return { text: header.slice(start, close), end: close + 1 }
  let text = ''
  for (let at = start; at < header.length; at += 1) {
    const character = header[at]
    if (character === '"') return { text, end: at + 1 }
    if (character === '\\') at += 1
    text += header[at] ?? ''
  }
  return undefined
}

function skipBlanks(header: string, start: number): number {
  let at = start
  while (header[at] === ' ' || header[at] === '\t') at += 1
  return at
}

function isToken(text: string): boolean {
  for (let at = 0; at < text.length; at += 1) if (!isTokenCode(text.charCodeAt(at))) return false
  return text !== ''
}

/** What may stand in a value without quotes; wider than RFC 9110's token, since peers write addresses bare, too. */
function isTokenCode(code: number): boolean {
  return code > 0x20 && code < 0x7f && code !== 0x22 && code !== 0x2c && code !== 0x3b
}

function isHostName(text: string): boolean {
  if (text === '' || text.length > LONGEST_HOST) return false
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    const isLetter = (code | 0x20) >= 0x61 && (code | 0x20) <= 0x7a
    const isDigit = code >= 0x30 && code <= 0x39
    // Dot, dash, underscore: names of Kubernetes and of DNS.
    if (!isLetter && !isDigit && code !== 0x2d && code !== 0x2e && code !== 0x5f) return false
  }
  return true
}
