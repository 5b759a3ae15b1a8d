// SPDX-License-Identifier: Apache-2.0
// The `forwarded` header of HBONE (RFC 7239): the client's address, and the service it called, for telemetry only.

import { isIP, isIPv6 } from 'node:net'
import type { IpAddress, SocketAddress } from '../model/types.ts'

export interface Forwarded {
  readonly for?: SocketAddress
  /** The service's hostname, when a service was addressed. */
  readonly host?: string
}

/** The longest header that is read; what is longer is not from a mesh peer. */
const LONGEST_FORWARDED = 1024
const HOST = /^[A-Za-z0-9._-]{1,253}$/
/** One `name=value` of an element; the value is a token or a quoted string. */
const PAIR = /\s*([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*(?:;|$)/y

/**
 * Writes the header value.
 *
 * @example formatForwarded({ for: { address: '10.1.2.3', port: 4 }, host: 'catalog.shop.svc.cluster.local' })
 * // 'for="10.1.2.3:4";host=catalog.shop.svc.cluster.local'
 */
export function formatForwarded(forwarded: Forwarded): string {
  const pairs: string[] = []
  if (forwarded.for) {
    const { address, port } = forwarded.for
    pairs.push(`for="${isIPv6(address) ? `[${address}]` : address}:${port}"`)
  }
  if (forwarded.host !== undefined && HOST.test(forwarded.host))
    pairs.push(`host=${forwarded.host}`)
  return pairs.join(';')
}

/** Reads the first element of the header; what is malformed is as if it were absent. */
export function parseForwarded(header: string): Forwarded {
  if (header.length > LONGEST_FORWARDED) return {}
  const element = firstElement(header)
  const found = new Map<string, string>()
  PAIR.lastIndex = 0
  for (let match = PAIR.exec(element); match !== null; match = PAIR.exec(element)) {
    const name = match[1]?.toLowerCase() ?? ''
    const value = match[2]?.replaceAll(/\\(.)/g, '$1') ?? match[3] ?? ''
    if (!found.has(name)) found.set(name, value)
    if (PAIR.lastIndex >= element.length) break
  }
  const client = socketAddressOf(found.get('for') ?? '')
  const host = found.get('host') ?? ''
  return { ...(client && { for: client }), ...(HOST.test(host) && { host }) }
}

/** Up to the first comma outside of quotes. */
function firstElement(header: string): string {
  let isQuoted = false
  for (let at = 0; at < header.length; at += 1) {
    const character = header[at]
    if (character === '\\' && isQuoted) at += 1
    else if (character === '"') isQuoted = !isQuoted
    else if (character === ',' && !isQuoted) return header.slice(0, at)
  }
  return header
}

function socketAddressOf(text: string): SocketAddress | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text)
  const address = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (address === undefined || isIP(address) === 0 || port > 65_535) return undefined
  if (isIPv6(address) !== (match?.[1] !== undefined)) return undefined
  return { address: address.toLowerCase() as IpAddress, port }
}
