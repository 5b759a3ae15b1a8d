// SPDX-License-Identifier: Apache-2.0
// Lines of plain fields as pino would write them, for a fraction of the CPU: pino makes a text of each field by itself, the engine one of the
// whole object. Hot: once a request of a waypoint (bench/waypoint-sight.ts), once a connection of an agent.

import { type Logger, type LoggerOptions, pino } from 'pino'

/** Writes a line of a level, whose fields are JSON already, without the braces around them: `"path":"/a","attempts":1`. */
export type PrintLine = (level: string, fields: string, message: string) => void

export interface PlainLinesOptions {
  /** The only field that every line has. */
  readonly component: string
  readonly write: (line: string) => void
  /** The logger whose hook it is. What its children log has fields of theirs, and goes pino's way. */
  readonly owner: () => Logger
}

/** A hook for a logger: writes what consists of texts, numbers and booleans, and leaves everything else to pino. */
export function plainLines({
  component,
  write,
  owner,
}: PlainLinesOptions): NonNullable<NonNullable<LoggerOptions['hooks']>['logMethod']> {
  const { labels } = pino.levels
  const print = linePrinter(component, write)
  return function logMethod(args, method, level) {
    const [fields, message, ...more]: readonly unknown[] = args
    if (
      typeof message !== 'string' ||
      more.length > 0 ||
      !arePlain(fields) ||
      // In its format string pino looks for what to put in.
      message.includes('%') ||
      this !== owner()
    )
      return method.apply(this, args)
    print(labels[level] ?? '', jsonOfFields(fields), message)
  }
}

/** Prints lines as a logger of that component would write them, for whoever has their fields as JSON. */
export function linePrinter(component: string, write: (line: string) => void): PrintLine {
  const base = JSON.stringify({ component }).slice(1, -1)
  // Of the line before: many come within a millisecond, and say the same.
  let writtenAt = Number.NaN
  let time = ''
  let said = ''
  let saidJson = '""'
  return (level, fields, message) => {
    const now = Date.now()
    if (now !== writtenAt) {
      writtenAt = now
      time = new Date(now).toISOString()
    }
    if (message !== said) {
      said = message
      saidJson = JSON.stringify(message)
    }
    const own = fields === '' ? '' : `,${fields}`
    write(`{"level":"${level}","time":"${time}",${base}${own},"msg":${saidJson}}\n`)
  }
}

/** Plain fields as JSON, without the braces around them. */
export function jsonOfFields(fields: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(fields).slice(1, -1)
}

/** Whether it is an object without a life of its own, of fields that are what they are. */
function arePlain(given: unknown): given is Readonly<Record<string, unknown>> {
  if (typeof given !== 'object' || given === null) return false
  if (Object.getPrototypeOf(given) !== Object.prototype) return false
  for (const name in given)
    switch (typeof (given as Readonly<Record<string, unknown>>)[name]) {
      case 'string':
      case 'number':
      case 'boolean':
      case 'undefined':
        break
      default:
        return false
    }
  return true
}
