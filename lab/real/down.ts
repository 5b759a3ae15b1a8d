// SPDX-License-Identifier: Apache-2.0
// Takes the cluster away, whatever state it is in. With the first process of a node go all others of the node and, with the last of them,
// its mounts, networks and pins; what is left to do are cgroups and files.

import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { AmbitError } from '../../mesh/errors.ts'
import { isRunning } from '../machine/process-record.ts'
import { nodeCgroups, removeCgroup } from './cgroups.ts'
import { STATE_DIRECTORY } from './layout.ts'
import { readProcesses } from './state.ts'

const DEADLINE_MS = 30_000
const POLL_MS = 50

/** Removes everything; where there is nothing, that is no error. Throws AmbitError naming what is left. */
export async function takeClusterDown(): Promise<void> {
  const records = Object.values(readProcesses())
  for (const record of records) if (isRunning(record)) process.kill(record.pid, 'SIGKILL')
  // Those of a node that was not written down, for the start was interrupted.
  for (const cgroup of nodeCgroups()) killIn(cgroup)
  const isGone = (): boolean =>
    !records.some(isRunning) && nodeCgroups().map(removeCgroup).every(Boolean)
  for (const deadline = Date.now() + DEADLINE_MS; !isGone(); await sleep(POLL_MS)) {
    if (Date.now() < deadline) continue
    const left = [...records.filter(isRunning).map(({ pid }) => `process ${pid}`), ...nodeCgroups()]
    throw new AmbitError('AMB_CLUSTER', `Cannot remove all of the cluster: ${left.join(', ')}`)
  }
  rmSync(STATE_DIRECTORY, { recursive: true, force: true })
}

function killIn(cgroup: string): void {
  const file = join(cgroup, 'cgroup.procs')
  if (!existsSync(file)) return
  for (const pid of readFileSync(file, 'utf8').split('\n').filter(Boolean)) {
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}
