// SPDX-License-Identifier: Apache-2.0
// Reads JSON that may hold secrets. JSON.parse says what is wrong by quoting the text, and such messages end in logs.

import { err, ok, type Result } from './result.ts'

/** As ECMAScript has it since "JSON.parse source text access"; TypeScript's declarations have neither yet. */
type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown
const EXACT = JSON as unknown as {
  rawJSON(text: string): object
  parse(text: string, reviver?: Reviver): unknown
}

/** The parsed text; the error says where it is no JSON, and quotes nothing of it. */
export function parseJson(text: string): Result<unknown, string> {
  return parseBy(text)
}

/**
 * The same, of a text that is to be written again: JSON.stringify() gives each number as it stood there. JavaScript's have 53 bits,
 * and those that programs in other languages write have 64.
 */
export function parseExactJson(text: string): Result<unknown, string> {
  return parseBy(text, (_, value, { source }) =>
    typeof value === 'number' && source !== undefined ? EXACT.rawJSON(source) : value,
  )
}

function parseBy(text: string, reviver?: Reviver): Result<unknown, string> {
  try {
    return ok(EXACT.parse(text, reviver))
  } catch (thrown) {
    // "... in JSON at position 7 (line 1 column 8)": of V8's message only the numbers are safe.
    const place = /\(line (\d+) column (\d+)\)$/.exec(thrown instanceof Error ? thrown.message : '')
    return err(
      place === null
        ? 'it is not JSON'
        : `it is not JSON (line ${place[1] ?? ''}, column ${place[2] ?? ''})`,
    )
  }
}
