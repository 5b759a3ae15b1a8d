// SPDX-License-Identifier: Apache-2.0
// The one place that makes loggers. Components log JSON lines on stdout; nothing secret ever goes in:
// keys, tokens and certificates' private parts are not passed to the logger at all, rather than redacted.

import { type Logger, pino, stdSerializers } from 'pino'

export type { Logger }

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export function isLogLevel(text: string | undefined): text is LogLevel {
  return LOG_LEVELS.some((level) => level === text)
}

/** The level that LOG_LEVEL asks for, for programs without a flag for it. */
export function environmentLogLevel(): LogLevel {
  return isLogLevel(process.env.LOG_LEVEL) ? process.env.LOG_LEVEL : 'info'
}

/** Makes the process's logger. */
export function createLogger(component: string, level: LogLevel): Logger {
  return pino({
    level,
    base: { component },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    // What failed is always `error`: its text where that says all, the error itself, with its stack, where it is a fault of ours.
    serializers: { error: stdSerializers.err },
  })
}
