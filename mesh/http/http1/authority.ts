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
  readonly isSecure: boolean
  readonly authority: string
  /** From `/` on. */
  readonly target: string
  /** There is neither path nor query: the server as a whole. */
  readonly isBare: boolean
}

/** Takes `http://host:port/path?query` apart; undefined for anything else, a user in it, or a malformed host. */
export function absoluteTarget(text: string): AbsoluteTarget | undefined {
  const [, secure = '', authority = '', rest = ''] =
    /^http(s?):\/\/([^/?]*)(.*)$/is.exec(text) ?? []
  if (!isAuthority(authority)) return undefined
  const target = rest.startsWith('/') ? rest : `/${rest}`
  return { isSecure: secure !== '', authority, target, isBare: rest === '' }
}

/** Whether Host names the server that the target does: in any case, and with the port of its scheme or without (RFC 9110 4.2.3). */
export function isSameAuthority(host: string, { authority, isSecure }: AbsoluteTarget): boolean {
  const ownPort = isSecure ? /:(?:443)?$/ : /:(?:80)?$/
  const plain = (text: string): string => text.toLowerCase().replace(ownPort, '')
  return plain(host) === plain(authority)
}
