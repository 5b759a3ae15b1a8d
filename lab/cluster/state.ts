// SPDX-License-Identifier: Apache-2.0
// What a lab remembers of itself in state.json, from its first moment on, so that `down` finds every process
// even of a lab that was only half made.

import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { AmbitError } from '../../mesh/errors.ts'
import type { LabProcess } from '../machine/child-process.ts'
import { isRunning } from '../machine/process-record.ts'
import type { AttachedState } from '../kubernetes/real/removal.ts'
import type { LabLayout } from '../machine/layout.ts'

export interface LabState {
  readonly name: string
  readonly nodes: readonly string[]
  readonly createdAt: string
  /** Set once everything runs. */
  readonly isUp: boolean
  readonly hasMesh: boolean
  /** Present when the API server is a real one, not the lab's own. */
  readonly attached?: AttachedState | undefined
  /** Port of 127.0.0.1 on which the host reaches the lab's own API server; 0 until it is known. */
  readonly apiPort: number
  readonly processes: readonly LabProcess[]
}

/** Reads a lab's state; undefined when there is none. Throws AMB_NOT_ROOT for who may not read it. */
export function readState(lab: LabLayout): LabState | undefined {
  try {
    // Written by writeState below, whole or not at all.
    return JSON.parse(readFileSync(lab.stateFile, 'utf8')) as LabState
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EACCES') {
      throw new AmbitError('AMB_NOT_ROOT', `Cannot read lab "${lab.name}": this needs root`)
    }
    return undefined // no such lab, or it stopped before its first line
  }
}

/** Writes a lab's state. */
export function writeState(lab: LabLayout, state: LabState): void {
  writeFileSync(`${lab.stateFile}.new`, `${JSON.stringify(state, undefined, 2)}\n`)
  renameSync(`${lab.stateFile}.new`, lab.stateFile)
}

/** The lab's own processes that still run. */
export function runningProcesses(state: LabState): readonly LabProcess[] {
  return state.processes.filter((each) => isRunning(each))
}
