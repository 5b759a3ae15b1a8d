// SPDX-License-Identifier: Apache-2.0
// Paths as policies name them, made comparable with those of requests, which are normalised (RFC 3986 6.2.2): escapes in upper case, and
// what is no ASCII escaped. Templates: `{*}` is one segment, `{**}` any number of characters.

import type { PathMatch } from '../../model/waypoint-policy.ts'

const ONE_SEGMENT = '{*}'
const ANYTHING = '{**}'
const OPERATORS = /(\{\*\*?\})/

/** The literal text of a path as a normalised path has it. */
export function pathLiteral(text: string): string {
  return text
    .replace(/%[0-9a-fA-F]{2}/g, (escape) => escape.toUpperCase())
    .replace(/[^\0-\x7f]+/gu, (letters) =>
      [...Buffer.from(letters, 'utf8')]
        .map((octet) => `%${octet.toString(16).toUpperCase()}`)
        .join(''),
    )
}

/** The expression that a template is: no input makes it try more than one way for each place of `{**}`, of which there is one. */
export function templatePattern(template: string): RegExp {
  const source = template
    .split(OPERATORS)
    .map((part) => {
      if (part === ONE_SEGMENT) return '[^/]+'
      if (part === ANYTHING) return '.*'
      return RegExp.escape(pathLiteral(part))
    })
    .join('')
  return new RegExp(`^${source}$`, 's')
}

/** A match without operators that every path fulfils which the given one matches; undefined: there is none that tells anything. */
export function narrowedPath(
  match: PathMatch,
): Exclude<PathMatch, { kind: 'template' | 'present' }> | undefined {
  switch (match.kind) {
    case 'present':
      return undefined
    case 'template': {
      const [before = ''] = match.text.split(OPERATORS)
      return { kind: 'prefix', text: pathLiteral(before) }
    }
    default:
      return { kind: match.kind, text: pathLiteral(match.text) }
  }
}
