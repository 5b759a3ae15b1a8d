// SPDX-License-Identifier: Apache-2.0
// The one form of a request's path that is matched, authorised and sent on: Istio's default (BASE). RFC 3986 6.2.2 (escaped letters,
// digits, `-._~` are decoded, other escapes get upper-case digits, dot segments go), and backslashes become slashes. Escaped slashes
// and doubled slashes stay what they are. Of Istio's different: a percent sign that escapes nothing is escaped itself. Left alone,
// `%%32e` would come out as `%2e`, which whoever reads it next takes for a dot.

const SLASH = 0x2f
const DOT = 0x2e
const PERCENT = 0x25
const BACKSLASH = 0x5c
const LAST_ASCII = 0x7e

/** @returns undefined for a path with an escaped NUL, which no app expects and some end their path at. Hot: once a request. */
export function normalisePath(path: string): string | undefined {
  if (isNormal(path)) return path
  const decoded = decode(path)
  return decoded === undefined ? undefined : withoutDotSegments(decoded)
}

/** A path that a configuration names, written as normalised paths are: escapes in upper case. Its other parts are the author's. */
export function withUpperCaseEscapes(path: string): string {
  return path.replace(/%[0-9a-fA-F]{2}/g, (escape) => escape.toUpperCase())
}

function isNormal(path: string): boolean {
  let before = 0
  for (let at = 0; at < path.length; at += 1) {
    const code = path.charCodeAt(at)
    if (code === PERCENT || code === BACKSLASH || code > LAST_ASCII) return false
    if (code === DOT && before === SLASH) return false
    before = code
  }
  return true
}

function decode(path: string): string | undefined {
  let decoded = ''
  for (let at = 0; at < path.length; at += 1) {
    const code = path.charCodeAt(at)
    if (code === BACKSLASH) decoded += '/'
    else if (code > LAST_ASCII) decoded += escapeOf(code)
    else if (code !== PERCENT) decoded += path.charAt(at)
    else {
      const octet = octetAt(path, at + 1)
      if (octet === 0) return undefined
      if (octet === undefined) {
        decoded += '%25'
        continue
      }
      decoded += isUnreserved(octet) ? String.fromCharCode(octet) : escapeOf(octet)
      at += 2
    }
  }
  return decoded
}

/** The octet that two hexadecimal digits at that place name; undefined when they are none. */
function octetAt(path: string, at: number): number | undefined {
  const digits = path.slice(at, at + 2)
  return /^[0-9a-fA-F]{2}$/.test(digits) ? Number.parseInt(digits, 16) : undefined
}

/** RFC 3986 2.3. */
function isUnreserved(octet: number): boolean {
  return /[A-Za-z0-9\-._~]/.test(String.fromCharCode(octet))
}

const escapeOf = (octet: number): string => `%${octet.toString(16).toUpperCase().padStart(2, '0')}`

/** RFC 3986 5.2.4. Nothing leads above the root. */
function withoutDotSegments(path: string): string {
  // `*` of OPTIONS is no path.
  if (!path.startsWith('/')) return path
  const segments = path.slice(1).split('/')
  const kept: string[] = []
  for (const [place, segment] of segments.entries()) {
    if (segment === '..') kept.pop()
    if (segment !== '.' && segment !== '..') kept.push(segment)
    else if (place === segments.length - 1) kept.push('')
  }
  return `/${kept.join('/')}`
}
