// SPDX-License-Identifier: Apache-2.0
// The one place that makes loggers. Components log JSON lines on stdout; nothing secret ever goes in:
// keys, tokens and certificates' private parts are not passed to the logger at all, rather than redacted.

import { type Logger, pino } from 'pino'

export type { Logger }

/** Makes the process's logger. `level` is a pino level name; LOG_LEVEL in the environment overrides it. */
export function createLogger(component: string, level = 'info'): Logger {
  return pino({
    level: process.env.LOG_LEVEL ?? level,
    base: { component },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  })
}
