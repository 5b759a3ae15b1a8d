// SPDX-License-Identifier: Apache-2.0
// What the fields of one hop say: Connection and the fields it nominates, Upgrade, TE (RFC 9110 7.6.1, 7.8, 10.1.4).

import { HEADER, type HeaderName } from '../header-names.ts'
import { isToken } from '../octets.ts'
import type { HeaderBlock } from './header-block.ts'

export interface ConnectionOptions {
  readonly isClose: boolean
  readonly isKeepAlive: boolean
  readonly isUpgrade: boolean
  /** Names of fields that go no further, beyond those that never do. */
  readonly nominated: readonly string[]
}

export const NO_OPTIONS: ConnectionOptions = {
  isClose: false,
  isKeepAlive: false,
  isUpgrade: false,
  nominated: [],
}
const CLOSE: ConnectionOptions = { ...NO_OPTIONS, isClose: true }
const KEEP_ALIVE: ConnectionOptions = { ...NO_OPTIONS, isKeepAlive: true }

/**
 * Fields that are for the far end whatever Connection says: to nominate them is to hide from a backend what this waypoint has decided
 * by, or who the client is.
 */
const END_TO_END: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'content-type',
  'content-encoding',
  'transfer-encoding',
  'authorization',
  'cookie',
  'set-cookie',
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-forwarded-client-cert',
  'x-real-ip',
  'x-request-id',
  'traceparent',
  'tracestate',
  'baggage',
  'origin',
])

/** Tokens that are no names of fields to be removed: they have their own meaning. */
const OWN_MEANING: ReadonlySet<string> = new Set(['close', 'keep-alive', 'upgrade', 'te'])

/** Reads Connection; undefined when it is no list of tokens. */
export function connectionOptions(block: HeaderBlock): ConnectionOptions | undefined {
  const text = block.joined(HEADER.connection)?.toLowerCase()
  if (text === undefined) return NO_OPTIONS
  if (text === 'close') return CLOSE
  if (text === 'keep-alive') return KEEP_ALIVE
  const tokens = listOf(text)
  if (!tokens.every(isToken)) return undefined
  return {
    isClose: tokens.includes('close'),
    isKeepAlive: tokens.includes('keep-alive'),
    isUpgrade: tokens.includes('upgrade'),
    nominated: tokens.filter((token) => !OWN_MEANING.has(token) && !END_TO_END.has(token)),
  }
}

/** Whether a list field has that token, in any case. */
export function hasToken(block: HeaderBlock, name: HeaderName, token: string): boolean {
  const text = block.joined(name)
  return text !== undefined && listOf(text.toLowerCase()).includes(token)
}

/** RFC 9110 5.6.1.2: empty elements count for nothing. */
function listOf(text: string): string[] {
  return text
    .split(',')
    .map((element) => element.trim())
    .filter((element) => element !== '')
}
