// SPDX-License-Identifier: Apache-2.0
// Names a process so that it cannot be taken for another, long after: whoever writes a pid down writes this.

import { readFileSync } from 'node:fs'

/** A process that cannot be mistaken for a later one with the same pid. */
export interface ProcessRecord {
  readonly pid: number
  /** In clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly startTicks: string
}

/** Describes a running process; undefined when there is none. */
export function processRecord(pid: number): ProcessRecord | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The command's name, in parentheses, may itself hold blanks and parentheses.
    const startTicks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
    return startTicks === undefined ? undefined : { pid, startTicks }
  } catch {
    return undefined // no such process
  }
}

/** Whether exactly that process still runs. */
export function isRunning(record: ProcessRecord): boolean {
  return processRecord(record.pid)?.startTicks === record.startTicks
}
