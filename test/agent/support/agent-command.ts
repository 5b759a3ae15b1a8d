// SPDX-License-Identifier: Apache-2.0
// `ambit agent` as the node runs it: a process of its own, with flags, signals, a log and an exit code.

import { type ChildProcess, spawn } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { Place } from '../../capture/support/rpc.ts'

/** Far beyond what a start or a stop takes on a loaded machine, and well inside the test's own deadline. */
const LOG_DEADLINE_MS = 20_000
const ROOT = path.join(import.meta.dirname, '../../..')

type LogLine = Readonly<Record<string, unknown>>

export class AgentCommand {
  /** The exit code; undefined for a process that a signal ended. */
  readonly exited: Promise<number | undefined>
  readonly #child: ChildProcess
  readonly #lines: LogLine[] = []
  readonly #waiting = new Set<() => void>()

  constructor(place: Place, flags: Readonly<Record<string, string | boolean>>) {
    const argv = Object.entries(flags).flatMap(([name, value]) =>
      value === true ? [`--${name}`] : value === false ? [] : [`--${name}`, value],
    )
    this.#child = spawn(
      'nsenter',
      [
        `--net=${place.netns}`,
        'sh',
        '-c',
        'echo $$ > "$0/cgroup.procs" && exec "$@"',
        place.cgroup,
        process.execPath,
        path.join(ROOT, 'cli/main.ts'),
        'agent',
        ...argv,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    this.exited = new Promise((resolve) => {
      // Not `exit`: the last lines may still be on their way then.
      this.#child.once('close', (code) => resolve(code ?? undefined))
    })
    if (this.#child.stdout !== null)
      createInterface({ input: this.#child.stdout }).on('line', (text) => {
        this.#lines.push(JSON.parse(text) as LogLine)
        for (const check of this.#waiting) check()
      })
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** The first line with this message so far. */
  logged(message: string): LogLine | undefined {
    return this.#lines.find((line) => line['msg'] === message)
  }

  /** Waits for a line with this message. */
  async says(message: string): Promise<LogLine> {
    const { promise, resolve, reject } = Promise.withResolvers<LogLine>()
    const check = (): void => {
      const line = this.logged(message)
      if (line !== undefined) resolve(line)
    }
    const fail = (why: string): void =>
      reject(new Error(`no "${message}": ${why}; last: ${JSON.stringify(this.#lines.slice(-5))}`))
    const timer = setTimeout(() => fail('waited in vain'), LOG_DEADLINE_MS)
    void this.exited.then(() => fail('the agent has ended'))
    this.#waiting.add(check)
    check()
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(check)
    }
  }

  signal(signal: NodeJS.Signals): void {
    if (this.isRunning) this.#child.kill(signal)
  }
}
