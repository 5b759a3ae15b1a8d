// SPDX-License-Identifier: Apache-2.0
// What agents and waypoints say of themselves in the same words, out of their config dumps.

import { fields, text, texts } from './reading.ts'

export interface ProgramFacts {
  readonly version: string
  /** What it waits for before it is ready. */
  readonly pending: readonly string[]
  readonly discovery: { readonly state: string; readonly since: string; readonly reason: string }
}

/** Reads them; what is not there is empty. */
export function readProgramFacts(dump: Readonly<Record<string, unknown>>): ProgramFacts {
  const discovery = fields(dump['discovery'])
  return {
    version: text(fields(dump['version'])['version']),
    pending: texts(dump['pending']),
    discovery: {
      state: text(discovery['state']),
      since: text(discovery['since']),
      reason: text(discovery['reason']),
    },
  }
}
