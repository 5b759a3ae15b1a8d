// SPDX-License-Identifier: Apache-2.0
// What of a cluster is written down: its processes, so that they are ended by themselves and by nothing else.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isRunning, type ProcessRecord, processRecord } from '../machine/process-record.ts'
import { STATE_DIRECTORY } from './layout.ts'

const FILE = join(STATE_DIRECTORY, 'processes.json')

/** By role: `fabric`, `gateway`, `node-a`. */
export type Processes = Readonly<Record<string, ProcessRecord>>

/** Those that were written down, whether they still run or not. */
export function readProcesses(): Processes {
  try {
    return JSON.parse(readFileSync(FILE, 'utf8')) as Processes
  } catch {
    return {} // no cluster
  }
}

/** Writes one more down, before anything else is done with it. Throws where it has ended already. */
export function recordProcess(role: string, pid: number): void {
  const record = processRecord(pid)
  if (record === undefined)
    throw new Error(`Cannot start ${role}: it ended at once; see ${STATE_DIRECTORY}`)
  mkdirSync(STATE_DIRECTORY, { recursive: true })
  writeFileSync(FILE, JSON.stringify({ ...readProcesses(), [role]: record }))
}

/** The pid of a part of the cluster that runs. Throws where it does not. */
export function pidOf(role: string): number {
  const record = readProcesses()[role]
  if (record !== undefined && isRunning(record)) return record.pid
  throw new Error(`Cannot find ${role}: no cluster is up here ("npm run cluster" brings one up)`)
}
