// SPDX-License-Identifier: Apache-2.0
// The one place that makes loggers. Components log JSON lines on stdout; nothing secret ever goes in:
// keys, tokens and certificates' private parts are not passed to the logger at all, rather than redacted.

import { type Logger, type LoggerOptions, pino, stdSerializers } from 'pino'
import { textStream } from './log-text.ts'
import { linePrinter, plainLines, type PrintLine } from './plain-lines.ts'
import { isLogLevel, type LogLevel, LogLevels } from './log-levels.ts'

/** One JSON object a line, or the columns and fields that Istio's ztunnel writes. */
export const LOG_FORMATS = ['json', 'text'] as const
export type LogFormat = (typeof LOG_FORMATS)[number]

export { LOG_LEVELS, type LogLevel } from './log-levels.ts'
export type { Logger }

/** The level that LOG_LEVEL asks for, for programs without a flag for it. */
export function environmentLogLevel(): LogLevel {
  return isLogLevel(process.env.LOG_LEVEL) ? process.env.LOG_LEVEL : 'info'
}

/** How long a line may wait for others to be written with it, and in how many bytes. */
const BATCH_MS = 10
const BATCH_BYTES = 16 * 1024
/** Of UTF-8, that one unit of a text may take. */
const MOST_BYTES_A_UNIT = 3
const STDOUT = 1

/** Writes a line that is made already, among those of the loggers. */
export function printLine(line: string): void {
  process.stdout.write(`${line}\n`)
}

function writeOut(line: string): void {
  process.stdout.write(line)
}

/** A logger, and how loud its parts are. */
export interface LeveledLogger {
  readonly log: Logger
  readonly levels: LogLevels
}

/** Makes the process's logger, whose level stays. */
export function createLogger(component: string, level: LogLevel): Logger {
  return pino(optionsOf(component, level))
}

/** Makes a process's logger whose parts (its children with a `part`) can be made louder while it runs. */
export function createLeveledLogger(
  component: string,
  level: LogLevel,
  format: LogFormat = 'json',
): LeveledLogger {
  const levels = new LogLevels(component, level)
  const onChild = (child: Logger): void => levels.follow(child)
  const options = { ...optionsOf(component, level), onChild }
  const log = format === 'json' ? pino(options) : pino(options, textStream(writeOut))
  levels.follow(log)
  return { log, levels }
}

/** A logger of many lines: they are written together, in their order, a moment later. */
export interface BatchedLogger {
  readonly log: Logger
  /** Writes a line beside the logger, whatever its level, and in its format. */
  readonly print: PrintLine
  /** Writes what waits. The end of the thread does so by itself, unless it is terminated by another. */
  flush(): void
}

/** Makes a logger for what is written on a hot path, where a system call for each line would show (access lines). */
export function createBatchedLogger(
  component: string,
  level: LogLevel,
  format: LogFormat = 'json',
): BatchedLogger {
  // Its types know texts alone.
  const file: { write(bytes: Buffer): unknown } = pino.destination({
    dest: STDOUT,
    sync: true,
    contentMode: 'buffer',
  }) as never
  const batch = Buffer.allocUnsafeSlow(BATCH_BYTES)
  let filled = 0
  let isDue = false
  const flush = (): void => {
    // Not by the file's own buffer: its flush waits for the disk as well (fsync), where the log is a file.
    const bytes = filled
    filled = 0
    if (bytes > 0) file.write(batch.subarray(0, bytes))
  }
  const flushWhenDue = (): void => {
    isDue = false
    flush()
  }
  process.on('exit', flush)
  const write = (line: string): void => {
    const most = MOST_BYTES_A_UNIT * line.length
    if (filled + most > BATCH_BYTES) flush()
    if (most > BATCH_BYTES) return void file.write(Buffer.from(line))
    // Each by itself: a text of many lines is put together twice, once to be counted.
    filled += batch.write(line, filled)
    if (isDue) return
    isDue = true
    setTimeout(flushWhenDue, BATCH_MS).unref()
  }
  const options = optionsOf(component, level)
  if (format === 'text') {
    const text = textStream(write)
    const print = linePrinter(component, (line) => text.write(line))
    return { flush, print, log: pino(options, text) }
  }
  const logMethod = plainLines({ component, write, owner: () => log })
  const log = pino({ ...options, hooks: { logMethod } }, { write })
  return { flush, print: linePrinter(component, write), log }
}

function optionsOf(component: string, level: LogLevel): LoggerOptions {
  return {
    level,
    base: { component },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    // What failed is always `error`: its text where that says all, the error itself, with its stack, where it is a fault of ours.
    serializers: { error: stdSerializers.err },
  }
}
