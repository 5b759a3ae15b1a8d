// SPDX-License-Identifier: Apache-2.0
// Which octets HTTP allows where (RFC 9110 5.5, 5.6.2; RFC 9112 3.2), as one table for the scans of the hot path.

/** Of a token: names of fields, methods. */
export const TOKEN = 1
/** Of a field's value: visible, obs-text, space and tab. */
export const VALUE = 2
/** Of a request target: visible and obs-text, which apps send unescaped. No `#`: a fragment never travels. */
export const TARGET = 4

/** The classes of each octet, as bits. */
export const CLASSES = Uint8Array.from({ length: 256 }, (_, octet) => classesOf(octet))

function classesOf(octet: number): number {
  const character = String.fromCharCode(octet)
  const isVisible = octet > 0x20 && octet !== 0x7f
  return (
    (/[!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(character) ? TOKEN : 0) |
    (isVisible || octet === 0x20 || octet === 0x09 ? VALUE : 0) |
    (isVisible && character !== '#' ? TARGET : 0)
  )
}

/** Whether a text is a token, as names of fields and methods are. */
export function isToken(text: string): boolean {
  return text !== '' && isAllOf(text, TOKEN)
}

/** Whether a text may be a field's value. */
export function isFieldValue(text: string): boolean {
  return isAllOf(text, VALUE)
}

/** Whether a text may be the path and query of a request. */
export function isTarget(text: string): boolean {
  return text !== '' && isAllOf(text, TARGET)
}

function isAllOf(text: string, kind: number): boolean {
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code > 0xff || ((CLASSES[code] ?? 0) & kind) === 0) return false
  }
  return true
}
