// SPDX-License-Identifier: Apache-2.0
// What a kubelet writes down about a pod it runs, so that others of the lab (exec, logs, status) can reach the
// pod's processes without asking it. One file per pod, replaced as a whole.

import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type LabLayout, SECRET_FILE_MODE } from '../machine/layout.ts'
import type { ProcessRecord } from '../machine/process-record.ts'
import type { ContainerUser } from './start-script.ts'

export interface ContainerRecord extends ContainerUser {
  readonly name: string
  readonly isInit: boolean
  readonly restartCount: number
  /** Present while the container runs. */
  readonly process: ProcessRecord | undefined
  readonly cgroup: string
  /** What it was last started with: holds whatever Secrets the pod has in its environment. */
  readonly environment: Readonly<Record<string, string>>
}

export interface PodRecord {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly node: string
  readonly containers: readonly ContainerRecord[]
}

const RECORD_FILE = 'pod.json'

/** The pod's own directory. */
export function podDirectory(lab: LabLayout, uid: string): string {
  return join(lab.podsDir, uid)
}

/** The log of one run of a container. */
export function containerLog(
  lab: LabLayout,
  uid: string,
  container: string,
  restartCount: number,
): string {
  return join(podDirectory(lab, uid), 'logs', `${container}.${restartCount}.log`)
}

/** Of a container's runs, this one and those before it that somebody may still ask for. */
const RUNS_BACK = [0, 1, 2]

/** The logs that there are of a container's runs, the latest first: one in back-off has not begun its next. */
export function containerLogs(
  lab: LabLayout,
  uid: string,
  { name, restartCount }: Pick<ContainerRecord, 'name' | 'restartCount'>,
): readonly string[] {
  return RUNS_BACK.map((back) => restartCount - back)
    .filter((run) => run >= 0)
    .map((run) => containerLog(lab, uid, name, run))
    .filter((path) => existsSync(path))
}

/** Writes or replaces a pod's record. */
export function writePodRecord(lab: LabLayout, record: PodRecord): void {
  const path = join(podDirectory(lab, record.uid), RECORD_FILE)
  writeFileSync(`${path}.new`, JSON.stringify(record), { mode: SECRET_FILE_MODE })
  renameSync(`${path}.new`, path)
}

/** Records of all pods of a lab, in no order. A pod being made or removed at this moment may be missing. */
export function readPodRecords(lab: LabLayout): readonly PodRecord[] {
  let uids: string[]
  try {
    uids = readdirSync(lab.podsDir)
  } catch {
    return [] // no lab, no pods
  }
  return uids.flatMap((uid) => {
    const record = readPodRecord(lab, uid)
    return record === undefined ? [] : [record]
  })
}

/** The record of one pod, if it has one. */
export function readPodRecord(lab: LabLayout, uid: string): PodRecord | undefined {
  try {
    // Written by writePodRecord above, whole or not at all.
    return JSON.parse(readFileSync(join(podDirectory(lab, uid), RECORD_FILE), 'utf8')) as PodRecord
  } catch {
    return undefined // gone, or not yet there
  }
}
