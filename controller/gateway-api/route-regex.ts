// SPDX-License-Identifier: Apache-2.0
// Whether what somebody wrote is a regular expression that waypoints can use: RE2's, which takes time in proportion to the text that is
// matched, whatever the expression.

import { RE2JS } from 're2js'
import { errorMessage } from '../../mesh/errors.ts'
import { type FlawReader, shown } from '../istio-api/flaw.ts'

/** The expression, if it is one. */
export function checkRegex(
  reader: FlawReader,
  field: string,
  value: unknown,
  longest: number,
): string | undefined {
  if (typeof value !== 'string' || value === '' || value.length > longest) {
    reader.note(field, `${shown(value)} is not an expression of at most ${longest} characters`)
    return undefined
  }
  try {
    RE2JS.compile(value)
    return value
  } catch (thrown) {
    reader.note(field, `${shown(value)} is no RE2 expression: ${errorMessage(thrown)}`)
    return undefined
  }
}

/** An expression that is true of this text alone. */
export function literal(text: string): string {
  return RE2JS.quote(text)
}
