// SPDX-License-Identifier: Apache-2.0
// Paths as configurations name them, made comparable with those of requests, which are normalised before they are compared (RFC 3986 6.2.2).

const ESCAPE = /%[0-9a-fA-F]{2}/g
const UNRESERVED = /[A-Za-z0-9\-._~]/
/** What may be the beginning of an escape whose end is yet to come. */
const CUT_ESCAPE = /%[0-9a-fA-F]?$/

/** Escapes as a normalised path has them: what needs none is written plainly, the others in upper case. */
export function withNormalEscapes(path: string): string {
  return path.replace(ESCAPE, (escape) => {
    const character = String.fromCharCode(Number.parseInt(escape.slice(1), 16))
    return UNRESERVED.test(character) ? character : escape.toUpperCase()
  })
}

/**
 * A part of a path, as somebody writes it by hand: besides, what is no ASCII is escaped, and a percent sign that escapes nothing; a backslash
 * is a slash. `isOpen`: more may follow, and be the rest of an escape.
 */
export function normalPathText(text: string, isOpen: boolean): string {
  const cut = isOpen ? (CUT_ESCAPE.exec(text)?.[0] ?? '') : ''
  const whole = text.slice(0, text.length - cut.length)
  const plain = whole
    .replaceAll('\\', '/')
    .replace(/%(?![0-9a-fA-F]{2})/g, '%25')
    .replace(/[^\0-\x7f]+/gu, (letters) =>
      [...Buffer.from(letters, 'utf8')]
        .map((octet) => `%${octet.toString(16).toUpperCase()}`)
        .join(''),
    )
  return withNormalEscapes(plain) + cut.toUpperCase()
}
