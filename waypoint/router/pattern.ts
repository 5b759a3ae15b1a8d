// SPDX-License-Identifier: Apache-2.0
// A regular expression of a route, ready to be asked. RE2 by re2js: linear in the text whatever the expression, so no route and no
// request can make a waypoint hang. Always of the whole text, whose octets it takes for UTF-8, as routes are written.

import { RE2JS } from 're2js'
import { err, ok, type Result } from '../../mesh/result.ts'
import type { PatternMemory } from './pattern-memory.ts'

/** Longer texts match no pattern: linear is still 0.1 us a character, and one thread serves all clients. */
const LONGEST_SUBJECT = 8_192

const META = /[\\^$.|?*+()[\]{}]/
/** After it, the character before it may be missing from the text. */
const MAYBE_NONE = /[?*{]/

export interface Pattern {
  /** What every text that matches begins with. */
  readonly prefix: string
  /** Hot: once a request and expression that could match. */
  matches(text: string): boolean
}

/** Compiles an expression; the reason why it is none otherwise. */
export function compilePattern(source: string, memory: PatternMemory): Result<Pattern, string> {
  const literal = literalPrefix(source)
  const prefix = asHeadsShow(literal)
  if (literal.length === source.length) return ok({ prefix, matches: (text) => text === prefix })
  let compiled: RE2JS
  try {
    compiled = RE2JS.compile(source)
  } catch (error) {
    return err(error instanceof Error ? error.message : String(error))
  }
  const number = memory.nextPattern()
  const ask = (text: string): boolean => compiled.matches(asWritten(text))
  return ok({
    prefix,
    matches: (text) =>
      text.length <= LONGEST_SUBJECT && text.startsWith(prefix) && memory.recall(number, text, ask),
  })
}

const BEYOND_ASCII = /[^\0-\x7f]/

/** A text of a configuration as heads show it: their octets as Latin-1. */
export function asHeadsShow(text: string): string {
  return BEYOND_ASCII.test(text) ? Buffer.from(text, 'utf8').toString('latin1') : text
}

/** The other way round. */
function asWritten(text: string): string {
  return BEYOND_ASCII.test(text) ? Buffer.from(text, 'latin1').toString('utf8') : text
}

/** What every text that matches begins with, as far as that is plain to see. */
export function literalPrefix(source: string): string {
  // Alternatives share no beginning, and flags may change what a letter means.
  if (source.includes('|') || source.includes('(?')) return ''
  const start = source.startsWith('^') ? 1 : 0
  let end = start
  while (end < source.length && !META.test(source.charAt(end))) end += 1
  if (end > start && MAYBE_NONE.test(source.charAt(end)))
    // A character of another plane is two of JavaScript's.
    end -= end - 1 > start && (source.codePointAt(end - 2) ?? 0) > 0xffff ? 2 : 1
  return source.slice(start, end)
}
