// SPDX-License-Identifier: Apache-2.0
// Runs the host's own tools (ip, nft, nsenter, ...) and turns a failure into one sentence with the command
// and what it said. Nothing here knows what the commands are for.

import { spawn } from 'node:child_process'

/** No tool that the lab calls takes longer than this unless the machine is stuck. */
const DEFAULT_TIMEOUT_MS = 30_000

export interface CommandOptions {
  /** Written to the command's standard input. */
  readonly input?: string
  readonly timeoutMs?: number
  readonly env?: NodeJS.ProcessEnv
}

export interface CommandOutput {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command to its end, whatever its exit code; rejects only when it cannot be started or hangs. */
export async function tryCommand(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandOutput> {
  const [program = '', ...args] = argv
  const { promise, resolve, reject } = Promise.withResolvers<CommandOutput>()
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    // A group of its own: Ctrl-C in the terminal is for who runs the lab, and must not break what takes it down.
    detached: true,
    ...(options.env === undefined ? {} : { env: options.env }),
  })
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const timer = setTimeout(() => {
    child.kill('SIGKILL')
    reject(new Error(`Cannot run ${argv.join(' ')}: no end after ${timeoutMs} ms`))
  }, timeoutMs)
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  child.stdin.on('error', () => {
    // The command ended without reading its input; its exit code and stderr tell why.
  })
  child.on('error', (error) => {
    clearTimeout(timer)
    reject(new Error(`Cannot run ${program}: ${error.message}`, { cause: error }))
  })
  child.on('close', (code) => {
    clearTimeout(timer)
    resolve({ code, stdout, stderr })
  })
  child.stdin.end(options.input ?? '')
  return await promise
}

/** Runs a command that must succeed and gives its standard output. */
export async function command(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const output = await tryCommand(argv, options)
  if (output.code === 0) return output.stdout
  throw new Error(
    `Cannot run ${argv.join(' ')}: exit code ${String(output.code)}: ${output.stderr.trim()}`,
  )
}

/** Runs lines of `ip` in one process, in a network namespace if one is named; the failing line is quoted. */
export async function ipBatch(lines: readonly string[], netns?: string): Promise<void> {
  if (lines.length === 0) return
  const argv = ['ip', ...(netns === undefined ? [] : ['-n', netns]), '-batch', '-']
  const output = await tryCommand(argv, { input: `${lines.join('\n')}\n` })
  if (output.code === 0) return
  const failedAt = /Command failed -:(\d+)/.exec(output.stderr)?.[1]
  const line = failedAt === undefined ? undefined : lines[Number(failedAt) - 1]
  throw new Error(
    `Cannot run ip ${line ?? '-batch'}${netns === undefined ? '' : ` in ${netns}`}: ${output.stderr.trim()}`,
  )
}
