// SPDX-License-Identifier: Apache-2.0
// Flags of the access log, the same for every proxy but for what its lines tell of.

import { InvalidArgumentError } from 'commander'
import { EVERY_LINE, type FilterReader, readShare } from '../telemetry/access-spec.ts'
import { type FlagTable, parsed } from './flags.ts'

export interface AccessConfig {
  /** Which of them have an access line; undefined: all. */
  readonly accessLogFilter?: string
  /** The share of those that ended well. */
  readonly accessLogSample: number
}

/** @param what they tell of; an `example` is an expression that `readFilter` takes */
export function accessFlags(
  what: 'connections' | 'requests',
  example: string,
  readFilter: FilterReader,
): FlagTable<AccessConfig> {
  return {
    accessLogFilter: parsed<string | undefined>(
      '--access-log-filter <expression>',
      `which ${what} have an access line, e.g. '${example}'; all if left out`,
      (text) => {
        const filter = readFilter(text)
        if (!filter.ok) throw new InvalidArgumentError(filter.error)
        return filter.value
      },
      { env: 'AMBIT_ACCESS_LOG_FILTER', fallback: undefined },
    ),
    accessLogSample: parsed(
      '--access-log-sample <share>',
      `how much of the access lines of ${what} that ended well is written; errors always are`,
      parseShare,
      { env: 'AMBIT_ACCESS_LOG_SAMPLE', fallback: EVERY_LINE.sample },
    ),
  }
}

/** Reads a share from 0 to 1. */
export function parseShare(text: string): number {
  const share = readShare(text)
  if (!share.ok) throw new InvalidArgumentError(share.error)
  return share.value
}
