// SPDX-License-Identifier: Apache-2.0
// Which agent of this node writes. Two may run beside each other for a while (an upgrade, a mistake), and only one may
// write state files and annotations, enrol, withdraw and sweep: the one that came last. Each takes the next epoch at its
// start, and whoever finds another's there stops writing for good; what it serves it goes on serving.

import { randomUUID } from 'node:crypto'
import { mkdir, open, readFile } from 'node:fs/promises'
import path from 'node:path'
import type { Logger } from '../../mesh/telemetry/log.ts'

export interface Ownership {
  /** Greater than that of every agent before it on this node. */
  readonly epoch: number
  /** Another agent was found to have taken the node over. */
  readonly isLost: boolean
  /** Whether this process may write; once it may not, it never may again. To be asked before every write. */
  holds(): Promise<boolean>
}

/** Beside the state files. */
export const EPOCH_FILE = 'epoch'
/**
 * The epoch, and who has it: of two that take the same one, the later holds it. Always as long, and written in place: it
 * can be taken over on a disk that is full.
 */
const EPOCH_DIGITS = 16
const CONTENT = /^(\d{16}) [0-9a-f-]{36}\n$/

/** Takes the node over. When that cannot be written down it is logged, and the agent goes on: pods wait for it. */
export async function takeOwnership(directory: string, logger: Logger): Promise<Ownership> {
  const file = path.join(directory, EPOCH_FILE)
  const before = await read(file)
  const epoch = Number(CONTENT.exec(before ?? '')?.[1] ?? 0) + 1
  const mine = `${String(epoch).padStart(EPOCH_DIGITS, '0')} ${randomUUID()}\n`
  // What stands there while this agent is in charge.
  let standing: string | undefined = mine
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    await using handle = await open(file, before === undefined ? 'w' : 'r+', 0o600)
    await handle.write(mine, 0)
    await handle.truncate(mine.length)
  } catch (thrown) {
    logger.warn(
      { error: thrown, file },
      'cannot write down that this agent has taken the node over',
    )
    standing = before
  }
  let isLost = false
  return {
    epoch,
    get isLost() {
      return isLost
    },
    async holds() {
      if (isLost) return false
      const current = await read(file)
      // Nobody takes a node over by removing the file.
      if (current === undefined || current === standing) return true
      isLost = true
      logger.warn(
        { epoch },
        'another agent has taken this node over: this one serves what it serves and changes nothing more',
      )
      return false
    },
  }
}

/** Undefined when there is none. One that cannot be read says so, and is another's as soon as that changes. */
async function read(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException
    return code === 'ENOENT' ? undefined : `unreadable: ${code}`
  }
}
