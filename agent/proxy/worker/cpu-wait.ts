// SPDX-License-Identifier: Apache-2.0
// How long a thread of this process has stood in the line for a CPU: on a machine that has too much to do, that is why it
// is silent, and nothing that ending it would mend.

import { readdirSync, readFileSync } from 'node:fs'

const TASKS = '/proc/self/task'
/** The kernel keeps so much of a thread's name (TASK_COMM_LEN). */
const KEPT_NAME = 15
const NS_PER_MS = 1e6

/**
 * Milliseconds since the thread of this name started in which it could have run and had no CPU. Undefined when there is no
 * such thread, or a kernel without scheduler statistics. Node names a thread as its Worker is named.
 */
export function cpuWaitMs(threadName: string): number | undefined {
  for (const tid of readdirSync(TASKS)) {
    try {
      const name = readFileSync(`${TASKS}/${tid}/comm`, 'utf8').trimEnd()
      if (name !== threadName.slice(0, KEPT_NAME)) continue
      const [, waited] = readFileSync(`${TASKS}/${tid}/schedstat`, 'utf8').split(' ')
      return Number(waited) / NS_PER_MS
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException
      // Ended meanwhile, or no such statistics.
      if (code !== 'ENOENT' && code !== 'ESRCH') throw thrown
    }
  }
  return undefined
}
