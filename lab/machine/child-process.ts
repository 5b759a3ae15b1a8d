// SPDX-License-Identifier: Apache-2.0
// Starts the lab's own long-lived processes: in their cgroup and network namespace from the first instruction,
// detached, with a log file, and reporting by IPC when they are ready.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AmbitError, errorMessage } from '../../mesh/errors.ts'
import { enterCgroup } from './enter-cgroup.ts'
import { type LabLayout, netnsPath } from './layout.ts'
import { processRecord, type ProcessRecord } from './process-record.ts'

/** A machine under load may take this long to start a process; beyond it something hangs. */
const READY_TIMEOUT_MS = 30_000
/** How much of a failed process's log is worth quoting. */
const QUOTED_LOG_BYTES = 2000

/** The descriptor that a process finds its inherited listener at: after its streams and the IPC channel. */
export const INHERITED_FD = 4

/** One of the lab's own processes, and what it is for: `daemon`, `gateway`, `kubelet-node-a`. */
export type LabProcess = ProcessRecord & { readonly role: string }

export interface StartedProcess {
  readonly record: LabProcess
  /** Resolves when the process says that it is ready; rejects, quoting its log, when it ends before. */
  readonly ready: Promise<void>
}

/** Starts one of the lab's programs. `listenFd`, if given, is its fd 4. */
export function startLabProcess(options: {
  readonly lab: LabLayout
  readonly role: string
  readonly cgroup: string
  /** The network namespace to run in; the host's own when left out. */
  readonly netns?: string
  readonly program: string
  readonly argument: object
  readonly listenFd?: number
}): StartedProcess {
  const { lab, role, cgroup, netns, program } = options
  mkdirSync(cgroup, { recursive: true })
  const logFile = join(lab.logsDir, `${role}.log`)
  const log = openSync(logFile, 'a')
  const argv = [
    ...enterCgroup(cgroup),
    ...(netns === undefined ? [] : ['nsenter', `--net=${netnsPath(netns)}`]),
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    program,
    JSON.stringify(options.argument),
  ]
  const child = spawn(argv[0] ?? 'sh', argv.slice(1), {
    cwd: '/',
    detached: true,
    stdio: [
      'ignore',
      log,
      log,
      'ipc',
      ...(options.listenFd === undefined ? [] : [options.listenFd]),
    ],
  })
  closeSync(log)
  const pid = child.pid
  const found = pid === undefined ? undefined : processRecord(pid)
  if (found === undefined) {
    throw new AmbitError('AMB_LAB', `Cannot start the lab's ${role}: see ${logFile}`)
  }
  return { record: { ...found, role }, ready: untilReady(child, role, logFile) }
}

async function untilReady(child: ChildProcess, role: string, logFile: string): Promise<void> {
  const failed = (why: string): AmbitError =>
    new AmbitError('AMB_LAB', `Cannot start the lab's ${role}: ${why}${tailOf(logFile)}`)
  const signal = AbortSignal.timeout(READY_TIMEOUT_MS)
  const stop = new AbortController()
  const either = AbortSignal.any([signal, stop.signal])
  try {
    await Promise.race([
      once(child, 'message', { signal: either }),
      once(child, 'exit', { signal: either }).then(([code]) => {
        throw failed(`it ended with code ${String(code)}`)
      }),
    ])
  } catch (error) {
    if (signal.aborted) throw failed(`it was not ready within ${READY_TIMEOUT_MS / 1000} s`)
    throw error instanceof AmbitError ? error : failed(errorMessage(error))
  } finally {
    stop.abort()
    if (child.connected) child.disconnect()
    child.unref()
  }
}

function tailOf(logFile: string): string {
  const text = readFileSync(logFile, 'utf8').slice(-QUOTED_LOG_BYTES).trim()
  return text === '' ? ` (its log ${logFile} is empty)` : `; the end of ${logFile}:\n${text}`
}
