// SPDX-License-Identifier: Apache-2.0
// A regular expression of a route, ready to be asked. RE2 by re2js: linear in the text whatever the expression, so no route and no
// request can make a waypoint hang. Always of the whole text.

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
  const prefix = literalPrefix(source)
  if (prefix.length === source.length) return ok({ prefix, matches: (text) => text === source })
  let compiled: RE2JS
  try {
    compiled = RE2JS.compile(source)
  } catch (error) {
    return err(error instanceof Error ? error.message : String(error))
  }
  const number = memory.nextPattern()
  const ask = (text: string): boolean => compiled.matches(text)
  return ok({
    prefix,
    matches: (text) =>
      text.length <= LONGEST_SUBJECT && text.startsWith(prefix) && memory.recall(number, text, ask),
  })
}

/** What every text that matches begins with, as far as that is plain to see. */
export function literalPrefix(source: string): string {
  // Alternatives share no beginning, and flags may change what a letter means.
  if (source.includes('|') || source.includes('(?')) return ''
  const start = source.startsWith('^') ? 1 : 0
  let end = start
  while (end < source.length && !META.test(source.charAt(end))) end += 1
  if (end > start && MAYBE_NONE.test(source.charAt(end))) end -= 1
  return source.slice(start, end)
}
