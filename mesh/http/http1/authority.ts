// SPDX-License-Identifier: Apache-2.0
// Host and the authority of a target (RFC 9110 7.2, RFC 3986 3.2): host and perhaps port, never a user.

const HOST = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+)(?::[0-9]{0,5})?$/

/** Hosts repeat: those seen last are known to be well formed. */
const seen = new Set<string>()
const MOST_SEEN = 256
const LONGEST_SEEN = 128

/** Whether a text names a host. */
export function isAuthority(text: string): boolean {
  if (seen.has(text)) return true
  if (!HOST.test(text)) return false
  if (text.length > LONGEST_SEEN) return true
  if (seen.size >= MOST_SEEN) seen.clear()
  seen.add(text)
  return true
}

export interface AbsoluteTarget {
  readonly authority: string
  /** From `/` on. */
  readonly target: string
  /** There is neither path nor query: the server as a whole. */
  readonly isBare: boolean
}

/** Takes `http://host:port/path?query` apart; undefined for anything else, a user in it, or a malformed host. */
export function absoluteTarget(text: string): AbsoluteTarget | undefined {
  const [, authority = '', rest = ''] = /^https?:\/\/([^/?]*)(.*)$/is.exec(text) ?? []
  if (!isAuthority(authority)) return undefined
  return { authority, target: rest.startsWith('/') ? rest : `/${rest}`, isBare: rest === '' }
}
