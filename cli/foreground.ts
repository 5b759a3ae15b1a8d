// SPDX-License-Identifier: Apache-2.0
// Runs a command in the terminal's foreground, as if it had been called directly: its streams, its signals, its
// exit code.

import { spawn } from 'node:child_process'

/** Runs it to its end and gives the exit code (128 and the signal's number when a signal ended it). */
export async function runForeground(
  argv: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
  options: {
    /** Pass SIGINT and SIGTERM on: for a command that must end well when only this process is signalled. */
    readonly forwardInterrupt?: boolean
  } = {},
): Promise<number> {
  const [program = 'sh', ...args] = argv
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const child = spawn(program, args, { stdio: 'inherit', env })
  const onSignal = (signal: NodeJS.Signals): void => {
    // A terminal sends Ctrl-C to both; the child decides what it means.
    if (options.forwardInterrupt === true || signal === 'SIGTERM') child.kill(signal)
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  child.on('error', reject)
  child.on('close', (code, signal) => {
    if (signal !== null) resolve(128 + (SIGNALS[signal] ?? 0))
    else resolve(code ?? 0)
  })
  return await promise.finally(() => {
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  })
}

const SIGNALS: Readonly<Partial<Record<NodeJS.Signals, number>>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
}
