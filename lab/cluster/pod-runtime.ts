// SPDX-License-Identifier: Apache-2.0
// Serves the API server's exec and logs from the kubelets' records and log files: the daemon may enter any
// container of the lab itself.

import { spawn } from 'node:child_process'
import { createReadStream, readFileSync, watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { PassThrough, Readable } from 'node:stream'
import { err, ok, type Result } from '../../mesh/result.ts'
import type {
  ExecExit,
  ExecRequest,
  ExecSession,
  LogRequest,
  PodRuntime,
} from '../kubernetes/own/apiserver/pod-runtime.ts'
import { type ContainerCommand, containerCommand } from '../kubelet/container-exec.ts'
import {
  type ContainerRecord,
  containerLog,
  containerLogs,
  readPodRecord,
} from '../kubelet/pod-record.ts'
import { shellQuote } from '../kubelet/start-script.ts'
import type { LabLayout } from '../machine/layout.ts'

/** Between looks at a followed log of a container that may have ended. */
const FOLLOW_CHECK_MS = 500

/** The runtime of one lab. */
export function labPodRuntime(lab: LabLayout): PodRuntime {
  return {
    async exec(request: ExecRequest): Promise<Result<ExecSession, string>> {
      const container = findContainer(lab, request)
      if (!container.ok) return container
      const found = containerCommand(container.value, request.command)
      if (found === undefined) return err(`container "${request.container}" is not running`)
      return ok(startSession(found, request))
    },
    async logs(request: LogRequest): Promise<Result<Readable, string>> {
      const container = findContainer(lab, request)
      if (!container.ok) return container
      if (request.timestamps || request.sinceSeconds !== undefined) {
        return err('the lab keeps logs as the container wrote them, without times')
      }
      const path = logOf(lab, container.value, request)
      if (path === undefined) {
        return err(
          request.previous
            ? `previous terminated container "${request.container}" not found`
            : `container "${request.container}" is waiting to start`,
        )
      }
      return ok(await openLog(lab, path, request))
    },
  }
}

function findContainer(
  lab: LabLayout,
  request: { readonly podUid: string; readonly container: string; readonly podName: string },
): Result<ContainerRecord, string> {
  const record = readPodRecord(lab, request.podUid)
  if (record === undefined) return err(`pod "${request.podName}" has no running containers`)
  const container = record.containers.find((each) => each.name === request.container)
  if (container === undefined) return err(`container "${request.container}" not found`)
  return ok(container)
}

/** The log of the latest run that there is, or the one before. */
function logOf(
  lab: LabLayout,
  container: ContainerRecord,
  request: LogRequest,
): string | undefined {
  return containerLogs(lab, request.podUid, container)[request.previous ? 1 : 0]
}

function startSession(
  { argv, environment: env }: ContainerCommand,
  request: ExecRequest,
): ExecSession {
  // script(1) of util-linux makes the terminal; its size stays what it is by default.
  const words = request.tty
    ? [
        'script',
        '--quiet',
        '--return',
        '--flush',
        '--command',
        argv.map(shellQuote).join(' '),
        '/dev/null',
      ]
    : argv
  const child = spawn(words[0] ?? 'sh', words.slice(1), { env, stdio: ['pipe', 'pipe', 'pipe'] })
  const { promise: exit, resolve } = Promise.withResolvers<ExecExit>()
  child.on('error', (error) => resolve({ kind: 'failed', message: error.message }))
  child.on('close', (code, signal) => {
    if (signal !== null) resolve({ kind: 'signalled', signal })
    else resolve({ kind: 'exited', code: code ?? 0 })
  })
  child.stdin.on('error', () => {
    // The command ended without reading everything: its exit says the rest.
  })
  if (!request.stdin) child.stdin.end()
  return {
    stdin: request.stdin ? child.stdin : undefined,
    stdout: child.stdout,
    stderr: request.tty ? undefined : child.stderr,
    resize: () => undefined,
    kill: () => child.kill('SIGKILL'),
    exit,
  }
}

async function openLog(lab: LabLayout, path: string, request: LogRequest): Promise<Readable> {
  const start = request.tailLines === undefined ? 0 : tailOffset(path, request.tailLines)
  if (!request.follow) {
    const { size } = await stat(path)
    const end = Math.min(size, request.limitBytes === undefined ? size : start + request.limitBytes)
    return end <= start ? Readable.from([]) : createReadStream(path, { start, end: end - 1 })
  }
  return followLog(lab, path, start, request)
}

/** Where the last so many lines begin. */
function tailOffset(path: string, lines: number): number {
  const content = readFileSync(path)
  let at = content.length
  for (let left = lines; at > 0; left -= 1) {
    const before = content.lastIndexOf(0x0a, at - 2)
    if (left <= 0) break
    if (before < 0) return 0
    at = before + 1
    if (left === 1) break
  }
  return lines <= 0 ? content.length : at
}

/** Streams a log and what is added to it, until that run of the container is over. */
function followLog(lab: LabLayout, path: string, start: number, request: LogRequest): Readable {
  const output = new PassThrough()
  let offset = start
  let isBusy = false
  let wantsMore = false
  const isOver = (): boolean => {
    const container = readPodRecord(lab, request.podUid)?.containers.find(
      (each) => each.name === request.container,
    )
    return (
      container?.process === undefined ||
      containerLog(lab, request.podUid, request.container, container.restartCount) !== path
    )
  }
  const pump = async (): Promise<void> => {
    if (isBusy) {
      wantsMore = true
      return
    }
    isBusy = true
    do {
      wantsMore = false
      const size = await stat(path).then(
        (found) => found.size,
        () => offset,
      )
      if (size > offset) {
        for await (const chunk of createReadStream(path, { start: offset, end: size - 1 })) {
          output.write(chunk)
        }
        offset = size
      }
    } while (wantsMore && !output.destroyed)
    isBusy = false
  }
  const watcher = watch(path, () => void pump())
  const timer = setInterval(() => {
    const isLast = isOver()
    void pump().then(() => {
      if (isLast) output.end()
    })
  }, FOLLOW_CHECK_MS)
  output.on('close', () => {
    watcher.close()
    clearInterval(timer)
  })
  void pump()
  return output
}
