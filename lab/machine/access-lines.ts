// SPDX-License-Identifier: Apache-2.0
// The access lines in an agent's log.

import { wholeLines } from './whole-lines.ts'

/** One access line of an agent. */
export interface AccessLine {
  readonly msg?: string
  readonly direction?: 'inbound' | 'outbound'
  readonly error?: string
  readonly reason?: string
  readonly [field: string]: unknown
}

/** Those that the log has so far, among lines of other kinds. */
export function accessLines(log: string): readonly AccessLine[] {
  return wholeLines(log)
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as AccessLine)
    .filter(({ direction }) => direction !== undefined)
}
