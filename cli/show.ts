// SPDX-License-Identifier: Apache-2.0
// Prints what a command has computed: a table, JSON or YAML, once or whenever it has changed.

import { setTimeout as wait } from 'node:timers/promises'
import { print, printError, formatTable } from './output.ts'
import type { ShowFlags } from './flags.ts'
import type { Table } from './tables/table.ts'

/** What a command shows. */
export interface Shown {
  /** For programs. */
  readonly data: unknown
  /** For people: lines, and tables. */
  readonly text: () => readonly (string | Table)[]
  /** What could not be had: told on stderr, and the command has failed. */
  readonly failures?: readonly Error[]
  /** What is shown says that something is wrong. */
  readonly isUnwell?: boolean
}

/** Soon enough for a person, cheap for agents. */
const WATCH_INTERVAL_MS = 2_000
const CLEAR_SCREEN = '\u001b[H\u001b[2J'

/** Shows it, and sets the exit code: 1 where something failed or is unwell. With --watch, until SIGINT; then 0. */
export async function show(flags: ShowFlags, compute: () => Promise<Shown>): Promise<void> {
  if (flags.watch !== true) {
    const shown = await compute()
    print(await render(flags, shown))
    for (const failure of shown.failures ?? []) printError(failure)
    const isBad = (shown.failures?.length ?? 0) > 0 || shown.isUnwell === true
    if (isBad) process.exitCode = 1
    return
  }
  const ended = new AbortController()
  process.once('SIGINT', () => ended.abort())
  let before: string | undefined
  while (!ended.signal.aborted) {
    const shown = await compute()
    const text = await render(flags, shown)
    if (text !== before) {
      // On a terminal the newest takes the place of the one before; in a pipe they follow one another.
      if (process.stdout.isTTY) process.stdout.write(CLEAR_SCREEN)
      else if (before !== undefined) print('')
      print(text)
      for (const failure of shown.failures ?? []) printError(failure)
    }
    before = text
    await wait(WATCH_INTERVAL_MS, undefined, { signal: ended.signal }).catch(() => undefined) // told to end
  }
}

async function render({ output }: ShowFlags, { data, text }: Shown): Promise<string> {
  switch (output) {
    case 'json':
      return JSON.stringify(data, undefined, 2)
    case 'yaml': {
      // Loaded only here: most calls do without.
      const { stringify } = await import('yaml')
      return stringify(data, { aliasDuplicateObjects: false }).trimEnd()
    }
    case 'table':
      return text()
        .map((part) => (typeof part === 'string' ? part : formatTable(part)))
        .join('\n')
  }
}
