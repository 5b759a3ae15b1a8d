// SPDX-License-Identifier: Apache-2.0
// The field of a CONNECT by which somebody says for whom he calls: `<SPIFFE ID>;<address>`, without the first where nobody has proven one. It
// is a claim: a pod's agent believes it of the waypoint that the pod is bound to, and that waypoint of the pod's agent, which leads
// back to it what had come past it; nobody believes it of others.

import { parseSpiffeId } from '../identity/spiffe.ts'
import { parseIpAddress } from '../model/address.ts'
import type { IpAddress, SpiffeId } from '../model/types.ts'

/** The field's name. Ours: other meshes do not have it, and take no notice of it. */
export const ORIGINAL_CLIENT = 'x-ambit-original-client'

export interface OriginalClient {
  /** undefined: it called in plaintext. */
  readonly identity: SpiffeId | undefined
  readonly address: IpAddress
}

/** Of the longest identity and address; what is longer is not from a waypoint. */
const LONGEST = 1024

/**
 * Writes the field's value.
 *
 * @example formatOriginalClient({ identity: 'spiffe://cluster.local/ns/shop/sa/web', address: '10.1.2.3' })
 * // 'spiffe://cluster.local/ns/shop/sa/web;10.1.2.3'
 */
export function formatOriginalClient({ identity, address }: OriginalClient): string {
  return `${identity ?? ''};${address}`
}

/** Reads the field's value; undefined for anything that is not exactly of that form. */
export function parseOriginalClient(value: string): OriginalClient | undefined {
  if (value.length > LONGEST) return undefined
  const semicolon = value.indexOf(';')
  if (semicolon < 0) return undefined
  const address = parseIpAddress(value.slice(semicolon + 1))
  if (address === undefined) return undefined
  if (semicolon === 0) return { identity: undefined, address }
  const parsed = parseSpiffeId(value.slice(0, semicolon))
  return parsed && { identity: parsed.id, address }
}
