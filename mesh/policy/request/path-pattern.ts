// SPDX-License-Identifier: Apache-2.0
// Paths as policies name them, made comparable with those of requests, which are normalised. Templates: `{*}` is one segment, `{**}` any
// number of characters.

import { normalPathText } from '../../http/path-escapes.ts'
import type { StringMatch } from '../../model/policy.ts'
import type { PathMatch } from '../../model/waypoint-policy.ts'

const ONE_SEGMENT = '{*}'
const ANYTHING = '{**}'
const OPERATORS = /(\{\*\*?\})/

type Literal = Exclude<StringMatch, { readonly kind: 'present' }>

/** A match of a path with its text as a normalised path has it. */
export function pathLiteral({ kind, text }: Literal): Literal {
  return { kind, text: normalPathText(text, kind === 'prefix') }
}

/** The expression that a template is: no input makes it try more than one way for each place of `{**}`, of which there is one. */
export function templatePattern(template: string): RegExp {
  const source = template
    .split(OPERATORS)
    .map((part) => {
      if (part === ONE_SEGMENT) return '[^/]+'
      if (part === ANYTHING) return '.*'
      return RegExp.escape(normalPathText(part, false))
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
      return pathLiteral({ kind: 'prefix', text: before })
    }
    default:
      return pathLiteral(match)
  }
}
