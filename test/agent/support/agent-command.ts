// SPDX-License-Identifier: Apache-2.0
// `ambit agent` as the node runs it: a process of its own, with flags, signals, a log and an exit code.

import { type ChildProcess, spawn } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { Place } from '../../capture/support/rpc.ts'
import { deadline } from '../../helpers.ts'
import { Waiter } from '../../support/waiter.ts'

const ROOT = path.join(import.meta.dirname, '../../..')

/** For a whole process to start: seconds of two cores' work, of which a loaded machine gives it a tenth. */
const DEADLINE_MS = deadline(120_000)

type LogLine = Readonly<Record<string, unknown>>

export class AgentCommand {
  /** The exit code; undefined for a process that a signal ended. */
  readonly exited: Promise<number | undefined>
  readonly #child: ChildProcess
  readonly #lines: LogLine[] = []
  readonly #waiter = new Waiter()
  /** It has ended, and all that it wrote is here. */
  #isOver = false

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
      this.#child.once('close', (code) => {
        this.#isOver = true
        resolve(code ?? undefined)
        this.#waiter.poke()
      })
    })
    if (this.#child.stdout !== null)
      createInterface({ input: this.#child.stdout }).on('line', (text) => {
        this.#lines.push(JSON.parse(text) as LogLine)
        this.#waiter.poke()
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
    const last = (): string => `"${message}"; last: ${JSON.stringify(this.#lines.slice(-5))}`
    const isSaid = (): boolean => this.#isOver || this.logged(message) !== undefined
    await this.#waiter.until(isSaid, last, DEADLINE_MS)
    const line = this.logged(message)
    if (line === undefined) throw new Error(`the agent has ended without ${last()}`)
    return line
  }

  signal(signal: NodeJS.Signals): void {
    if (this.isRunning) this.#child.kill(signal)
  }
}
