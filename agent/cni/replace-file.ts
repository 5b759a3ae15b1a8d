// SPDX-License-Identifier: Apache-2.0
// Changes a file that somebody else writes, too: in one step, so that no reader sees half of it, and never over what was written since it
// was read.

import { randomUUID } from 'node:crypto'
import { readFileSync, renameSync } from 'node:fs'
import { open, readdir, rm, stat } from 'node:fs/promises'
import path from 'node:path'

const TEMPORARY = '.ambit-tmp'

/**
 * Replaces the content that was read with another, keeping the file's mode. False, and nothing done, where something else stands there by now:
 * what a CNI has just written must not go for what we made of the state before it.
 */
export async function replaceFile(file: string, read: string, text: string): Promise<boolean> {
  const { mode } = await stat(file)
  const temporary = temporaryName(file)
  let isReplaced = false
  try {
    const handle = await open(temporary, 'w', mode & 0o777)
    try {
      await handle.writeFile(text)
      await handle.chmod(mode & 0o777)
      await handle.sync()
    } finally {
      await handle.close()
    }
    // The disk may have taken long. These two follow upon each other at once: no turn of the event loop is between them.
    if (readFileSync(file, 'utf8') === read) {
      renameSync(temporary, file)
      isReplaced = true
    }
  } finally {
    if (!isReplaced) await rm(temporary, { force: true })
  }
  return isReplaced
}

/** Hidden, and without an ending that a runtime would read. Two agents' pids may be the same, each in its container. */
export const temporaryName = (file: string): string =>
  path.join(path.dirname(file), `.${path.basename(file)}.${randomUUID()}${TEMPORARY}`)

/** Removes what agents that were killed amid a change have left in a directory; what is younger than that another may be writing. */
export async function removeTemporaries(directory: string, ageMs: number): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.startsWith('.') || !name.endsWith(TEMPORARY)) continue
    const file = path.join(directory, name)
    const found = await stat(file).catch(unlessMissing)
    if (found !== undefined && Date.now() - found.mtimeMs >= ageMs) await rm(file, { force: true })
  }
}

/** For a file that may go at any time: undefined where it is gone. */
export function unlessMissing(thrown: unknown): undefined {
  if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
  throw thrown
}
