// SPDX-License-Identifier: Apache-2.0
// How the command speaks: results on stdout, errors on stderr in one line with the next step, tables whose columns
// fit their content.

import { CommanderError } from 'commander'
import { AmbitError, errorMessage } from '../mesh/errors.ts'
import type { Table } from './tables/table.ts'

/** 2 for wrong usage, 1 for everything else that failed. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return 2
  if (error instanceof AmbitError && error.code === 'AMB_USAGE') return 2
  return 1
}

/** Prints an error with its code and the next step to take. */
export function printError(error: unknown): void {
  process.stderr.write(`${describeError(error)}\n`)
}

/** The text of an error as a person reads it. */
function describeError(error: unknown): string {
  if (error instanceof AmbitError) {
    return `ambit: ${error.message.trimEnd()}. ${error.hint} [${error.code}]`
  }
  if (error instanceof CommanderError) {
    const what = error.message.replace(/^error: |\.$/g, '').replaceAll('\n', ' ')
    return `ambit: ${what}. Run the command with --help. [AMB_USAGE]`
  }
  return `ambit: ${errorMessage(error)}`
}

let isReaderWatched = false

/** Prints a line of a result. Whoever reads and has enough (head) ends the command, and that is no error. */
export function print(line: string): void {
  if (!isReaderWatched)
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') printError(error)
      process.exit(error.code === 'EPIPE' ? 0 : 1)
    })
  isReaderWatched = true
  process.stdout.write(`${line}\n`)
}

/** Rows under a heading, in columns as wide as they need. */
export function formatTable({ heading, rows }: Table): string {
  const all = [heading, ...rows]
  const widths = heading.map((_, at) => Math.max(...all.map((row) => (row[at] ?? '').length)))
  return all
    .map((row) =>
      row
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join('   ')
        .trimEnd(),
    )
    .join('\n')
}

/** Prints rows under a heading. */
export function printTable(heading: readonly string[], rows: readonly (readonly string[])[]): void {
  print(formatTable({ heading, rows }))
}
