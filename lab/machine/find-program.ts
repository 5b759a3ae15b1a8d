// SPDX-License-Identifier: Apache-2.0
// Where a program of this machine is.

import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Where it is looked for besides PATH; undefined: nowhere. */
export interface OtherPlaces {
  readonly before?: string | undefined
  readonly after?: readonly string[]
}

/** The program's path; undefined when the machine does not have it. */
export function findProgram(
  name: string,
  { before = '', after = [] }: OtherPlaces = {},
): string | undefined {
  return [before, ...(process.env['PATH'] ?? '').split(delimiter), ...after]
    .filter((directory) => directory !== '')
    .map((directory) => join(directory, name))
    .find(isExecutable)
}

/** Whether this process may run the file. */
export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
