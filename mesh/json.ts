// SPDX-License-Identifier: Apache-2.0
// Reads JSON that may hold secrets. JSON.parse says what is wrong by quoting the text, and such messages end in logs.

import { err, ok, type Result } from './result.ts'

/** The parsed text; the error says where it is no JSON, and quotes nothing of it. */
export function parseJson(text: string): Result<unknown, string> {
  try {
    return ok(JSON.parse(text))
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
